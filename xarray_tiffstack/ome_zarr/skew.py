"""The geometry of a volume that the stage moved through a tilted light sheet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

Direction: TypeAlias = Literal[1, -1]

ANGLE = "stage_angle"  # attribute of the image, in degrees


def matrix(angle: float, direction: Direction = 1) -> np.ndarray:
    """Make the matrix that sets a skewed volume upright, for (z, y, x, 1) in micrometers.

    The stage moves the sample by s along a line that is at an angle to the planes. From one plane
    to the next the sample thus moves by s sin(angle) away from the plane, which is the distance of
    the planes, and by s cos(angle) within it, along x. Upright, x is the way of the stage.

    Examples
    --------
    >>> matrix(30.0).round(3)
    array([[ 0.   ,  0.   , -0.5  ,  0.   ],
           [ 0.   ,  1.   ,  0.   ,  0.   ],
           [ 2.   ,  0.   ,  0.866,  0.   ],
           [ 0.   ,  0.   ,  0.   ,  1.   ]])
    """
    sin, cos = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return np.array(
        [
            [0, 0, -direction * sin, 0],
            [0, 1, 0, 0],
            [direction / sin, 0, cos, 0],
            [0, 0, 0, 1],
        ]
    )


def described(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of the group of an image: the matrix for other programs, where it is skewed.

    It is for a stage that moved in direction 1. No file says it; of -1 two entries change sign.
    """
    if attrs.get(ANGLE) is None:
        return {}
    affine = matrix(float(attrs[ANGLE])).round(12).tolist()
    about = {"axes": ["z", "y", "x"], "unit": "micrometer", "direction": 1, "affine": affine}
    return {"upright": about}
