"""Positions of pixels along an axis, from their distance."""

from __future__ import annotations

import numpy as np


def evenly_spaced(count: int, step: float) -> np.ndarray:
    """Positions of pixels, each the number that a person would write.

    Examples
    --------
    >>> evenly_spaced(4, 0.4).tolist()
    [0.0, 0.4, 0.8, 1.2]
    """
    return np.array([float(f"{i * step:.12g}") for i in range(count)])
