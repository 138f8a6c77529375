"""The part of one open TIFF that a selection names: which bytes of it are read, or decoded.

Pixels that are stored as they are go straight from the file into the destination. Whatever is
compressed, tiled or packed is decoded by tifffile, by the strip or tile.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xarray_tiffstack.tiff.directory import ENCODED, segments
from xarray_tiffstack.tiff.judge import asking, page_at
from xarray_tiffstack.tiff.meaning import page_ndim
from xarray_tiffstack.tiff.pages import MISSING, Table, check_segments, too_large

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import tifffile

    from xarray_tiffstack.tiff.file import Tiff
    from xarray_tiffstack.tiff.reading import Layout

Index: TypeAlias = int | slice | np.ndarray
_Pick: TypeAlias = range | np.ndarray

# Bytes read, and byte-swapped, in one go where the order is foreign: they stay in the cache.
_BLOCK = 1 << 20

# Rows left out are read over where they are fewer bytes than this: a request costs more.
_BRIDGE = 1 << 18

# Compressions (none, LZW, deflate, zstd, packbits, LZMA, and their old numbers) of which every
# segment can be decoded by what the first page says; those of images have headers of their own.
_SIMPLE = {1, 5, 8, 32773, 32946, 34925, 34926, 50000}


def positions(index: Index, length: int) -> _Pick:
    """Positions along one axis, counted from its start."""
    if isinstance(index, slice):
        return range(length)[index]
    if isinstance(index, int | np.integer):
        position = range(length)[int(index)]
        return range(position, position + 1)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise IndexError(f"an axis takes an integer, a slice or a 1-d integer array: {index!r}")
    found: np.ndarray = np.arange(length)[index]
    return found


def _outer(picks: Sequence[_Pick], shape: Sequence[int]) -> np.ndarray:
    """Positions in C order of all combinations of the positions along each axis."""
    flat = np.zeros(1, np.int64)
    for pick, n in zip(picks, shape, strict=True):
        along = np.arange(pick.start, pick.stop, pick.step) if isinstance(pick, range) else pick
        flat = np.add.outer(flat * n, along).ravel()
    return flat


def _take(array: np.ndarray, picks: Sequence[_Pick]) -> np.ndarray:
    """Pick positions along each of the innermost axes (orthogonal indexing)."""
    for axis, pick in enumerate(picks, array.ndim - len(picks)):
        if isinstance(pick, range):
            stop = None if pick.stop < 0 else pick.stop
            array = array[(slice(None),) * axis + (slice(pick.start, stop, pick.step),)]
        else:
            array = array.take(pick, axis)
    return array


def _do(work: Callable[..., object], *given: Any) -> None:
    work(*given)


class Region:
    """The part of one open file that a selection names."""

    def __init__(self, file: Tiff, table: Table, layout: Layout, picks: Sequence[_Pick]) -> None:
        self.file, self.table, self.dtype = file, table, table.meaning.dtype
        ndim = len(layout.shape) - page_ndim(layout.shape, len(table.data))
        self.page_shape = layout.shape[ndim:]
        self.lead_picks, self.page_picks = picks[:ndim], picks[ndim:]
        self.numbers = _outer(self.lead_picks, layout.shape[:ndim])
        # A line is what is always read in one piece: the axes from x on.
        self.page_axes = axes = layout.axes[ndim:]
        across = axes.index("x") if "x" in axes else len(axes) - 1
        self.across = across
        self.line_picks, self.line_shape = self.page_picks[across:], self.page_shape[across:]
        self.line_nbytes = math.prod(self.line_shape) * self.dtype.itemsize

    def read(self, view: np.ndarray) -> None:
        """Fill a view that has all axes of the file."""
        offsets = self.table.resolve(self.file, self.numbers)
        if self.adjoining is not None and view.flags.c_contiguous and offsets.min() >= 0:
            self.read_runs(offsets, view)
            return
        encoded: list[tuple[int, np.ndarray]] = []
        parts: list[tuple[Any, ...]] = []
        places = np.ndindex(*map(len, self.lead_picks))
        for k, (place, offset) in enumerate(zip(places, offsets.tolist(), strict=True)):
            block = view[place]
            if offset == ENCODED:
                encoded.append((int(self.numbers[k]), block))
            elif offset == MISSING:
                block[...] = 0
            elif self.adjoining is not None and block.flags.c_contiguous:
                parts.append((self.read_runs, offsets[k : k + 1], block))
            else:
                parts.append((self.read_rows, offset, block))
        self.file.each(_do, parts)
        if encoded:
            self.decode(encoded)

    @cached_property
    def rows(self) -> np.ndarray:
        """Numbers of the lines of a page that are wanted."""
        return _outer(self.page_picks[: self.across], self.page_shape[: self.across])

    @cached_property
    def adjoining(self) -> range | None:
        """The lines that are wanted of a page, where they are entire and follow each other."""
        partly = 1 if self.across else 0  # of the outermost axis a part may be wanted
        first = self.page_picks[0] if partly else range(1)
        if not isinstance(first, range) or (first.step != 1 and len(first) > 1):
            return None
        for pick, n in zip(self.page_picks[partly:], self.page_shape[partly:], strict=True):
            if not isinstance(pick, range) or pick != range(n):
                return None
        lines = math.prod(self.page_shape[1 : self.across])
        return range(first.start * lines, (first.start + len(first)) * lines)

    def read_runs(self, offsets: np.ndarray, view: np.ndarray) -> None:
        """Read whole lines straight into contiguous memory, adjoining pages as one run."""
        assert self.adjoining is not None
        length = len(self.adjoining) * self.line_nbytes
        starts = offsets + self.adjoining.start * self.line_nbytes
        flat = view.reshape(-1).view(np.uint8)
        edges = [0, len(starts)]
        if len(starts) > 1:
            edges[1:1] = (np.flatnonzero(np.diff(starts) != length) + 1).tolist()
        step = self.file.step
        if not self.dtype.isnative:
            step = max(length, (step or _BLOCK) // length * length)
        pieces = []
        for first, last in pairwise(edges):
            run, start = flat[first * length : last * length], int(starts[first])
            size = step or len(run)
            pieces += [(start + k, run[k : k + size]) for k in range(0, len(run), size)]
        self.file.each(self.read_piece, pieces)

    def read_piece(self, offset: int, piece: np.ndarray) -> None:
        """Read bytes of pixels, and put them in the order of this machine."""
        self.file.into(offset, piece)
        if not self.dtype.isnative:
            piece.view(self.dtype.newbyteorder("=")).byteswap(inplace=True)

    @cached_property
    def spans(self) -> tuple[list[tuple[int, int]], np.ndarray]:
        """Spans of rows (first, past last) to read of a page, and where in them each row is."""
        rows, found = np.unique(self.rows, return_inverse=True)
        cuts = np.flatnonzero((np.diff(rows) - 1) * self.line_nbytes > _BRIDGE) + 1
        spans, where, end = [], [], 0
        for group in np.split(rows, cuts):
            first, past = int(group[0]), int(group[-1]) + 1
            where.append(group - first + end)
            spans.append((first, past))
            end += past - first
        return spans, np.concatenate(where)[found]

    def read_rows(self, offset: int, block: np.ndarray) -> None:
        """Read the rows of one page into scratch memory, and pick from it."""
        spans, where = self.spans
        scratch = np.empty((sum(past - first for first, past in spans), self.line_nbytes), "u1")
        end = 0
        for first, past in spans:
            part = scratch[end : end + past - first].reshape(-1)
            self.file.into(offset + first * self.line_nbytes, part)
            end += past - first
        lines = scratch.view(self.dtype).reshape(-1, *self.line_shape)
        block[...] = _take(lines, self.line_picks)[where].reshape(block.shape)

    def decode(self, wanted: Sequence[tuple[int, np.ndarray]]) -> None:
        """Decode pages, each given by its number and destination."""
        entire = not self.table.ifds.size
        with asking(self.file, ends=entire) as tif:
            for number, block in wanted:
                if entire:
                    self.put(tif.series[0], block)
                else:
                    self.put_page(tif, number, block)

    def put_page(self, tif: tifffile.TiffFile, number: int, block: np.ndarray) -> None:
        """Decode one page: the strips or tiles of it that hold what is wanted."""
        ifd, page = int(self.table.ifds[number]), tif.pages.first
        found = segments(self.file, ifd)
        if found is None or not self.table.alike or page.compression not in _SIMPLE:
            page = page_at(tif, ifd, number)
            found = np.array(page.dataoffsets), np.array(page.databytecounts)
        stored = check_segments(self.file, *found, sparse=page.is_tiled)
        if page.nbytes > stored * int(self.table.tightest[number]):
            raise too_large(self.file, page.nbytes, stored)
        offsets, counts = (each.tolist() for each in found)
        if page.is_contiguous and page.predictor != 1:  # no program should write that
            self.put(page, block)
        elif len(offsets) == len(counts) == math.prod(page.chunked):
            self.put_segments(page, offsets, counts, block)
        elif page.is_contiguous:
            self.put(page, block)
        else:
            raise ValueError(
                f"{self.file.path} is damaged: a page of {math.prod(page.chunked)} strips or tiles "
                f"says where {len(offsets)} are"
            )

    def put(self, page: tifffile.TiffPage | tifffile.TiffPageSeries, block: np.ndarray) -> None:
        """Decode a whole page, and pick from it."""
        self.check(page, block)
        array = page.asarray(maxworkers=1)
        block[...] = _take(array.reshape(self.page_shape), self.page_picks)

    def put_segments(
        self,
        page: tifffile.TiffPage,
        offsets: Sequence[int],
        counts: Sequence[int],
        block: np.ndarray,
    ) -> None:
        """Decode the strips or tiles of a page that hold anything of what is wanted."""
        self.check(page, block)
        direct = block.size == page.size and self.adjoining is not None
        direct = direct and block.flags.c_contiguous
        image = block if direct else np.empty(self.page_shape, block.dtype)
        shaped = image.reshape(page.shaped)  # sample, depth, length, width, sample
        top, bottom = self.within("y", page.imagelength)
        left, right = self.within("x", page.imagewidth)
        missing = (
            (bottom - top)
            * (right - left)
            * math.prod(page.shaped)
            // (page.imagelength * page.imagewidth)
        )
        wanted = []
        for i in range(len(offsets)):
            _, (s, z, y, x, _), (depth, length, width, _) = page.decode(None, i)
            high = min(y + length, bottom) - max(y, top)
            wide = min(x + width, right) - max(x, left)
            if high > 0 and wide > 0:
                target = shaped[s, z : z + depth, y : y + length, x : x + width]
                wanted.append((i, target))
                missing -= high * wide * target.shape[0] * target.shape[-1]
        stored = self.file.several([(offsets[i], counts[i]) for i, _ in wanted if offsets[i]])
        for i, target in wanted:
            data = next(stored) if offsets[i] else None
            pixels, *_ = page.decode(data, i, jpegtables=page.jpegtables)
            if pixels is None:
                target[...] = page.nodata
            else:  # a tile reaches over the edge
                pixels = pixels[tuple(map(slice, target.shape))]
                if pixels.shape != target.shape:
                    raise ValueError("a strip or tile holds too few pixels")
                target[...] = pixels
        if missing:
            raise ValueError("the strips or tiles of a page do not fill it")
        if not direct:
            block[...] = _take(image, self.page_picks)

    def within(self, axis: str, length: int) -> tuple[int, int]:
        """First and past last position on an axis of a page that holds what is wanted."""
        if axis in self.page_axes:
            i = self.page_axes.index(axis)
            if self.page_shape[i] == length:
                return int(min(self.page_picks[i])), int(max(self.page_picks[i])) + 1
        return 0, length

    def check(self, page: tifffile.TiffPage | tifffile.TiffPageSeries, block: np.ndarray) -> None:
        """Raise where a page is not what it should be."""
        if page.size != math.prod(self.page_shape) or page.dtype != block.dtype:
            raise ValueError(
                f"{self.file.path} holds a page of shape {page.shape} and type {page.dtype}, "
                f"not {self.page_shape} {block.dtype}"
            )
