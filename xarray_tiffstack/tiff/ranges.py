"""Where the pixels of a TIFF are, and how they are stored, for those who read them on their own.

What is said here is enough to read a page without anything that knows TIFF: which bytes make which
part of it, in which order of bytes, and by which codec they were compressed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from xarray_tiffstack.tiff.directory import ENCODED, segments
from xarray_tiffstack.tiff.judge import asking, page_at
from xarray_tiffstack.tiff.meaning import Meaning, page_ndim
from xarray_tiffstack.tiff.pages import MISSING, Table, check_segments
from xarray_tiffstack.tiff.reading import fitting_table
from xarray_tiffstack.tiff.remote import with_file

if TYPE_CHECKING:
    import os

    import tifffile

    from xarray_tiffstack.tiff.file import Tiff
    from xarray_tiffstack.tiff.reading import Layout

# The compressions that codecs outside of TIFF know, and their names.
_COMPRESSIONS = {1: "none", 8: "zlib", 32946: "zlib", 34926: "zstd", 50000: "zstd", 5: "lzw"}
_KINDS = 256  # of files of which is known how they are stored
_known: dict[int, tuple[Meaning, Storage | str]] = {}
_plain: dict[int, tuple[Table, Layout, list[Ranges]]] = {}  # of files that share a table


@dataclass(frozen=True)
class Storage:
    """How a page is stored: what has to be known to decode its ranges."""

    chunk: tuple[int, ...]
    """Extent of a range along each axis of the file, in pixels; 1 along the axes of its pages."""
    order: str
    """Order of the bytes of a pixel: ``"<"``, ``">"``, or ``"|"`` where it is one byte."""
    compression: str = "none"
    """``"none"``, ``"zlib"``, ``"zstd"`` or ``"lzw"``."""
    predictor: int = 1
    """1, or 2 where each pixel is stored as the difference from its left neighbour."""
    padded: bool = False
    """Whether ranges at the edges of a page are stored as large as the others, as tiles are."""


@dataclass(frozen=True, eq=False)
class Ranges:
    """Where those pages of a file are that are stored alike."""

    storage: Storage | str
    """How; a text says why they cannot be read without knowing TIFF."""
    pages: np.ndarray
    """Their numbers, in the order of the array."""
    offsets: np.ndarray
    """Page by page, the offset of each of its ranges, in the order of the array; ENCODED where that
    part has to be decoded, and MISSING where it is 0 and not stored."""
    counts: np.ndarray
    """Bytes of each range."""
    total: int
    """Pages of the file, of all kinds."""


def ranges(path: str | os.PathLike[str], layout: Layout, *, short: bool = False) -> list[Ranges]:
    """Find the byte ranges of the pages of a file that has the given layout.

    Parameters
    ----------
    path
        The file, or its URL.
    layout
        What it must hold, from `probe` of this file or of one like it.
    short
        Whether the last strip of a page is a range where it has fewer rows than the others; else
        it is to be decoded.

    Returns
    -------
    list of Ranges
        One for each way in which pages are stored; pages that are announced and not in the file
        are in none.

    Raises
    ------
    OSError
        If the file cannot be understood, or ranges lie beyond its end.
    ValueError
        If it does not hold what `layout` says.

    Notes
    -----
    Reads the directories of the file, and none of its pixels but those that LZW compressed.

    Examples
    --------
    >>> import numpy as np, tempfile, tifffile
    >>> from xarray_tiffstack.tiff import probe
    >>> path = f"{tempfile.mkdtemp()}/stack.tif"
    >>> tifffile.imwrite(path, np.zeros((2, 4, 8), "uint16"), byteorder="<")
    >>> (found,) = ranges(path, probe(path))
    >>> found.storage
    Storage(chunk=(1, 4, 8), order='<', compression='none', predictor=1, padded=False)
    >>> np.diff(found.offsets.ravel()), found.counts.ravel()
    (array([64]), array([64, 64]))
    """
    return with_file(path, lambda file: _found(file, layout, short))


def _found(file: Tiff, layout: Layout, short: bool) -> list[Ranges]:
    """Find the byte ranges of an open file."""
    table = fitting_table(file, layout)
    known = _plain.get(id(table))
    if known is not None and known[0] is table and known[1] is layout:
        return known[2]
    count = len(table.data)
    lead, page_shape, raw = _pages(layout, count, table.meaning.dtype)
    numbers = np.arange(count)
    offsets = table.resolve(file, numbers)
    if (least := int(offsets.min())) >= 0:
        file.check(least, 0)
        file.check(int(offsets.max()), table.page_nbytes)
        sizes = np.full((count, 1), table.page_nbytes)
        found = [Ranges(raw, numbers, offsets[:, None], sizes, count)]
        if count == 1:
            if len(_plain) >= _KINDS:
                _plain.clear()
            _plain[id(table)] = table, layout, found
        return found
    found = []
    plain = numbers[offsets >= 0]
    if plain.size:
        file.check(int(offsets[plain].min()), 0)
        file.check(int(offsets[plain].max()), table.page_nbytes)
        sizes = np.full((plain.size, 1), table.page_nbytes)
        found.append(Ranges(raw, plain, offsets[plain][:, None], sizes, count))
    encoded = numbers[offsets == ENCODED]
    if encoded.size and not table.ifds.size:
        found.append(_to_decode("its pages mean nothing alone", encoded, count))
    elif encoded.size:
        found += _encoded(file, table, encoded, lead, page_shape, short)
    return found


@lru_cache(maxsize=_KINDS)
def _pages(
    layout: Layout, count: int, dtype: np.dtype[Any]
) -> tuple[int, tuple[int, ...], Storage]:
    """Count the axes of the pages, and give the shape of a page, and how it is stored plainly."""
    lead = len(layout.shape) - page_ndim(layout.shape, count)
    page_shape = layout.shape[lead:]
    return lead, page_shape, Storage((1,) * lead + page_shape, dtype.str[0])


def _to_decode(why: str, pages: np.ndarray, total: int) -> Ranges:
    """Pages of which no part can be read on its own."""
    nowhere = np.full((pages.size, 1), ENCODED)
    return Ranges(why, pages, nowhere, np.zeros_like(nowhere), total)


def _encoded(
    file: Tiff,
    table: Table,
    numbers: np.ndarray,
    lead: int,
    page_shape: tuple[int, ...],
    short: bool,
) -> list[Ranges]:
    """Find the strips or tiles of pages that are compressed, tiled or scattered."""
    alike = table.alike
    known = _known.get(id(table.meaning)) if alike else None
    by_storage: dict[Storage | str, list[int]] = {}
    if known is not None:
        by_storage[known[1]] = numbers.tolist()
    else:
        with asking(file) as tif:
            for k in numbers[:1].tolist() if alike else numbers.tolist():
                page = page_at(tif, int(table.ifds[k]), k)
                storage = _storage(page, lead, page_shape, table)
                by_storage.setdefault(storage, []).append(k)
        if alike:
            (storage,) = by_storage
            by_storage[storage] = numbers.tolist()
            if len(_known) >= _KINDS:
                _known.clear()
            _known[id(table.meaning)] = table.meaning, storage
    found = []
    for storage, pages in by_storage.items():
        if isinstance(storage, str):
            found.append(_to_decode(storage, np.array(pages), len(table.data)))
        else:
            found += _segments_of(file, table, storage, pages, page_shape, short)
    return found


def _storage(
    page: tifffile.TiffPage, lead: int, page_shape: tuple[int, ...], table: Table
) -> Storage | str:
    """Say how a page is stored, or why only TIFF can say it."""
    assert page.dtype is not None
    compression = _COMPRESSIONS.get(page.compression)
    if compression is None:
        return f"compression {getattr(page.compression, 'name', page.compression)}"
    if page.bitspersample != 8 * page.dtype.itemsize:
        return f"{page.bitspersample} bits a pixel"
    if page.predictor not in (1, 2) or (page.predictor == 2 and page.dtype.kind not in "iu"):
        return f"predictor {page.predictor}"
    if page.fillorder != 1 or page.is_subsampled:
        return "order of bits" if page.fillorder != 1 else "subsampled colours"
    separate = page.planarconfig == 2 and page.samplesperpixel > 1
    chunk = (*([1] if separate else []), *page.chunks)
    if tuple(page.shape) != page_shape or len(chunk) != len(page_shape) or page.nodata:
        return "axes of a page" if not page.nodata else "a value for what is not stored"
    if not page.is_tiled:
        chunk = tuple(map(min, chunk, page_shape))
    order = table.meaning.dtype.str[0]
    return Storage((1,) * lead + chunk, order, compression, page.predictor, page.is_tiled)


def _is_exact(data: bytes, nbytes: int) -> bool:
    """Whether a strip or tile of LZW ends where its pixels do.

    Nothing in it says where. Some programs write a few bytes more, which readers of TIFF ignore,
    and no others.
    """
    try:
        return len(imagecodecs.lzw_decode(data)) == nbytes
    except Exception:  # codecs raise anything
        return False


def _segments_of(
    file: Tiff,
    table: Table,
    storage: Storage,
    pages: list[int],
    page_shape: tuple[int, ...],
    short: bool,
) -> list[Ranges]:
    """Places of the strips or tiles of pages that are stored alike."""
    chunk = storage.chunk[-len(page_shape) :]
    grid = tuple(-(-n // c) for n, c in zip(page_shape, chunk, strict=True))
    offsets = np.empty((len(pages), math.prod(grid)), np.int64)
    counts = np.empty_like(offsets)
    for i, k in enumerate(pages):
        segment = segments(file, int(table.ifds[k]))
        if segment is None or not segment[0].size == segment[1].size == offsets.shape[1]:
            why = "what its directory says of its strips"
            return [_to_decode(why, np.array(pages), len(table.data))]
        check_segments(file, *segment)
        offsets[i], counts[i] = segment
    offsets[(offsets == 0) & (counts == 0)] = MISSING
    nbytes = np.full(grid, math.prod(chunk) * table.meaning.dtype.itemsize)
    for axis, (n, c) in enumerate(zip(page_shape, chunk, strict=True)):
        if n % c and not storage.padded:  # the last strip is shorter
            part = (slice(None),) * axis + (-1,)
            nbytes[part] = nbytes[part] // c * (n % c)
            if not short:
                offsets.reshape(-1, *grid)[:, *part] = ENCODED
    if storage.compression == "lzw":
        for at in np.argwhere(offsets >= 0):
            i, k = at.tolist()
            data = file.at(int(offsets[i, k]), int(counts[i, k]))
            if not _is_exact(data, int(nbytes.flat[k])):
                offsets[i, k] = ENCODED
    return [Ranges(storage, np.array(pages), offsets, counts, len(table.data))]
