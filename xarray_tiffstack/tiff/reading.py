"""One TIFF file: which array it holds, and how a region of that array is read.

The only module that imports tifffile, which judges what a file means, and decodes whatever is
compressed, tiled or packed. Pixels that are stored as they are go straight from the file into
the destination.
"""

from __future__ import annotations

import logging
import math
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tifffile

from xarray_tiffstack.tiff import scale as _metadata
from xarray_tiffstack.tiff.pages import ABSENT, ENCODED, File, Table, page_ndim, segments, walk

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

Index: TypeAlias = int | slice | np.ndarray
_Pick: TypeAlias = range | np.ndarray

_AXES = {"X": "x", "Y": "y", "Z": "z", "T": "time", "C": "channel", "S": "sample"}
_AXES |= {"R": "position", "A": "angle"}

# Page tables are kept for this many files, so that plane after plane does not walk again.
_TABLES = 64

# Bytes read, and byte-swapped where need be, in one go: they stay in the cache between the two.
_BLOCK = 1 << 20

# Rows left out are read over where they are fewer bytes than a memory page, as the kernel does.
_BRIDGE = 4096

# Compressions (none, LZW, deflate, zstd, packbits, LZMA, and their old numbers) of which every
# segment can be decoded by what the first page says; those of images have headers of their own.
_SIMPLE = {1, 5, 8, 32773, 32946, 34925, 34926, 50000}

# No codec packs pixels tighter than this, not even empty ones; what claims to is damaged.
_TIGHTEST = 1 << 16


@dataclass(frozen=True)
class Layout:
    """The array that one TIFF file holds.

    Files of equal layout can stand in one array, whatever their compression, their byte order,
    or the order of their pages.
    """

    axes: tuple[str, ...]
    """Names of the dimensions, outermost first, such as ``("z", "y", "x")``."""
    shape: tuple[int, ...]
    """Length of each dimension."""
    dtype: np.dtype[Any]
    """Type of the pixels, in native byte order."""

    @property
    def nbytes(self) -> int:
        """Size of the decoded array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        """Dimensions, lengths and type in one line, for messages."""
        sizes = ", ".join(f"{a}: {n}" for a, n in zip(self.axes, self.shape, strict=True))
        return f"({sizes}) {self.dtype}"


def probe(path: str | os.PathLike[str], *, pages: str = "z") -> Layout:
    """Tell which array a TIFF file holds, without reading its pixels.

    Only the first image of the file counts, in full resolution: lower levels of a pyramid,
    thumbnails, and pages of another shape are left out. Of an image that is spread over several
    files (OME-TIFF, Micro-Manager) only what lies in this file counts.

    Parameters
    ----------
    path
        The file.
    pages
        Name for the axis along the pages, where the file does not tell what it is.

    Returns
    -------
    Layout
        Dimension names, shape and data type.

    Raises
    ------
    OSError
        If the file cannot be opened or understood, is empty, or is cut short.
    ValueError
        If it is no TIFF, or holds no image.

    Notes
    -----
    Opens the file once, and reads its directories and descriptions (kilobytes).

    Examples
    --------
    >>> import numpy as np, tempfile, tifffile
    >>> path = f"{tempfile.mkdtemp()}/stack.tif"
    >>> tifffile.imwrite(path, np.zeros((5, 32, 48), "uint16"), metadata=None)
    >>> print(probe(path))
    (z: 5, y: 32, x: 48) uint16
    >>> probe(path, pages="time").axes
    ('time', 'y', 'x')
    """
    with File(path) as file:
        walked = walk(file)
        if walked is not None and walked.broken:
            raise OSError(f"{file.path} is cut short after page {len(walked.data)}")
        axes, table = _interpret(file, uniform=walked is not None)
    # By name: tifffile has 8-byte integers of C's "long long", which Zarr does not know.
    return Layout(_names(axes, pages), table.shape, np.dtype(table.dtype.name))


def read(
    path: str | os.PathLike[str],
    layout: Layout,
    selection: Sequence[Index],
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Read a region of a TIFF file that has the given layout.

    Parameters
    ----------
    path
        The file.
    layout
        What it must hold, from `probe` of this file or of one like it.
    selection
        One entry per axis: an integer (drops the axis), a slice of any step, or a 1-d integer
        array. Each array selects along its own axis (orthogonal indexing).
    out
        Array to read into, of the shape of the result and the type of the layout. Memory that
        is contiguous is read into directly.

    Returns
    -------
    numpy.ndarray
        The region, in native byte order; `out` where that was given. Pages that an OME-TIFF
        announces and does not hold are 0.

    Raises
    ------
    OSError
        If the file cannot be opened or decoded, or is cut short.
    ValueError
        If the file does not hold what `layout` says, or `out` does not fit.
    IndexError
        If the selection lies outside of the layout.

    Notes
    -----
    Reads the directories of the file (once, while it is among the last 64 that were read), then
    the pages that are named: of an uncompressed page only the rows that are named, of another
    only the strips or tiles that hold any of them.

    Examples
    --------
    >>> import numpy as np, tempfile, tifffile
    >>> path = f"{tempfile.mkdtemp()}/stack.tif"
    >>> tifffile.imwrite(path, np.arange(24, dtype="uint8").reshape(2, 3, 4))
    >>> read(path, probe(path), (1, slice(None, None, -2), np.array([3, 0])))
    array([[23, 20],
           [15, 12]], dtype=uint8)
    """
    picks = [_pick(index, n) for index, n in zip(selection, layout.shape, strict=True)]
    kept = [not isinstance(index, int | np.integer) for index in selection]
    shape = tuple(len(pick) for pick, keep in zip(picks, kept, strict=True) if keep)
    if out is None:
        out = np.empty(shape, layout.dtype)
    elif out.shape != shape or out.dtype != layout.dtype:
        raise ValueError(f"out is {out.shape} {out.dtype}, not {shape} {layout.dtype}")
    with File(path) as file:
        table = _fitting_table(file, layout)
        if out.size:
            all_axes = tuple(slice(None) if keep else None for keep in kept)
            _Region(file, table, layout, picks).read(out[all_axes])
    return out


def metadata(path: str | os.PathLike[str]) -> _metadata.Metadata:
    """Tell what a TIFF file says about its own scale.

    Looks at OME-XML, Micro-Manager's and ImageJ's metadata, MetaSeries XML, an Amira bounding
    box, and the resolution tags, in this order; what none of them says stays unknown.
    Resolutions of prints (72, 96, 300 dots per inch) are no voxel sizes.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Metadata
        Voxel size in micrometers with its source, channel names, and time between frames.

    Raises
    ------
    OSError
        If the file cannot be opened or understood.
    ValueError
        If it is no TIFF.

    Notes
    -----
    Opens the file once, and reads its first directory and descriptions (kilobytes), and the
    offsets of its directories if it holds a bounding box.

    Examples
    --------
    >>> import numpy as np, tempfile, tifffile
    >>> path = f"{tempfile.mkdtemp()}/stack.tif"
    >>> pixels, scale = np.zeros((5, 32, 48), "uint8"), {"unit": "um", "spacing": 0.4}
    >>> tifffile.imwrite(path, pixels, imagej=True, resolution=(10, 10), metadata=scale)
    >>> metadata(path).voxel_size
    {'z': 0.4, 'y': 0.1, 'x': 0.1}
    """
    found = []
    with File(path) as file, _asking(file) as tif:
        page = tif.pages.first
        resolution = [page.tags.valueof(code) for code in (282, 283)]
        if tif.ome_metadata:
            found.append(_metadata.from_ome(tif.ome_metadata, tif.filename))
        if summary := (tif.micromanager_metadata or {}).get("Summary"):
            found.append(_metadata.from_micromanager(summary))
        if tif.imagej_metadata:
            found.append(_metadata.from_imagej(tif.imagej_metadata, resolution))
        if page.is_metaseries:
            found.append(_metadata.from_metaseries(page.description))
        if page.description.startswith("BoundingBox"):
            shape = {"x": page.imagewidth, "y": page.imagelength, "z": len(tif.pages)}
            found.append(_metadata.from_amira(page.description, shape))
        maker = str(page.tags.valueof(271))
        if not maker.startswith("PerkinElmer"):  # theirs is the pixel of the camera itself
            found.append(_metadata.from_tags(resolution, page.tags.valueof(296, 2)))
    return _metadata.merge(found)


def _fitting_table(file: File, layout: Layout) -> Table:
    """Page table of a file that must hold `layout`; axes of length 1 do not matter."""

    def fits(table: Table) -> bool:
        held, wanted = ([n for n in shape if n > 1] for shape in (table.shape, layout.shape))
        return held == wanted and table.dtype.newbyteorder("=") == layout.dtype

    table = _table(file)
    if fits(table):
        return table
    message = f"{file.path} holds {table.shape} {table.dtype.newbyteorder('=')}, not {layout}"
    if table.broken:
        raise OSError(f"{message}: it is cut short after page {len(table.data)}")
    # Before a file is refused, the judge is heard.
    table = _interpret(file, uniform=False)[1]
    if not fits(table):
        raise ValueError(message)
    return table


@lru_cache(maxsize=_TABLES)
def _table(file: File) -> Table:
    """Page table of a file."""
    return walk(file) or _interpret(file, uniform=False)[1]


# --- What tifffile makes of a file


class _Hush(logging.Filter):
    """Drops what tifffile logs while it is asked here; what matters is raised instead."""

    asking = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self.asking, "now", False)


logging.getLogger("tifffile").addFilter(_Hush())


@contextmanager
def _asking(file: File) -> Iterator[tifffile.TiffFile]:
    """Open in tifffile; whatever it stumbles over is raised as an error that names the file."""
    _Hush.asking.now = True
    try:
        with tifffile.TiffFile(file, offset=0) as tif:
            yield tif
    except Exception as error:  # damaged files raise anything in parsers and codecs
        if file.path in str(error):
            raise
        raise OSError(f"{file.path} cannot be read: {error}") from error
    finally:
        _Hush.asking.now = False


def _interpret(file: File, *, uniform: bool) -> tuple[str, Table]:
    """Axes (tifffile's letters) and page table of a file, as tifffile understands it.

    It compares four pages; unless all are known to be `uniform` it is made to compare them all.
    """
    with _asking(file) as tif:
        if not uniform:
            tif.is_uniform = False
        series = _series(tif)
        page, shape = series.keyframe, tuple(series.shape)
        if series.dtype is None or not math.prod(shape):
            raise ValueError(f"{file.path} holds no pixels of a known type")
        dtype = series.dtype.newbyteorder(tif.byteorder)
        count = max(1, math.prod(shape) // page.size)
        run = None if series.transform else series.dataoffset
        if run is not None:
            data = ifds = run + page.nbytes * np.arange(count)
        else:
            pages = list(series)
            for page in pages:
                if page is not None:
                    _check_segments(file, page.dataoffsets, page.databytecounts)
            if series.transform or series.kind in {"lsm", "ndpi", "eer"} or len(pages) != count:
                data, ifds = np.array([ENCODED]), np.empty(0, np.int64)
            else:
                data = np.array([_data_offset(each) for each in pages])
                ifds = np.array([0 if each is None else each.offset for each in pages])
        table = Table(shape, dtype, data, ifds)
        size = table.page_nbytes
        if size > file.size * _TIGHTEST:
            raise ValueError(f"{file.path} claims pages of {size} bytes, has {file.size}")
        if data.max() >= 0 and data.max() + size > file.size:
            raise file.cut_short(int(data.max()) + size)
        return _held(series.axes, table)


def _series(tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Return the first image with pixels in this file."""
    try:
        return tif.series[0]
    except (ValueError, IndexError, KeyError, RuntimeError):
        # Metadata that only the other files of a set would explain: the pages alone count.
        tif.is_ome = tif.is_mmstack = False
        return tif.series[0]


def _data_offset(page: tifffile.TiffPage | tifffile.TiffFrame | None) -> int:
    """Offset of the pixels of a page if they are stored as they are."""
    if page is None:
        return ABSENT
    return int(page.dataoffsets[0]) if page.keyframe.is_final else ENCODED


def _check_segments(file: File, offsets: Sequence[int], counts: Sequence[int]) -> None:
    """Raise where pixels lie outside of the file; tifffile would fill in zeros."""
    ends = list(map(sum, zip(offsets, counts, strict=False)))
    if not ends:
        raise OSError(f"{file.path} is cut short: a page does not tell where its pixels are")
    if max(ends) > file.size:
        raise file.cut_short(max(ends))


def _is_segmented(page: tifffile.TiffPage, offsets: Sequence[int], counts: Sequence[int]) -> bool:
    """Whether a page with these strips or tiles can be decoded one by one."""
    return not page.is_contiguous and len(offsets) == len(counts) == math.prod(page.chunked)


def _held(axes: str, table: Table) -> tuple[str, Table]:
    """Narrow the array of a set of files to the indices that this one file holds."""
    ndim = len(table.shape) - page_ndim(table.shape, len(table.data))
    present = (table.data != ABSENT).reshape(table.shape[:ndim])
    if present.all():
        return axes, table
    held = [np.unique(indices) for indices in present.nonzero()]
    kept = [axis for axis, indices in enumerate(held) if len(indices) > 1]
    shape = tuple(len(held[axis]) for axis in kept) + table.shape[ndim:]
    data, ifds = (
        each.reshape(present.shape)[np.ix_(*held)].ravel() for each in (table.data, table.ifds)
    )
    letters = "".join(axes[axis] for axis in kept) + axes[ndim:]
    return letters, Table(shape, table.dtype, data, ifds)


def _names(axes: str, pages: str) -> tuple[str, ...]:
    """Dimension names of tifffile's letters; the innermost that says nothing is `pages`."""
    names = [_AXES.get(letter, "") for letter in axes]
    fresh = iter([pages, *(f"page_{i}" for i in range(len(axes)))])
    for i in reversed(range(len(names))):
        if not names[i]:
            names[i] = next(name for name in fresh if name not in names)
    return tuple(names)


# --- Reading


def _pick(index: Index, length: int) -> _Pick:
    """Positions along one axis, counted from its start."""
    if isinstance(index, slice):
        return range(length)[index]
    if isinstance(index, int | np.integer):
        position = range(length)[int(index)]
        return range(position, position + 1)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise IndexError(f"an axis takes an integer, a slice or a 1-d integer array: {index!r}")
    positions: np.ndarray = np.arange(length)[index]
    return positions


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


class _Region:
    """The part of one open file that a selection names."""

    def __init__(self, file: File, table: Table, layout: Layout, picks: Sequence[_Pick]) -> None:
        self.file, self.table = file, table
        ndim = len(layout.shape) - page_ndim(layout.shape, len(table.data))
        self.page_shape = layout.shape[ndim:]
        self.lead_picks, self.page_picks = picks[:ndim], picks[ndim:]
        self.numbers = _outer(self.lead_picks, layout.shape[:ndim])
        # A line is what is always read in one piece: the axes from x on.
        self.page_axes = axes = layout.axes[ndim:]
        across = axes.index("x") if "x" in axes else len(axes) - 1
        self.rows = _outer(self.page_picks[:across], self.page_shape[:across])
        self.line_picks, self.line_shape = self.page_picks[across:], self.page_shape[across:]
        self.line_nbytes = math.prod(self.line_shape) * table.dtype.itemsize

    def read(self, view: np.ndarray) -> None:
        """Fill a view that has all axes of the file."""
        offsets = self.table.resolve(self.file, self.numbers)
        if self.adjoining and view.flags.c_contiguous and (offsets >= 0).all():
            self.read_runs(offsets, view)
            return
        encoded = []
        places = np.ndindex(*map(len, self.lead_picks))
        for k, (place, offset) in enumerate(zip(places, offsets.tolist(), strict=True)):
            block = view[place]
            if offset == ENCODED:
                encoded.append((int(self.numbers[k]), block))
            elif offset == ABSENT:
                block[...] = 0
            elif self.adjoining and block.flags.c_contiguous:
                self.read_runs(offsets[k : k + 1], block)
            else:
                self.read_rows(offset, block)
        if encoded:
            self.decode(encoded)

    @cached_property
    def adjoining(self) -> bool:
        """Whether what is wanted of a page are whole lines that follow each other."""
        return bool((np.diff(self.rows) == 1).all()) and all(
            np.array_equal(pick, range(n)) if isinstance(pick, np.ndarray) else pick == range(n)
            for pick, n in zip(self.line_picks, self.line_shape, strict=True)
        )

    def read_runs(self, offsets: np.ndarray, view: np.ndarray) -> None:
        """Read whole lines straight into contiguous memory, adjoining pages as one run."""
        length = len(self.rows) * self.line_nbytes
        starts = offsets + self.rows[0] * self.line_nbytes
        flat = view.reshape(-1).view(np.uint8)
        edges = np.flatnonzero(starts[1:] - starts[:-1] != length) + 1
        for first, last in pairwise([0, *edges.tolist(), len(starts)]):
            run = flat[first * length : last * length]
            for begin in range(0, len(run), _BLOCK):
                piece = run[begin : begin + _BLOCK]
                self.file.into(int(starts[first]) + begin, piece)
                if not self.table.dtype.isnative:
                    piece.view(view.dtype).byteswap(inplace=True)

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
        lines = scratch.view(self.table.dtype).reshape(-1, *self.line_shape)
        block[...] = _take(lines, self.line_picks)[where].reshape(block.shape)

    def decode(self, wanted: Sequence[tuple[int, np.ndarray]]) -> None:
        """Decode pages, each given by its number and destination."""
        with _asking(self.file) as tif:
            for number, block in wanted:
                if not self.table.ifds.size:
                    self.put(_series(tif), block)
                    continue
                page, offsets, counts = self.stored(tif, number)
                _check_segments(self.file, offsets, counts)
                if _is_segmented(page, offsets, counts):
                    self.put_segments(page, offsets, counts, block)
                else:
                    self.put(page, block)

    def stored(
        self, tif: tifffile.TiffFile, number: int
    ) -> tuple[tifffile.TiffPage, Sequence[int], Sequence[int]]:
        """Page that tells how one is stored, and the offsets and sizes of its strips or tiles."""
        page, ifd = tif.pages.first, int(self.table.ifds[number])
        if self.table.alike and page.compression in _SIMPLE:
            offsets, counts = (each.tolist() for each in segments(self.file, ifd))
            if _is_segmented(page, offsets, counts):
                return page, offsets, counts
        tif.filehandle.seek(ifd)
        page = tifffile.TiffPage(tif, index=number)
        return page, page.dataoffsets, page.databytecounts

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
        whole = self.adjoining and block.size == page.size and block.flags.c_contiguous
        image = block if whole else np.empty(self.page_shape, block.dtype)
        shaped = image.reshape(page.shaped)  # sample, depth, length, width, sample
        top, bottom = self.within("y", page.imagelength)
        left, right = self.within("x", page.imagewidth)
        for i, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
            _, (s, z, y, x, _), (depth, length, width, _) = page.decode(None, i)
            if y < bottom and top < y + length and x < right and left < x + width:
                target = shaped[s, z : z + depth, y : y + length, x : x + width]
                data = self.file.at(offset, count) if offset and count else None
                pixels, *_ = page.decode(data, i, jpegtables=page.jpegtables)
                inside = tuple(map(slice, target.shape))  # a tile reaches over the edge
                target[...] = page.nodata if pixels is None else pixels[inside]
        if not whole:
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
                f"{self.file.path} holds a page of {page.shape} {page.dtype}, "
                f"not {self.page_shape} {block.dtype}"
            )
