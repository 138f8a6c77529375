"""The geometry of a volume that the stage moved through a tilted light sheet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from xarray_tiffstack.look.image import image_of
from xarray_tiffstack.messages import one_of

if TYPE_CHECKING:
    import xarray as xr

Direction: TypeAlias = Literal[1, -1]


def affine(ds: xr.Dataset, direction: Direction = 1) -> np.ndarray:
    """Make the matrix that sets a skewed volume upright; see ``ds.tiffstack.affine``.

    The stage moves the sample by s along a line that is at an angle to the planes. From one plane
    to the next the sample thus moves by s sin(angle) away from the plane, which is the distance of
    the planes, and by s cos(angle) within it, along x. Upright, x is the way of the stage.

    Examples
    --------
    >>> import xarray as xr
    >>> image = ("z", "y", "x"), np.zeros((2, 2, 2)), {"stage_angle": 30.0}
    >>> affine(xr.Dataset({"image": image})).round(3)
    array([[ 0.   ,  0.   , -0.5  ,  0.   ],
           [ 0.   ,  1.   ,  0.   ,  0.   ],
           [ 2.   ,  0.   ,  0.866,  0.   ],
           [ 0.   ,  0.   ,  0.   ,  1.   ]])
    """
    one_of("direction", direction, (1, -1))
    angle = image_of(ds).attrs.get("stage_angle")
    if angle is None:
        raise ValueError(
            "nothing says that the stage moved through the light sheet: the image has no attribute "
            "stage_angle (degrees), which tiffstack reads in Settings.txt; set it with "
            'ds.image.attrs["stage_angle"] = ...'
        )
    sin, cos = math.sin(math.radians(float(angle))), math.cos(math.radians(float(angle)))
    return np.array(
        [
            [0, 0, -direction * sin, 0],
            [0, 1, 0, 0],
            [direction / sin, 0, cos, 0],
            [0, 0, 0, 1],
        ]
    )
