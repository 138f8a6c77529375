"""The chain of directories of a TIFF: how many pages there are, and where each keeps its pixels.

Walks classic TIFF and BigTIFF in either byte order (TIFF 6.0; the BigTIFF design of 2007). What
the pages mean is for tifffile to say; here they are compared, as bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xarray_tiffstack.tiff.file import File

if TYPE_CHECKING:
    from collections.abc import Hashable

Tags: TypeAlias = dict[int, tuple[int, int, bytes]]
"""Type, count, and value or its offset, of each tag."""

# In place of the offset of a page's pixels: to be looked up in its directory, to be decoded.
ASK, ENCODED = -1, -2

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}  # of BigTIFF
_UNSIGNED = {3: "u2", 4: "u4", 16: "u8"}
_MOST_ENTRIES = 4096  # of a directory; what has more is none
_MOST_TEXT = 1 << 16  # characters or numbers of the first directory that are compared

_BITS, _DESCRIPTION, _FORMAT = 258, 270, 339
_OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS = 273, 279, 324, 325
_PLACES = {_OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS}
_RESOLUTION_OR_DATE = {282, 283, 306}
# What says how pixels are stored: kind of page, width, length, bits, compression, colours, order
# of bits, samples, rows, planes, predictor, tiles, sample format, subsampling, depth.
_STORAGE = {254, 256, 257, _BITS, 259, 262, 266, 277, 278, 284, 317, 322, 323, _FORMAT, 530}
_STORAGE |= {32997, 32998}


def directory(file: File, offset: int) -> bytes:
    """Bytes of a directory with its link; none outside of the file."""
    _, _, length, entry, link = file.format
    block = file.at(offset, 512)
    if len(block) < length.size:
        return b""
    (n,) = length.unpack_from(block)
    if not 0 < n <= _MOST_ENTRIES:
        return b""
    size = length.size + n * entry.size + link.size
    if len(block) < size:
        block = file.at(offset, size)
    return block[:size] if len(block) >= size else b""


def tags_of(file: File, block: bytes) -> Tags:
    """Take a directory apart; of a tag that is given twice, the first counts."""
    _, _, length, entry, link = file.format
    entries = list(entry.iter_unpack(block[length.size : -link.size]))
    entries.reverse()
    return {code: (kind, count, value) for code, kind, count, value in entries}


def value_of(file: File, tag: tuple[int, int, bytes]) -> bytes | None:
    """Bytes of a tag, and what pads them; None where they are not in the file, or of no type."""
    kind, count, value = tag
    size = count * _SIZES.get(kind, 0)
    if size <= len(value):
        return value if size else None
    (where,) = file.format.link.unpack(value)
    return file.at(where, size) if where + size <= file.size else None


def segments(file: File, ifd: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Offsets and sizes of the strips or tiles of a page; None where tifffile has to judge."""
    if not (block := directory(file, ifd)):
        raise file.cut_short(ifd)
    tags = tags_of(file, block)
    found = []
    for tiles, strips in ((_TILE_OFFSETS, _OFFSETS), (_TILE_COUNTS, _COUNTS)):
        code = tiles if tiles in tags else strips
        if code not in tags or tags[code][0] not in _UNSIGNED:
            return None
        if (value := value_of(file, tags[code])) is None:
            raise file.cut_short(file.size + 1)
        dtype = file.format.order + _UNSIGNED[tags[code][0]]
        numbers = np.frombuffer(value, dtype, tags[code][1])
        found.append(_offsets(numbers))
    return found[0], found[1]


def start_of(file: File, ifd: int, nbytes: int) -> int:
    """Offset of the pixels of a page if its strips follow each other, else ENCODED."""
    found = segments(file, ifd)
    if found is None or not found[0].size == found[1].size > 0 or found[1].sum() != nbytes:
        return ENCODED
    offsets, counts = found
    return int(offsets[0]) if (np.diff(offsets) == counts[:-1]).all() else ENCODED


def _offsets(numbers: np.ndarray) -> np.ndarray:
    """Make signed numbers of offsets; what is beyond any file stays so."""
    return np.minimum(numbers.astype(np.uint64), 2**60).astype(np.int64)


class Chain:
    """The directories of one file, in their order."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.broken = False
        """Whether the chain leads out of the file."""
        self.circle = False
        """Whether the last page leads back to one before."""
        blocks = self._walk()
        self.ifds = np.fromiter(blocks, np.int64, len(blocks))
        """Offset of each directory."""
        self.blocks = list(blocks.values())
        self.first: Tags = {}
        """Tags of the first page."""
        self.kinds: list[Hashable] = []
        """What the directories say of how pixels are stored, each different saying once."""
        self.which = np.zeros(len(blocks), np.int64)
        """Which of them each page says."""
        self.starts = np.full(len(blocks), ASK)
        """Offset of the pixels of each page that keeps them in one strip."""
        self.plain = False
        """Whether all pages but the first have directories that differ only in places."""
        self._compare()

    def __len__(self) -> int:
        """Count the pages."""
        return len(self.blocks)

    def _walk(self) -> dict[int, bytes]:
        """Read each directory, with the link to the next, in one piece."""
        file, blocks, size, count = self.file, {}, 0, b""
        link, wide, read = file.format.link, file.format.length.size, super(File, file).read
        (at,) = link.unpack_from(file.head, file.format.start)
        while at:
            if at in blocks:
                self.circle = True
                break
            block = b""
            if at < file.size:
                file.seek(at)
                block = read(size)
            # Unless it is as long as the one before:
            if not block or len(block) < size or block[:wide] != count:
                if not (block := directory(file, at)):
                    self.broken = True
                    break
                size, count = len(block), block[:wide]
            blocks[at] = block
            (at,) = link.unpack_from(block, size - link.size)
        return blocks

    def _compare(self) -> None:
        """Say of each page how it is stored, and where it is in one strip."""
        known: dict[Hashable, int] = {}
        alike = self._like_the_second()
        self.plain = bool(alike[1:].all())
        second = -1
        for k in [*np.flatnonzero(~alike).tolist(), *([1] if len(self) > 1 else [])]:
            tags = tags_of(self.file, self.blocks[k])
            self.first = tags if k == 0 else self.first
            stored = tuple(
                (code, tag if tag[1] == 1 else (*tag[:2], value_of(self.file, tag)))
                for code, tag in tags.items()
                if code in _STORAGE
            )
            second = self.which[k] = known.setdefault(stored, len(known))
            if not alike[k]:
                kind, count, value = tags.get(_OFFSETS, (0, 0, b""))
                size = _SIZES[kind] if kind in _UNSIGNED and _TILE_OFFSETS not in tags else 0
                if count == 1 and 0 < size <= len(value):
                    number = value[:size]
                    self.starts[k] = min(int.from_bytes(number, self.file.format.endian), 2**60)
        if alike.any() and alike[0]:
            self.first = tags_of(self.file, self.blocks[0])
        self.which[alike] = second
        self.kinds = list(known)

    def _like_the_second(self) -> np.ndarray:
        """Find the pages whose directories are, but for places and texts, that of the second.

        All directories of that size are compared at once, and offsets taken from them.
        """
        alike = np.zeros(len(self), bool)
        if len(self) < 2:
            return alike
        order, _, length, entry, link = self.file.format
        mold = self.blocks[1]
        size, wide = len(mold), entry.size - 4 - link.size  # of a count: as of an offset, or 8
        numbers = np.flatnonzero([len(block) == size for block in self.blocks])
        bytes_ = b"".join(block for block in self.blocks if len(block) == size)
        rows = np.frombuffer(bytes_, np.uint8).reshape(-1, size)
        free = np.zeros(size, bool)
        free[-link.size :] = True
        strip = None
        for k, (code, kind, count, _) in enumerate(
            entry.iter_unpack(mold[length.size : -link.size])
        ):
            at = length.size + k * entry.size
            value = at + 4 + wide
            if code in _PLACES:
                free[value : at + entry.size] = True
            elif code not in _STORAGE:
                free[at + 2 : at + entry.size] = True
            if code == _OFFSETS and count == 1 and 0 < _SIZES.get(kind, 0) <= link.size:
                strip = strip or (value, _UNSIGNED.get(kind, ""))
            if code == _TILE_OFFSETS:
                strip = (0, "")
        differs = rows != rows[numbers.searchsorted(1)]
        differs[:, free] = False
        same = ~differs.any(axis=1)
        alike[numbers[same]] = True
        if strip is not None and strip[1]:
            at, kind_ = strip
            cut = np.ascontiguousarray(rows[same, at : at + int(kind_[1])])
            self.starts[alike] = _offsets(cut.view(order + kind_).ravel())
        return alike

    def likeness(self) -> Hashable | None:
        """Return what files have in common that mean the same, or None of a file like no other.

        That is all of the first directory, its texts too, but for places and dates; how the
        second page is stored, which all others are like; and how many there are.
        """
        if self.broken or self.circle or not self.plain or not len(self):
            return None
        said: list[Any] = [self.file.head[:4], len(self), self.kinds[self.which[-1]]]
        if len(self) > 1:
            said += tags_of(self.file, self.blocks[1])
        left = _MOST_TEXT
        for code, tag in self.first.items():
            kind, count, value = tag
            said += (code, kind)
            if code not in _RESOLUTION_OR_DATE:
                said.append(count)
            if code in _PLACES:
                continue
            if 0 < count * _SIZES.get(kind, 0) <= len(value):
                said.append(value)
            elif code not in _RESOLUTION_OR_DATE:
                left -= count
                content = value_of(self.file, tag) if left > 0 else None
                if content is None:
                    return None
                said.append(content)
        return tuple(said)
