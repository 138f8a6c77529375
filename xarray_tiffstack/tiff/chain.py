"""The chain of directories of a TIFF: how many pages there are, and where each keeps its pixels.

What the pages mean is for tifffile to say; here they are compared, as bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.tiff.directory import (
    ASK,
    OFFSETS,
    PLACES,
    SIZES,
    TILE_OFFSETS,
    UNSIGNED,
    Tags,
    signed,
    tags_of,
    value_of,
)
from xarray_tiffstack.tiff.walk import walk

if TYPE_CHECKING:
    from collections.abc import Hashable

    from xarray_tiffstack.tiff.file import Tiff

_MOST_TEXT = 1 << 16  # characters or numbers of the first directory that are compared

_BITS, _FORMAT = 258, 339
RESOLUTION_OR_DATE = {282, 283, 306}
# What says how pixels are stored: kind of page, width, length, bits, compression, colours, order
# of bits, samples, rows, planes, predictor, tiles, sample format, subsampling, depth.
_STORAGE = {254, 256, 257, _BITS, 259, 262, 266, 277, 278, 284, 317, 322, 323, _FORMAT, 530}
_STORAGE |= {32997, 32998}


class Chain:
    """The directories of one file, in their order."""

    def __init__(self, file: Tiff) -> None:
        self.file = file
        blocks, self.broken, self.circle = walk(file)
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
                kind, count, value = tags.get(OFFSETS, (0, 0, b""))
                size = SIZES[kind] if kind in UNSIGNED and TILE_OFFSETS not in tags else 0
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
            if code in PLACES:
                free[value : at + entry.size] = True
            elif code not in _STORAGE:
                free[at + 2 : at + entry.size] = True
            if code == OFFSETS and count == 1 and 0 < SIZES.get(kind, 0) <= link.size:
                strip = strip or (value, UNSIGNED.get(kind, ""))
            if code == TILE_OFFSETS:
                strip = (0, "")
        differs = rows != rows[numbers.searchsorted(1)]
        differs[:, free] = False
        same = ~differs.any(axis=1)
        alike[numbers[same]] = True
        if strip is not None and strip[1]:
            at, kind_ = strip
            cut = np.ascontiguousarray(rows[same, at : at + int(kind_[1])])
            self.starts[alike] = signed(cut.view(order + kind_).ravel())
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
            if code not in RESOLUTION_OR_DATE:
                said.append(count)
            if code in PLACES:
                continue
            if 0 < count * SIZES.get(kind, 0) <= len(value):
                said.append(value)
            elif code not in RESOLUTION_OR_DATE:
                left -= count
                content = value_of(self.file, tag) if left > 0 else None
                if content is None:
                    return None
                said.append(content)
        return tuple(said)
