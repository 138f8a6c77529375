"""Files of one page that differ in pixels alone: what is known of one is true of all of them.

A screen has 100,000 of them. So one is compared with the last of its size by its bytes, and not
understood anew: the header, its directory, and whatever that says elsewhere, but resolution and
date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xarray_tiffstack.tiff.chain import RESOLUTION_OR_DATE, Chain
from xarray_tiffstack.tiff.directory import SIZES

if TYPE_CHECKING:
    from xarray_tiffstack.tiff.file import Tiff
    from xarray_tiffstack.tiff.pages import Table

_MOST = 1 << 14  # bytes outside of a directory that are compared
_SIZES = 64  # lengths of files that are remembered


class _Single(NamedTuple):
    """One file of one page."""

    block: bytes
    """Its directory."""
    values: tuple[tuple[int, bytes], ...]
    """What that says elsewhere in the file, and where."""
    table: Table


_last: dict[tuple[bytes, int], _Single] = {}


def find(file: Tiff) -> Table | None:
    """Page table of a file that is like the last of its size, or None."""
    known = _last.get((file.head, file.size))
    if known is None:
        return None
    (at,) = file.format.link.unpack_from(file.head, file.format.start)
    if file.at(at, len(known.block)) != known.block:
        return None
    for where, value in known.values:
        if file.at(where, len(value)) != value:
            return None
    return known.table


def keep(file: Tiff, chain: Chain, table: Table) -> None:
    """Remember a file of one page."""
    if len(chain) != 1 or chain.broken or chain.circle:
        return
    values = []
    left = _MOST
    for code, (kind, count, value) in chain.first.items():
        size = count * SIZES.get(kind, 0)
        if size > len(value) and code not in RESOLUTION_OR_DATE:
            (where,) = file.format.link.unpack(value)
            left -= size
            if left < 0 or where + size > file.size:
                return
            values.append((where, file.at(where, size)))
    if len(_last) >= _SIZES:
        _last.clear()
    _last[file.head, file.size] = _Single(chain.blocks[0], tuple(values), table)
