"""Which bytes of which file each chunk of a lazy array is: the chunk grid of its virtual Zarr."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from xarray_tiffstack import tiff
from xarray_tiffstack.array.mosaic import Tiles, files_of
from xarray_tiffstack.array.reads import Reads
from xarray_tiffstack.index.files import of_each
from xarray_tiffstack.messages import counted, first_lines
from xarray_tiffstack.storage import is_url
from xarray_tiffstack.tiff import Layout, Ranges, Storage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

NO_FILE, DECODE, ABSENT = -1, -2, -3
"""In place of a file, and in place of an offset: to be decoded, and not stored, that is 0."""

FEW = 64 * 2**20  # bytes of pixels that are copied without being asked for ...
SHARE = 10  # ... or a tenth of all
_Key: TypeAlias = "tuple[str, int | None]"


@dataclass(frozen=True, eq=False)
class References:
    """Where the chunks of an array are; each array here has one item for each of them."""

    storage: Storage
    """How the chunks are stored."""
    chunks: tuple[int, ...]
    """Shape of a chunk."""
    order: tuple[int, ...]
    """Dimensions of the array in the order in which the pixels of a chunk follow each other."""
    across: int
    """Which dimension counts the pixels of a line."""
    files: tuple[str, ...]
    """Absolute paths, or URLs."""
    which: np.ndarray
    """Number of the file, or NO_FILE."""
    offsets: np.ndarray
    """Offset in the file, DECODE or ABSENT."""
    counts: np.ndarray
    """Bytes of each chunk."""
    fill_value: float
    """Pixel value where there is no file."""
    decoded: dict[str, str]
    """Path -> why some of its pixels cannot be referred to."""
    irregular: bool = False
    """Whether the last chunks along a dimension are shorter where they end, as strips are."""

    def edges(self, shape: Sequence[int]) -> list[list[int]]:
        """Lengths of the chunks along each dimension of an array, where they are irregular."""
        return [
            [n] * (length // n) + ([length % n] if length % n else [])
            for length, n in zip(shape, self.chunks, strict=True)
        ]

    @property
    def referred(self) -> np.ndarray:
        """Which chunks are bytes of a file."""
        return self.offsets >= 0


def references(variable: xr.Variable, irregular: bool = False) -> References:
    """Find the byte ranges of all pixels of a variable; reads the directories of its files.

    Where chunks may be `irregular`, short last strips are ranges too.

    Raises
    ------
    ValueError
        The variable is no mere view of files, cuts their planes, or none of its planes can be read
        without knowing TIFF.
    OSError
        Files cannot be read; the message names them.
    """
    source = files_of(variable.data)
    if source is None:
        raise ValueError(
            "an index refers to the pixels of files, and these were computed: index the Dataset as "
            "it was opened, and compute with what you read from the index"
        )
    tiles = source.tiles if isinstance(source, Tiles) else np.array([source], object)
    parts = np.empty(tiles.size, object)
    for i, tile in enumerate(tiles.flat):
        parts[i] = tile if isinstance(tile, Reads) else files_of(tile)
    tables = _tables(list(parts), irregular)
    storage = _best(tables)
    grids = [_grid(reads, storage, tables) for reads in parts]
    if isinstance(source, Tiles):
        grid = _joined(np.array([*grids, None], object)[:-1].reshape(tiles.shape), tiles, storage)
    else:
        (grid,) = grids
    found = _numbered(parts[0], storage, tables, grid)
    uneven = any(n % c for n, c in zip(variable.shape, found.chunks, strict=True))
    return replace(found, irregular=irregular and uneven and not storage.padded)


def check_copies(refs: References, itemsize: int, whole: int, copy: bool | Literal["auto"]) -> int:
    """Refuse to copy more pixels than was allowed; returns their bytes."""
    count = int((refs.offsets == DECODE).sum())
    nbytes = count * math.prod(refs.chunks) * itemsize
    if not count or copy is True or (copy == "auto" and nbytes <= max(FEW, whole // SHARE)):
        return nbytes
    why = (f"{path}: {reason}" for path, reason in refs.decoded.items())
    raise ValueError(
        f"{nbytes / 1e6:.1f} MB of pixels of {counted(len(refs.decoded), 'file')} cannot be "
        f"referred to:\n{first_lines(why, len(refs.decoded))}\n"
        "Have the index hold a copy of them with copy=True (--copy all), or convert all of it: "
        "ds.tiffstack.to_ome_zarr (tiffstack convert)."
    )


def _tables(parts: list[Reads], irregular: bool) -> dict[_Key, list[Ranges]]:
    """Find the ranges of every file once."""
    wanted: dict[_Key, Layout] = {}
    for reads in parts:
        for path, planes in zip(*_slots(reads), strict=True):
            if path is not None and (path, planes) not in wanted:
                layout = reads.grid.layout
                short = layout if planes is None else _short(layout, planes)
                wanted[path, planes] = short
    broken: list[str] = []

    def ranges_of(item: tuple[_Key, Layout]) -> list[Ranges]:
        try:
            return tiff.ranges(item[0][0], item[1], short=irregular)
        except (OSError, ValueError) as error:
            broken.append(str(error))
            return []

    items = list(wanted.items())
    found = of_each(ranges_of, items, at_url=bool(items) and is_url(items[0][0][0]))
    if broken:
        raise OSError(
            f"{len(broken)} of {counted(len(items), 'file')} cannot be indexed:\n"
            f"{first_lines(sorted(broken))}\n"
            'Opened with validate="headers", they are missing slots instead.'
        )
    if not items:
        raise ValueError("there is no file to index: all slots are empty")
    return dict(zip(wanted, found, strict=True))


def _short(layout: Layout, planes: int) -> Layout:
    return replace(layout, shape=(planes, *layout.shape[1:]))


def _slots(reads: Reads) -> tuple[list[str | None], list[int | None]]:
    """Paths of the files of all slots, and their planes where they are short."""
    at = np.ix_(*map(_positions, reads.index[: reads.grid.paths.ndim]))
    paths = np.array(reads.grid.paths[at], object).ravel().tolist()
    if reads.grid.planes is None:
        return paths, [None] * len(paths)
    planes = np.array(reads.grid.planes[at], object).ravel().tolist()
    return paths, [n if n is None else int(n) for n in planes]


def _positions(index: Any) -> np.ndarray:
    """Positions along one axis of a grid; of an axis that is dropped, the one."""
    return np.atleast_1d(np.asarray(index if not isinstance(index, range) else list(index), int))


def _best(tables: dict[_Key, list[Ranges]]) -> Storage:
    """Find the way in which most pages are stored."""
    pages: Counter[Storage | str] = Counter()
    for found in tables.values():
        for each in found:
            pages[each.storage] += len(each.pages)
    kinds = [storage for storage in pages if isinstance(storage, Storage)]
    if kinds:
        return max(kinds, key=lambda storage: pages[storage])
    why = ((path, found[0].storage) for (path, _), found in tables.items() if found)
    raise ValueError(
        f"the pixels of {counted(len(tables), 'file')} cannot be read without decoding TIFF:\n"
        f"{first_lines(f'{path}: {reason}' for path, reason in why)}\n"
        "Convert them: ds.tiffstack.to_ome_zarr (tiffstack convert)."
    )


def _grid(
    reads: Reads, storage: Storage, tables: dict[_Key, list[Ranges]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Files, offsets and sizes of the chunks of a view of files, in the order of its dimensions."""
    ndim, layout = reads.grid.paths.ndim, reads.grid.layout
    pieces = tuple(-(-n // c) for n, c in zip(layout.shape, storage.chunk, strict=True))
    paths, planes = _slots(reads)
    numbers = {key: i for i, key in enumerate(tables)}
    which = np.full((len(paths), *pieces), NO_FILE, np.int32)
    offsets = np.full(which.shape, ABSENT, np.int64)
    counts = np.zeros(which.shape, np.int64)
    for i, (path, short) in enumerate(zip(paths, planes, strict=True)):
        if path is not None:
            held = pieces if short is None else (short, *pieces[1:])
            which[i][tuple(map(slice, held))] = numbers[path, short]
            _place(tables[path, short], storage, held, offsets[i], counts[i])
    own = [len(_positions(index)) for index in reads.index[:ndim]]
    inner = []
    for axis, (taken, n) in enumerate(zip(reads.index[ndim:], layout.shape, strict=True)):
        if storage.chunk[axis] == 1 and pieces[axis] == n:
            inner.append(_positions(taken))
        elif isinstance(taken, range) and taken == range(n):
            inner.append(np.arange(pieces[axis]))
        else:
            raise ValueError(
                f"an index has the planes of the files as they are, and {layout.axes[axis]} is cut "
                "(a mosaic with overlap cuts its tiles too): select from the index instead, or "
                "convert with ds.tiffstack.to_ome_zarr (tiffstack convert)"
            )
    at = np.ix_(np.arange(len(paths)), *inner)
    dropped = [a for a, taken in enumerate(reads.index) if isinstance(taken, int)]
    kept = [a for a in range(len(reads.index)) if a not in dropped]
    shape = (*own, *(len(each) for each in inner))
    turn = [kept.index(axis) for axis in reads.axes]
    grids = (each[at].reshape(shape) for each in (which, offsets, counts))
    first, second, third = (
        each.reshape([n for a, n in enumerate(shape) if a in kept]).transpose(turn)
        for each in grids
    )
    return first, second, third


def _place(
    found: list[Ranges],
    storage: Storage,
    held: tuple[int, ...],
    offsets: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Write the ranges of one file where its pages are."""
    part = tuple(map(slice, held))
    for each in found:
        per_page = math.prod(held) // each.total if math.prod(held) % each.total == 0 else 0
        if each.storage == storage and per_page == each.offsets.shape[1]:
            for values, target in ((each.offsets, offsets), (each.counts, counts)):
                view = target[part].reshape(each.total, per_page)
                view[each.pages] = values
                target[part] = view.reshape(held)
        elif len(each.pages) == each.total or not per_page:
            offsets[part] = DECODE
        else:
            view = offsets[part].reshape(each.total, per_page)
            view[each.pages] = DECODE
            offsets[part] = view.reshape(held)


def _joined(
    grids: np.ndarray, tiles: np.ndarray, storage: Storage
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put the chunks of tiles together, where their borders are borders of chunks."""
    reads = files_of(tiles.flat[0])
    assert isinstance(reads, Reads)
    for axis in range(tiles.ndim):
        along = [
            tile.shape[axis]
            for tile in np.moveaxis(tiles, axis, 0).reshape(len(np.moveaxis(tiles, axis, 0)), -1)[
                :, 0
            ]
        ]
        chunk = _chunk(reads, storage, axis)
        if any(n % chunk for n in along[:-1]):
            raise ValueError(
                f"the tiles of this mosaic have lengths {sorted(set(along))}, which are no "
                f"multiples of the {chunk} pixels that are stored together: convert it with "
                "ds.tiffstack.to_ome_zarr (tiffstack convert)"
            )
    return tuple(  # type: ignore[return-value]
        _block(np.vectorize(lambda grid, k=k: _Box(grid[k]), [object])(grids)) for k in range(3)
    )


class _Box:
    """An array that NumPy does not unpack."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def _block(boxes: np.ndarray) -> np.ndarray:
    """Put arrays together along all their dimensions."""
    if boxes.ndim == 0 or boxes.size == 1:
        return boxes.ravel()[0].array  # type: ignore[no-any-return]
    axis = max(a for a, n in enumerate(boxes.shape) if n > 1)
    rows = [_Box(_block(part)) for part in np.split(boxes, boxes.shape[axis], axis)]
    return np.concatenate([row.array for row in rows], axis)


def _chunk(reads: Reads, storage: Storage, dim: int) -> int:
    """Length of a chunk along a dimension of a view of files."""
    axis = reads.axes[dim] - reads.grid.paths.ndim
    return storage.chunk[axis] if axis >= 0 else 1


def _numbered(
    reads: Reads,
    storage: Storage,
    tables: dict[_Key, list[Ranges]],
    grid: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> References:
    """Gather what was found of all files."""
    which, offsets, counts = grid
    ndim, layout = reads.grid.paths.ndim, reads.grid.layout
    files, found = [path for path, _ in tables], list(tables.values())
    decoded = {
        files[k]: _reason(found[k], storage)
        for k in np.unique(which[(offsets == DECODE) & (which != NO_FILE)]).tolist()
    }
    if reads.grid.fill_value != 0:  # Zarr would read that where a file says that pixels are 0
        unsaid = (offsets == ABSENT) & (which != NO_FILE)
        offsets = np.where(unsaid, DECODE, offsets)
        why = "pixels that are 0 and not stored, which Zarr takes for fill_value"
        decoded |= {files[k]: why for k in np.unique(which[unsaid]).tolist()}
    across = layout.axes.index("x") if "x" in layout.axes else len(layout.axes) - 1
    return References(
        storage=storage,
        chunks=tuple(_chunk(reads, storage, dim) for dim in range(which.ndim)),
        order=tuple(sorted(range(which.ndim), key=lambda dim: reads.axes[dim])),
        across=reads.axes.index(ndim + across),
        files=tuple(files),
        which=which,
        offsets=offsets,
        counts=counts,
        fill_value=reads.grid.fill_value,
        decoded=decoded,
    )


def _reason(found: list[Ranges], storage: Storage) -> str:
    """Why some of the pixels of a file are no ranges of it."""
    for each in found:
        if isinstance(each.storage, str):
            return each.storage
        if each.storage != storage:
            return _difference(each.storage, storage)
    return "last strips that are short (--irregular refers to them), or strips of a false length"


def _difference(own: Storage, most: Storage) -> str:
    """Say what is stored otherwise than in most files."""
    words = {
        "compression": f"compression {own.compression}, most have {most.compression}",
        "order": "the other order of bytes",
        "chunk": f"strips or tiles of {own.chunk}, most have {most.chunk}",
        "predictor": "another predictor",
        "padded": "strips, most have tiles" if most.padded else "tiles, most have strips",
    }
    return next(text for name, text in words.items() if getattr(own, name) != getattr(most, name))
