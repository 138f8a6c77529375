"""Where the wells of a plate lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from xarray_tiffstack.look.image import plain
from xarray_tiffstack.ome_zarr import images
from xarray_tiffstack.wells import number, row_and_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import xarray as xr

Place: TypeAlias = tuple[int, int]  # row and column, counted from 0
Wells: TypeAlias = dict[Place, dict[str, int]]

PLATES = ((2, 3), (4, 6), (8, 12), (16, 24), (32, 48))  # rows and columns: 6 to 1536 wells


def wells_of(ds: xr.Dataset) -> Wells:
    """Find where wells lie, and their positions along the dimensions: of wells, or row and col.

    Empty where the Dataset is of no plate: the rows and columns of a mosaic are numbers too.
    """
    sizes = plain(ds).sizes
    if "well" in sizes and "well" in ds.coords:
        found = places(ds["well"].values) or []
        return {place: {"well": i} for i, place in enumerate(found)}
    if not {"row", "col", "y", "x"} <= set(sizes) or not images.collect(plain(ds)).plate:
        return {}
    rows, columns = (ds[name].values.tolist() for name in ("row", "col"))
    numbers = [number(row) if str(row).isalpha() else int(row) - 1 for row in rows]
    return {
        (numbers[i], int(columns[j]) - 1): {"row": i, "col": j}
        for i, j in np.ndindex(len(rows), len(columns))
    }


def places(wells: Iterable[object]) -> list[Place] | None:
    """Row and column of each well, counted from 0; None where these are no names of wells.

    Examples
    --------
    >>> places(["B03", "AA-1"]), places(["control"])
    ([(1, 2), (26, 0)], None)
    """
    try:
        names = [row_and_column(str(well)) for well in wells]
    except ValueError:
        return None
    return [(number(row), int(column) - 1) for row, column in names]


def shape(wells: Sequence[Place]) -> tuple[int, int]:
    """Rows and columns of the smallest usual plate that has all these wells."""
    height, width = (1 + max(well[i] for well in wells) for i in (0, 1))
    fits = (size for size in PLATES if size[0] >= height and size[1] >= width)
    return next(fits, (height, width))
