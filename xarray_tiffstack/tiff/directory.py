"""One directory of a TIFF: its tags, their values, and where it says that pixels are.

Of classic TIFF and BigTIFF in either byte order (TIFF 6.0; the BigTIFF design of 2007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from xarray_tiffstack.tiff.file import Tiff

Tags: TypeAlias = dict[int, tuple[int, int, bytes]]
"""Type, count, and value or its offset, of each tag."""

# In place of the offset of a page's pixels: to be looked up in its directory, to be decoded.
ASK, ENCODED = -1, -2

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}  # of BigTIFF
UNSIGNED = {3: "u2", 4: "u4", 16: "u8"}
OFFSETS, COUNTS, TILE_OFFSETS, TILE_COUNTS = 273, 279, 324, 325
PLACES = {OFFSETS, COUNTS, TILE_OFFSETS, TILE_COUNTS}
LOOK = 512  # bytes that are read of a directory whose length is not known
_MOST_ENTRIES = 4096  # of a directory; what has more is none


def directory(file: Tiff, offset: int) -> bytes:
    """Bytes of a directory with its link; none outside of the file."""
    _, _, length, entry, link = file.format
    block = file.at(offset, LOOK)
    if len(block) < length.size:
        return b""
    (n,) = length.unpack_from(block)
    if not 0 < n <= _MOST_ENTRIES:
        return b""
    size = length.size + n * entry.size + link.size
    if len(block) < size:
        block = file.at(offset, size)
    return block[:size] if len(block) >= size else b""


def tags_of(file: Tiff, block: bytes) -> Tags:
    """Take a directory apart; of a tag that is given twice, the first counts."""
    _, _, length, entry, link = file.format
    entries = list(entry.iter_unpack(block[length.size : -link.size]))
    entries.reverse()
    return {code: (kind, count, value) for code, kind, count, value in entries}


def value_of(file: Tiff, tag: tuple[int, int, bytes]) -> bytes | None:
    """Bytes of a tag, and what pads them; None where they are not in the file, or of no type."""
    kind, count, value = tag
    size = count * SIZES.get(kind, 0)
    if size <= len(value):
        return value if size else None
    (where,) = file.format.link.unpack(value)
    return file.at(where, size) if where + size <= file.size else None


def segments(file: Tiff, ifd: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Offsets and sizes of the strips or tiles of a page; None where tifffile has to judge."""
    if not (block := directory(file, ifd)):
        raise file.cut_short(ifd)
    tags = tags_of(file, block)
    found = []
    for tiles, strips in ((TILE_OFFSETS, OFFSETS), (TILE_COUNTS, COUNTS)):
        code = tiles if tiles in tags else strips
        if code not in tags or tags[code][0] not in UNSIGNED:
            return None
        if (value := value_of(file, tags[code])) is None:
            raise file.cut_short(file.size + 1)
        dtype = file.format.order + UNSIGNED[tags[code][0]]
        numbers = np.frombuffer(value, dtype, tags[code][1])
        found.append(signed(numbers))
    return found[0], found[1]


def start_of(file: Tiff, ifd: int, nbytes: int) -> int:
    """Offset of the pixels of a page if its strips follow each other, else ENCODED."""
    found = segments(file, ifd)
    if found is None or not found[0].size == found[1].size > 0 or found[1].sum() != nbytes:
        return ENCODED
    offsets, counts = found
    return int(offsets[0]) if (np.diff(offsets) == counts[:-1]).all() else ENCODED


def signed(numbers: np.ndarray) -> np.ndarray:
    """Make signed numbers of offsets; what is beyond any file stays so."""
    return np.minimum(numbers.astype(np.uint64), 2**60).astype(np.int64)
