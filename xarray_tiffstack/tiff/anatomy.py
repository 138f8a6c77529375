"""Which bytes of a TIFF its pixels give back, so that all others can be kept beside the pixels.

Of pixels that are stored as they are that is so because they are read from there. Each strip or
tile that is compressed, or otherwise laid out, is made again, and compared with the file. Whatever
is not given back counts as no pixels: header, directories, texts, gaps, what is behind the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xarray_tiffstack.tiff.directory import ENCODED
from xarray_tiffstack.tiff.encoding import Encoder, find, makes
from xarray_tiffstack.tiff.judge import asking, page_at
from xarray_tiffstack.tiff.meaning import page_ndim
from xarray_tiffstack.tiff.reading import fitting_table, read
from xarray_tiffstack.tiff.remote import with_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import tifffile

    from xarray_tiffstack.tiff.file import Tiff
    from xarray_tiffstack.tiff.pages import Table
    from xarray_tiffstack.tiff.reading import Layout

RUN = ("offset", "nbytes", "start")
"""Columns of a run: where in the file, how long, and of which first pixel, in C order."""
PIECE = ("offset", "nbytes", "encoder", "page", "s", "z", "y", "x", "d", "l", "w", "c")
"""Columns of a strip or tile: where in the file, how long, which encoder made it, of which page,
its place there (sample, depth, row, column), and its shape."""
_FAILURES = 8  # strips or tiles of a page in vain, after which its others are kept as they are


@dataclass(frozen=True)
class Anatomy:
    """The bytes of one file that are made of its pixels."""

    size: int
    """Of the file, in bytes."""
    order: Literal["<", ">"]
    """Order of the bytes of a number."""
    runs: np.ndarray
    """Bytes that are pixels as they are: a row of `RUN` each, in the order of the file."""
    pieces: np.ndarray
    """Bytes that are pixels encoded: a row of `PIECE` each, in the order of the file."""
    encoders: tuple[Encoder, ...] = ()
    """What made them."""
    page: tuple[int, ...] = ()
    """Shape of a page: samples, depth, length, width, samples."""

    @property
    def kept(self) -> int:
        """How many bytes of the file are no pixels."""
        return self.size - int(self.runs[:, 1].sum()) - int(self.pieces[:, 1].sum())

    def gaps(self) -> Iterator[tuple[int, int]]:
        """First and past last byte of each stretch that is no pixels."""
        spans = np.concatenate([self.runs[:, :2], self.pieces[:, :2]])
        spans = spans[np.argsort(spans[:, 0], kind="stable")]
        edges = np.concatenate([[0], np.stack([spans[:, 0], spans.sum(axis=1)], 1).ravel()])
        edges = np.append(edges, self.size).reshape(-1, 2)
        yield from ((a, b) for a, b in edges.tolist() if b > a)


@dataclass(frozen=True)
class Outlook:
    """What can be expected of a file, from its first strip or tile."""

    most: int
    """Bytes that may have to be kept, at most, with what is said of strips and tiles."""
    reason: str = ""
    """Why its pixels do not give its bytes back; empty where they seem to."""


@dataclass
class _Found:
    """What is found on the way through the pages."""

    runs: list[tuple[int, ...]] = field(default_factory=list)
    pieces: list[tuple[int, ...]] = field(default_factory=list)
    encoders: list[Encoder] = field(default_factory=list)
    shaped: tuple[int, ...] = ()


def outlook(path: str | os.PathLike[str], layout: Layout) -> Outlook:
    """Tell whether the pixels of a file will give back its bytes.

    Reads the directories, and the first strip or tile of the first page that is encoded.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, or does not hold what `layout` says.
    """

    def look(file: Tiff) -> Outlook:
        table = fitting_table(file, layout)
        runs = _plain(file, table)
        encoded = _encoded(file, table)
        if not encoded.size:
            return Outlook(Anatomy(file.size, "<", runs, _none(PIECE)).kept)
        if not table.ifds.size:
            return Outlook(file.size, "only its whole array can be decoded, not its pages")
        with asking(file) as tif:
            number = int(encoded[0])
            page = page_at(tif, int(table.ifds[number]), number)
            found = _Found()
            _page(file, layout, table, page, number, found, first=True)
        pieces = math.prod(page.chunked) * encoded.size
        most = file.size + 8 * len(PIECE) * pieces
        if found.pieces or found.runs or not any(page.databytecounts):
            return Outlook(most)
        return Outlook(most, f"its pixels, {_compression(page)} again, give other bytes")

    return with_file(path, look)


def anatomy(path: str | os.PathLike[str], layout: Layout) -> Anatomy:
    """Find which bytes of a file its pixels give back.

    Reads the directories; and all pixels of pages that are not stored as they are, which are
    decoded, encoded again, and compared.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, or does not hold what `layout` says.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> from xarray_tiffstack.tiff import probe
    >>> path = f"{tempfile.mkdtemp()}/stack.tif"
    >>> tifffile.imwrite(path, np.zeros((5, 32, 48), "uint16"), metadata=None)
    >>> found = anatomy(path, probe(path))
    >>> found.size - found.kept == 5 * 32 * 48 * 2
    True
    """

    def look(file: Tiff) -> Anatomy:
        table = fitting_table(file, layout)
        found = _Found()
        found.runs += map(tuple, _plain(file, table).tolist())
        encoded = _encoded(file, table)
        if encoded.size and table.ifds.size:
            with asking(file) as tif:
                for number in encoded.tolist():
                    page = page_at(tif, int(table.ifds[number]), number)
                    _page(file, layout, table, page, number, found)
        runs, pieces = _apart(_array(found.runs, RUN), _array(found.pieces, PIECE))
        runs, encoders = _joined(runs, layout), tuple(found.encoders)
        return Anatomy(file.size, file.format.order, runs, pieces, encoders, found.shaped)

    return with_file(path, look)


def _plain(file: Tiff, table: Table) -> np.ndarray:
    """Find the pages that are stored as they are."""
    offsets = table.resolve(file, np.arange(len(table.data)))
    numbers = np.flatnonzero(offsets >= 0)
    nbytes = table.page_nbytes
    starts = numbers * (nbytes // table.meaning.dtype.itemsize)
    runs = np.stack([offsets[numbers], np.full(numbers.size, nbytes), starts], 1)
    return runs[runs[:, 0] + nbytes <= file.size]


def _encoded(file: Tiff, table: Table) -> np.ndarray:
    """Numbers of the pages that have to be decoded."""
    return np.flatnonzero(table.resolve(file, np.arange(len(table.data))) == ENCODED)


def _page(
    file: Tiff,
    layout: Layout,
    table: Table,
    page: tifffile.TiffPage,
    number: int,
    found: _Found,
    first: bool = False,
) -> None:
    """Make the strips or tiles of a page again; only the first one that is there, if asked."""
    offsets, counts = page.dataoffsets, page.databytecounts
    if not len(offsets) == len(counts) == math.prod(page.chunked) or page.fillorder != 1:
        return
    shaped, itemsize = page.shaped, layout.dtype.itemsize
    pixels = _pixels(file, layout, table, number).reshape(shaped)
    found.shaped = tuple(shaped)
    bits = page.bitspersample if page.bitspersample != 8 * itemsize else 0
    known = (int(page.compression), int(page.predictor), file.format.order, bits)
    failures = 0
    for i, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        if not offset or not count or failures > _FAILURES:
            continue
        _, (s, z, y, x, _), shape = page.decode(None, i)
        depth, length, width, _ = shape
        part = pixels[s, z : z + depth, y : y + length, x : x + width]
        raw = file.at(offset, count)
        place = (number, s, z, y, x, *shape)
        which = next(
            (k for k, each in enumerate(found.encoders) if makes(each, raw, part, shape)), None
        )
        if which is None and (failures == 0 or part.shape != shape):
            encoder = find(raw, part, shape, *known)
            if encoder is not None:
                which = len(found.encoders)
                found.encoders.append(encoder)
        if which is None:
            failures += 1
        elif found.encoders[which] == Encoder("none", 0, 1, file.format.order) and (
            part.shape == shape and width == shaped[3] and (length == shaped[2] or depth == 1)
        ):
            start = np.ravel_multi_index((s, z, y, 0, 0), shaped) + number * page.size
            found.runs.append((offset, count, int(start)))
        else:
            found.pieces.append((offset, count, which, *place))
        if first:
            return


def _pixels(file: Tiff, layout: Layout, table: Table, number: int) -> np.ndarray:
    """Read one page as a conversion does."""
    ndim = len(layout.shape) - page_ndim(layout.shape, len(table.data))
    index = np.unravel_index(number, layout.shape[:ndim]) if ndim else ()
    rest = [slice(None)] * (len(layout.shape) - ndim)
    return read(file.path, layout, [*map(int, index), *rest])


def _apart(runs: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out what lies over something else: pages may share their pixels."""
    spans = np.concatenate([runs[:, :2], pieces[:, :2]])
    order = np.argsort(spans[:, 0], kind="stable")
    kept, end = np.zeros(len(spans), bool), 0
    for k in order.tolist():
        offset, nbytes = spans[k].tolist()
        if offset >= end:
            kept[k], end = True, offset + nbytes
    runs, pieces = runs[kept[: len(runs)]], pieces[kept[len(runs) :]]
    return runs[np.argsort(runs[:, 0])], pieces[np.argsort(pieces[:, 0])]


def _joined(runs: np.ndarray, layout: Layout) -> np.ndarray:
    """Make one run of those that go on, in the file and in the array."""
    if not len(runs):
        return runs
    offset, nbytes, start = runs.T
    on = (offset[:-1] + nbytes[:-1] == offset[1:]) & (
        start[:-1] + nbytes[:-1] // layout.dtype.itemsize == start[1:]
    )
    firsts = np.flatnonzero(np.concatenate([[True], ~on]))
    return np.stack([offset[firsts], np.add.reduceat(nbytes, firsts), start[firsts]], 1)


def _array(rows: list[tuple[int, ...]], columns: tuple[str, ...]) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, len(columns))


def _none(columns: tuple[str, ...]) -> np.ndarray:
    return _array([], columns)


def _compression(page: Any) -> str:
    """Say how the pixels of a page are encoded."""
    name = getattr(page.compression, "name", str(page.compression))
    return "laid out" if name == "NONE" else f"compressed ({name})"
