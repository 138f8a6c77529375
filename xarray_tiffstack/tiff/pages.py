"""The page table of a TIFF: for each page of its array, where its directory and its pixels are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from xarray_tiffstack.tiff import singles
from xarray_tiffstack.tiff.chain import Chain
from xarray_tiffstack.tiff.directory import ASK, ENCODED, LOOK, segments, start_of
from xarray_tiffstack.tiff.file import File
from xarray_tiffstack.tiff.meaning import ABSENT, Meaning, understand

if TYPE_CHECKING:
    from collections.abc import Hashable

    from xarray_tiffstack.tiff.file import Tiff

MISSING = -3  # in place of the offset of a page's pixels: it is not in the file

_TABLES = 64  # files whose tables are kept, so that plane after plane does not walk again
_TABLES_AT_URLS = 4096
_MEANINGS = 256  # kinds of files of which is known what tifffile says
_KNOWN: dict[Hashable, Meaning] = {}


@dataclass(frozen=True)
class Table:
    """Where the pages of one file are, in the order of its array."""

    meaning: Meaning
    ifds: np.ndarray
    """Offset of the directory of each page; empty where pages cannot be decoded one by one."""
    data: np.ndarray
    """Offset of the pixels of each page; ASK, ENCODED or MISSING where there is none."""
    tightest: np.ndarray
    """How many bytes of pixels of each page one stored byte may hold."""
    alike: bool = False
    """Whether all pages are stored as the first of the file is."""
    broken: int = 0
    """After how many pages the chain of directories leads out of the file; 0 if it does not."""

    @property
    def page_nbytes(self) -> int:
        """Size of one decoded page in bytes."""
        return math.prod(self.meaning.shape) * self.meaning.dtype.itemsize // len(self.data)

    def resolve(self, file: Tiff, numbers: np.ndarray) -> np.ndarray:
        """Offsets of the pixels of some pages; strips are looked up when first asked for."""
        unknown = numbers[self.data[numbers] == ASK]
        if unknown.size > 1:
            file.prefetch((int(ifd), LOOK) for ifd in self.ifds[unknown])
        for k in np.unique(unknown).tolist() if unknown.size else ():
            self.data[k] = start_of(file, int(self.ifds[k]), self.page_nbytes)
        offsets: np.ndarray = self.data[numbers]
        return offsets

    def check(self, file: Tiff) -> None:
        """Raise unless all pixels that the pages announce can be in the file."""
        offsets = self.resolve(file, np.arange(len(self.data)))
        stored = offsets[offsets >= 0]
        if stored.size:
            file.check(int(stored.min()), 0)
            file.check(int(stored.max()), self.page_nbytes)
        for k in np.flatnonzero(offsets == ENCODED).tolist() if self.ifds.size else ():
            found = segments(file, int(self.ifds[k]))
            size = check_segments(file, *found) if found else file.size
            if self.page_nbytes > size * int(self.tightest[k]):
                raise too_large(file, self.page_nbytes, size)


def too_large(file: Tiff, nbytes: int, stored: int) -> ValueError:
    """Return the error for a page that its stored bytes cannot hold."""
    return ValueError(
        f"{file.path} is damaged: a page of {nbytes} bytes is said to be stored in {stored} bytes"
    )


def check_segments(
    file: Tiff, offsets: np.ndarray, counts: np.ndarray, *, sparse: bool = True
) -> int:
    """Raise where strips or tiles are not in the file; return how many bytes they take of it.

    Where the page is `sparse`, that is tiled, those without offset and size are not stored.
    """
    if not offsets.size == counts.size > 0:
        raise OSError(f"{file.path} is damaged: a page does not say where its pixels are")
    stored = (offsets != 0) | (counts != 0) if sparse else np.ones(offsets.size, bool)
    if not stored.any():
        return file.size
    file.check(int(offsets[stored].min()), 0)
    if not counts[stored].all():
        raise OSError(f"{file.path} is damaged: a strip or tile of a page has 0 bytes")
    file.check(int((offsets + counts).max()), 0)
    return int(counts.sum()) if stored.all() else file.size


@lru_cache(maxsize=_TABLES)
def page_table(file: Tiff) -> Table:
    """Page table of a file; tifffile is asked once for all files that are just alike."""
    if (known := singles.find(file)) is not None:
        return known
    chain = Chain(file)
    likeness = chain.likeness()
    meaning = _KNOWN.get(likeness)
    if meaning is None:
        meaning = understand(file, chain)
        if likeness is not None and meaning.lasting:
            if len(_KNOWN) >= _MEANINGS:
                _KNOWN.clear()
            _KNOWN[likeness] = meaning
    broken = len(chain) if chain.broken else 0
    if meaning.entire:
        none = np.empty(0, np.int64)
        return Table(meaning, none, np.array([ENCODED]), np.array([1]), broken=broken)
    if meaning.run:
        count = math.prod(meaning.shape) // meaning.page_size
        nbytes = meaning.page_size * meaning.dtype.itemsize
        data = meaning.run + nbytes * np.arange(count)
        return Table(meaning, data, data, np.ones_like(data))
    table = _table(chain, meaning, broken)
    if likeness is not None and meaning.lasting:
        singles.keep(file, chain, table)
    return table


# To make one again is some requests.
_table_at_url = lru_cache(maxsize=_TABLES_AT_URLS)(page_table.__wrapped__)


def table_of(file: Tiff) -> Table:
    """Page table of a file, as it is known already where that is so."""
    return page_table(file) if isinstance(file, File) else _table_at_url(file)


def _table(chain: Chain, meaning: Meaning, broken: int) -> Table:
    """Page table of pages that have directories."""
    order = meaning.order
    kinds, data = chain.which[order], chain.starts[order]
    tightest = meaning.tightest[kinds]
    data[tightest != 1] = ENCODED
    data[order == ABSENT] = MISSING
    alike = len(chain.kinds) == 1 or bool((kinds == chain.which[0]).all())
    return Table(meaning, chain.ifds[order], data, tightest, alike, broken)
