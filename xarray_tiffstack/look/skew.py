"""Which matrix sets a Dataset upright, whether its files or a store of them are open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xarray_tiffstack.look.image import image_of
from xarray_tiffstack.messages import one_of
from xarray_tiffstack.ome_zarr.skew import ANGLE, Direction, matrix

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr


def affine(ds: xr.Dataset, direction: Direction = 1) -> np.ndarray:
    """Make the matrix that sets a skewed volume upright; see ``ds.tiffstack.affine``."""
    one_of("direction", direction, (1, -1))
    angle = image_of(ds).attrs.get(ANGLE)
    if angle is None:
        raise ValueError(
            "nothing says that the stage moved through the light sheet: the image has no attribute "
            "stage_angle (degrees), which tiffstack reads in Settings.txt; set it with "
            'ds.image.attrs["stage_angle"] = ...'
        )
    return matrix(float(angle), direction)
