"""Which files, and which part of each, a selection needs.

The array over a grid of files is a plain dask array of one layer, whose tasks each name the few
files of their own block. dask fuses only one slice into a read: a second selection would read
whole files for one plane of each. So the layer itself remembers what it takes of the files
(`Reads`), and selecting, transposing and rechunking give a fresh layer over a narrower view
instead of a further layer on top. `source_of` finds it again in any array, unpickled ones too.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import dask.array as da
import numpy as np
from dask.array.core import Array, normalize_chunks
from dask.base import tokenize
from dask.blockwise import Blockwise, BlockwiseDep, blockwise
from dask.highlevelgraph import HighLevelGraph

from xarray_tiffstack import tiff
from xarray_tiffstack.array import device as _device
from xarray_tiffstack.array import expressions
from xarray_tiffstack.storage import access_of, is_url, together

if TYPE_CHECKING:
    from xarray_tiffstack.storage import Access
    from xarray_tiffstack.tiff import Layout

Key: TypeAlias = tuple[int | slice | np.ndarray, ...]
Index: TypeAlias = int | range | np.ndarray
Chunks: TypeAlias = tuple[tuple[int, ...], ...]

SMALL_FILE = 4 * 2**20  # files below this are grouped into one chunk ...
GROUP = 32 * 2**20  # ... of at most this many bytes


@dataclass(frozen=True, eq=False)
class FileGrid:
    """The files of an array, all laid out alike."""

    paths: np.ndarray
    """Path of the file in each slot, None where there is none; its shape is the grid's."""
    layout: Layout
    """What every file holds."""
    fill_value: float = 0
    """Pixel value of the slots without a file."""
    planes: np.ndarray | None = None
    """Planes in the file of each slot, where some are known to hold fewer than `layout` says
    along its first axis; None in the slots of complete files."""
    device: str | None = None
    """Where blocks are read to, as `xarray_tiffstack.array.device` spells it; None is the host."""
    expressions: bool = False
    """Whether arrays of the package dask-array are made, not dask's own."""
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Identity in dask's key names; new for each opening, so that no stale result is reused."""
    access: Access | None = None
    """How the files are reached, where they are at URLs."""

    def __post_init__(self) -> None:
        """Take along how URLs are reached: other processes were not told."""
        first = next((path for path in self.paths.flat if path is not None), None)
        if self.access is None and is_url(first):
            object.__setattr__(self, "access", access_of(first))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the grid, then that of a file."""
        return (*self.paths.shape, *self.layout.shape)

    def default_chunks(self) -> tuple[int, ...]:
        """One file a chunk; small files are grouped along the innermost grid dimensions."""
        grouped = [1] * self.paths.ndim
        if self.layout.nbytes < SMALL_FILE:
            room = GROUP // max(self.layout.nbytes, 1)
            for axis in reversed(range(self.paths.ndim)):
                grouped[axis] = max(1, min(room, self.paths.shape[axis]))
                room //= grouped[axis]
        return (*grouped, *self.layout.shape)

    def array(self) -> da.Array:
        """Lazy array over all the files.

        Costs no IO, and time independent of the number of files.
        """
        if not self.expressions:
            _check_dask()
        chunks = normalize_chunks(self.default_chunks(), self.shape)
        index = tuple(range(length) for length in self.shape)
        return Reads(self, index, tuple(range(len(index))), chunks).array()


class Reads(BlockwiseDep):  # type: ignore[misc]
    """What the blocks of an array read of a grid of files; the argument of its one dask layer.

    Parameters
    ----------
    grid
        The files.
    index
        What is taken along each axis of the grid of files: an int drops the axis.
    axes
        The axes that are left, in the order of the array's dimensions.
    chunks
        Chunk sizes along each dimension of the array.
    chosen
        Whether somebody asked for these chunks.
    """

    produces_tasks = False

    def __init__(
        self,
        grid: FileGrid,
        index: tuple[Index, ...],
        axes: tuple[int, ...],
        chunks: Chunks,
        chosen: bool = False,
    ) -> None:
        self.grid, self.index, self.axes, self.chunks = grid, index, axes, chunks
        self.chosen = chosen
        self.numblocks = tuple(len(along) for along in chunks)
        self.starts = tuple(np.cumsum((0, *along)).tolist() for along in chunks)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Identify what is read, for dask's key names."""
        return self.grid.token, self.grid.device, self.index, self.axes, self.chunks

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the files that are still needed, not with those that were selected from."""
        ndim = self.grid.paths.ndim
        outer = self.index[:ndim]
        if all(
            isinstance(taken, range) and taken == range(n)
            for taken, n in zip(outer, self.grid.shape, strict=False)
        ):
            return Reads, (self.grid, self.index, self.axes, self.chunks, self.chosen)
        kept: list[Index] = [range(i, i + 1) if isinstance(i, int) else i for i in outer]
        planes = self.grid.planes
        grid = replace(
            self.grid,
            paths=self.of_block(self.grid.paths, kept),
            planes=None if planes is None else self.of_block(planes, kept),
            token=tokenize(self.grid.token, outer),
        )
        index: list[Index] = [0 if isinstance(i, int) else range(len(i)) for i in outer]
        index += self.index[ndim:]
        return Reads, (grid, tuple(index), self.axes, self.chunks, self.chosen)

    def __getitem__(self, block: tuple[int, ...]) -> _BlockRead:
        """Find the read of one block: dask asks when it makes the task, which holds no more."""
        index = list(self.index)
        for axis, i, starts in zip(self.axes, block, self.starts, strict=True):
            index[axis] = index[axis][starts[i] : starts[i + 1]]  # type: ignore[index]
        ndim = self.grid.paths.ndim
        kept = sorted(self.axes)
        return _BlockRead(
            self.of_block(self.grid.paths, index),
            self.grid.layout,
            tuple(_numpy_key(i) for i in index[ndim:]),
            tuple(kept.index(axis) for axis in self.axes),
            self.grid.fill_value,
            None if self.grid.planes is None else self.of_block(self.grid.planes, index),
            self.grid.device,
            self.grid.access,
        )

    def of_block(self, slots: np.ndarray, index: list[Index]) -> np.ndarray:
        """Take what belongs to the files of one block."""
        taken: Any = slots
        for axis in reversed(range(slots.ndim)):
            taken = taken[(slice(None),) * axis + (_numpy_key(index[axis]),)]
        return np.array(taken, object)

    def array(self) -> da.Array:
        """Make the dask array."""
        if self.grid.expressions:
            return expressions.array_of(self)
        name = f"tiffstack-{tokenize(self)}"
        dims = tuple(range(len(self.axes)))
        layer = blockwise(_run, name, dims, self, dims, numblocks={})
        graph = HighLevelGraph.from_collections(name, layer)
        return Array(graph, name, self.chunks, meta=self.empty())

    def empty(self) -> Any:
        """Make an array without pixels, of the kind that blocks are."""
        shape, dtype, device = (0,) * len(self.axes), self.grid.layout.dtype, self.grid.device
        return np.empty(shape, dtype) if device is None else _device.empty(shape, dtype, device)

    def select(self, key: Key) -> da.Array:
        """Take part of the array: one int, slice or 1-d integer array a dimension, orthogonal."""
        return self.part(key).array()

    def part(self, key: Key) -> Reads:
        """Narrow what is read to a part, which is given as to `select`."""
        index = list(self.index)
        axes = []
        for axis, part in zip(self.axes, key, strict=True):
            index[axis] = _compose(index[axis], part)
            if not isinstance(part, int):
                axes.append(axis)
        taken, chunks = tuple(axes), chunks_after(self.chunks, key)
        if self.grid.access is not None and not self.chosen:
            chunks = self._grouped(taken, chunks)
        return Reads(self.grid, tuple(index), taken, chunks, self.chosen)

    def _grouped(self, axes: tuple[int, ...], chunks: Chunks) -> Chunks:
        """Group files at URLs of which little is left, so that many are waited for at once."""
        ndim, grouped = self.grid.paths.ndim, list(chunks)
        inner = (max(along, default=1) for a, along in zip(axes, chunks, strict=True) if a >= ndim)
        room = GROUP // max(math.prod(inner) * self.grid.layout.dtype.itemsize, 1)
        for k in sorted(range(len(axes)), key=lambda k: -axes[k]):
            if axes[k] < ndim:
                size, length = max(chunks[k], default=1), sum(chunks[k])
                grouped[k] = uniform(max(size, min(room, length)), length)
                room //= max(grouped[k], default=1)
        return tuple(grouped)

    def transpose(self, order: tuple[int, ...]) -> da.Array:
        """Reorder the dimensions."""
        axes = tuple(self.axes[i] for i in order)
        chunks = tuple(self.chunks[i] for i in order)
        return Reads(self.grid, self.index, axes, chunks, self.chosen).array()

    def rechunk(self, chunks: Chunks) -> da.Array:
        """Cut the array otherwise; a chunk reads its own part of the files and no more."""
        return Reads(self.grid, self.index, self.axes, chunks, chosen=True).array()

    def read_into(self, memory: np.ndarray) -> np.ndarray:
        """Read the whole array into the beginning of memory of the host, without dask."""
        read = self._at_once()
        shape, dtype = (*read.paths.shape, *read.inner), self.grid.layout.dtype
        block = memory[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        read.fill(block)
        return block.transpose(read.order)

    def whole(self) -> Any:
        """Read the whole array, to where blocks are read, without dask."""
        return self._at_once().run()

    def _at_once(self) -> _BlockRead:
        whole = tuple((sum(along),) for along in self.chunks)
        return Reads(self.grid, self.index, self.axes, whole)[(0,) * len(whole)]

    @property
    def of_complete_files(self) -> bool:
        """Whether each file is taken from its first to its last pixel, its axes in their order."""
        ndim = self.grid.paths.ndim
        inner = zip(self.index[ndim:], self.grid.layout.shape, strict=True)
        entire = all(isinstance(taken, range) and taken == range(n) for taken, n in inner)
        axes = [axis for axis in self.axes if axis >= ndim]
        return entire and axes == sorted(axes)

    @property
    def device(self) -> str | None:
        """Where it is read to."""
        return self.grid.device

    def on(self, device: str | None) -> da.Array:
        """Read to a device, or to the host."""
        grid = replace(self.grid, device=device)
        return Reads(grid, self.index, self.axes, self.chunks, self.chosen).array()


@dataclass(frozen=True, eq=False)
class _BlockRead:
    """All that one task needs: the files of its block and what to take from each."""

    paths: np.ndarray
    layout: Layout
    selection: Key
    order: tuple[int, ...]
    fill_value: float
    planes: np.ndarray | None
    device: str | None
    access: Access | None = None

    @property
    def inner(self) -> tuple[int, ...]:
        """Shape of what is taken of one file."""
        return tuple(
            len(range(length)[part]) if isinstance(part, slice) else len(part)
            for part, length in zip(self.selection, self.layout.shape, strict=True)
            if not isinstance(part, int)
        )

    def run(self) -> Any:
        block = np.empty((*self.paths.shape, *self.inner), self.layout.dtype)
        self.fill(block)
        moved = block if self.device is None else _device.upload(block, self.device)
        return moved.transpose(self.order)

    def fill(self, block: np.ndarray) -> None:
        """Read into memory of the host; its axes are in the order of the grid's and a file's."""
        if self.access is None:
            for slot, path in np.ndenumerate(self.paths):
                self._fill_slot(block, slot, path)
        else:
            together(lambda each: self._fill_slot(block, *each), np.ndenumerate(self.paths))

    def _fill_slot(self, block: np.ndarray, slot: tuple[int, ...], path: str | None) -> None:
        """Read what is wanted of one file."""
        planes = None if self.planes is None else self.planes[slot]
        if path is None:
            block[slot] = self.fill_value
        elif planes is not None:
            block[slot] = self._read_short(path, int(planes))
        elif self.inner:
            tiff.read(path, self.layout, self.selection, block[slot], self.access)
        else:
            block[slot] = tiff.read(path, self.layout, self.selection, None, self.access)

    def _read_short(self, path: str, planes: int) -> np.ndarray:
        """Read a file that holds only the first `planes`; what it lacks is filled."""
        first, *rest = self.selection
        wanted = np.arange(self.layout.shape[0])[first]
        held = wanted < planes
        layout = replace(self.layout, shape=(planes, *self.layout.shape[1:]))
        found = np.full(self.inner, self.fill_value, self.layout.dtype)
        if held.any():
            taken = wanted[held] if wanted.ndim else first
            part = tiff.read(path, layout, (taken, *rest), None, self.access)
            found[held if wanted.ndim else ...] = part
        return found


def _run(read: _BlockRead) -> Any:
    return read.run()


def _check_dask() -> None:
    """Refuse expression arrays, which xarray cannot compute with either."""
    if da.Array is not Array:
        raise ValueError(
            "dask is set to plan queries of arrays, with which xarray cannot compute: call "
            'dask.config.set({"array.query-planning": False}) before dask.array is imported'
        )


def source_of(array: object) -> Reads | None:
    """Find what the blocks of a dask array read, None where it is no mere view of files."""
    if not isinstance(array, da.Array):
        return expressions.reads_of(array)
    layer = array.dask.layers.get(array.name)
    if not isinstance(layer, Blockwise):
        return None
    return next((dep for dep in layer.io_deps.values() if isinstance(dep, Reads)), None)


def _compose(index: Index, part: int | slice | np.ndarray) -> Index:
    """Select from what is already selected along one axis."""
    if isinstance(part, int):
        return int(index[part])  # type: ignore[index]
    if isinstance(part, np.ndarray) and isinstance(index, range):
        index = np.arange(index.start, index.stop, index.step)
    taken: Index = index[part]  # type: ignore[index]
    return taken


def _numpy_key(index: Index) -> int | slice | np.ndarray:
    """Spell a range as the slice that takes the same items (its stop may be -1)."""
    if not isinstance(index, range):
        return index
    if not index:
        return slice(0, 0)
    return slice(index.start, index.stop if index.stop >= 0 else None, index.step)


def chunks_after(chunks: Chunks, key: Key) -> Chunks:
    """Chunks of a selection: as large as before and uniform, so that Zarr takes them.

    Nothing is read twice for that, since chunk borders mean nothing to the files.
    """
    after = []
    for old, part in zip(chunks, key, strict=True):
        if isinstance(part, int):
            continue
        length = sum(old)
        if isinstance(part, slice) and range(length)[part] == range(length):
            after.append(old)
        else:
            left = len(range(length)[part]) if isinstance(part, slice) else len(part)
            after.append(uniform(max(old, default=1), left))
    return tuple(after)


def uniform(size: int, length: int) -> tuple[int, ...]:
    """Cut a length into chunks of one size, and a rest."""
    size = max(1, size)
    return tuple(min(size, length - at) for at in range(0, length, size)) or (0,)
