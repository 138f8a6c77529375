"""Where the wells of a plate lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xarray_tiffstack.ome_zarr import images

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PLATES = ((2, 3), (4, 6), (8, 12), (16, 24), (32, 48))  # rows and columns: 6 to 1536 wells


def places(wells: Iterable[object]) -> list[tuple[int, int]] | None:
    """Row and column of each well, counted from 0; None where these are no names of wells.

    Examples
    --------
    >>> places(["B03", "AA-1"]), places(["control"])
    ([(1, 2), (26, 0)], None)
    """
    try:
        names = [images.row_and_column(str(well)) for well in wells]
    except ValueError:
        return None
    return [(_number(row) - 1, int(column) - 1) for row, column in names]


def _number(letters: str) -> int:
    """Read A as 1, Z as 26, AA as 27."""
    number = 0
    for letter in letters.upper():
        number = 26 * number + ord(letter) - ord("A") + 1
    return number


def letters(row: int) -> str:
    """Name a row that is counted from 0: A, B, ..., Z, AA."""
    return chr(ord("A") + row) if row < 26 else letters(row // 26 - 1) + letters(row % 26)


def shape(wells: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Rows and columns of the smallest usual plate that has all these wells."""
    height, width = (1 + max(well[i] for well in wells) for i in (0, 1))
    fits = (size for size in PLATES if size[0] >= height and size[1] >= width)
    return next(fits, (height, width))
