"""Compares pixels that were saved with files that are read a second way, for verification."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from xarray_tiffstack import tiff
from xarray_tiffstack.array.reads import source_of
from xarray_tiffstack.messages import unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import xarray as xr

    from xarray_tiffstack.tiff import Layout

PAGES = 2  # of each file that is looked at


def second_reading(
    ds: xr.Dataset,
) -> Callable[[Sequence[str], xr.DataArray], str | None] | None:
    """Make a function that reads files a second way and says what differs from saved pixels.

    It is given the paths of a slot and its saved pixels. None where the pixels are not those of
    complete files: of a selection within files, of mosaics, and of what was computed.
    """
    image = ds.variables.get("image")
    files = None if image is None else source_of(image._data)
    if files is None or not files.of_complete_files or files.grid.planes is not None:
        return None
    layout, paths_read = files.grid.layout, set(files.grid.paths.ravel())
    seed = random.randrange(2**32)

    def differs(paths: Sequence[str], saved: xr.DataArray) -> str | None:
        if len(paths) != 1 or paths[0] not in paths_read:  # of a mosaic, or an empty file
            return None
        return _compared(paths[0], layout, saved, seed)

    return differs


def _compared(path: str, layout: Layout, saved: xr.DataArray, seed: int) -> str | None:
    """Compare some pages of a file, and say what differs."""
    if saved.shape != layout.shape:
        return f"{saved.shape} is saved, {layout.shape} was opened"
    try:
        for index, pixels in tiff.recheck(path, layout, PAGES, seed):
            if reason := _differs(saved[index], pixels):
                return f"page {index} {reason}"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _differs(saved: xr.DataArray, pixels: np.ndarray) -> str | None:
    """Say how a page is saved otherwise than it was read."""
    try:
        found = saved.values
    except Exception as error:  # a damaged chunk can raise anything
        return f"in the store {unreadable(error)}"
    same = np.array_equal(found, pixels, equal_nan=pixels.dtype.kind in "fc")
    return None if same else "is saved otherwise than tifffile reads it"
