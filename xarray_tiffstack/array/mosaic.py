"""How tiles are put together into one array, so that a selection still reaches each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from xarray_tiffstack.array.reads import (
    Chunks,
    FileGrid,
    Key,
    Reads,
    chunks_after,
    source_of,
    uniform,
)
from xarray_tiffstack.messages import first_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xarray_tiffstack.tiff import Layout


@dataclass(frozen=True, eq=False)
class Tiles:
    """What a mosaic was blocked from."""

    tiles: np.ndarray
    """Arrays that fit together, as `dask.array.block` asks, in an object array with as many
    dimensions as they have; each is a view of files (`xarray_tiffstack.array.reads.source_of`)."""
    chunks: Chunks
    """Chunk sizes of the mosaic."""

    def select(self, key: Key) -> da.Array:
        """Take part of the mosaic: of each tile, what lies there."""
        tiles = self.tiles
        for axis in reversed(range(tiles.ndim)):
            tiles = _select(tiles, axis, key[axis])
        chunks = chunks_after(self.chunks, key)
        if tiles.size == 1:
            return _reads(tiles.item()).rechunk(chunks)
        return _cut(tiles, chunks)

    def transpose(self, order: tuple[int, ...]) -> da.Array:
        """Reorder the dimensions, of every tile and of their arrangement."""
        tiles = _map(lambda tile: _reads(tile).transpose(order), self.tiles.transpose(order))
        return block(tiles, tuple(self.chunks[i] for i in order))

    def rechunk(self, chunks: Chunks) -> da.Array:
        """Cut the mosaic into other chunks; each tile is read in the pieces that are asked for."""
        return _cut(self.tiles, chunks)

    @property
    def device(self) -> str | None:
        """Where it is read to."""
        return _reads(self.tiles.flat[0]).device

    def on(self, device: str | None) -> da.Array:
        """Read to a device, or to the host."""
        return block(_map(lambda tile: _reads(tile).on(device), self.tiles), self.chunks)


def block(tiles: np.ndarray, chunks: Chunks | None = None) -> da.Array:
    """Block tiles into one dask array, whose top layer remembers them.

    Parameters
    ----------
    tiles
        As in `Tiles`.
    chunks
        Chunk sizes of the mosaic; by default the tiles' own where Zarr can take them (all of one
        size but the last), else uniform ones.
    """
    array = da.block(tiles.tolist())
    chunks = chunks or tuple(_zarr_chunks(along) for along in array.chunks)
    if chunks != array.chunks:
        array = array.rechunk(chunks)
    layers = {**array.dask.layers}
    layers[array.name] = _Blocked(dict(layers[array.name]), Tiles(tiles, chunks))
    graph = HighLevelGraph(layers, array.dask.dependencies)
    return da.Array(graph, array.name, array.chunks, meta=array._meta)


@dataclass(frozen=True)
class Join:
    """One image axis along which tiles are put together."""

    axis: str
    """Name of the image axis, such as ``"x"``."""
    token: str
    """Token that counts the tiles along it."""
    descending: bool = False
    """Whether the tile with the largest value comes first."""
    overlap: float = 0
    """What neighbours share, in pixels, or below 1 as a fraction of a tile."""

    @property
    def dim(self) -> str:
        """Dimension along which the tiles themselves are listed."""
        return f"tile_{self.axis}"

    def kept(self, lengths: Sequence[int]) -> list[slice]:
        """Say what is kept of each tile: half of the overlap is trimmed from either neighbour."""
        if not 0 <= self.overlap < min(lengths):
            raise ValueError(
                f"overlap={self.overlap} along {self.axis}: tiles of {min(lengths)} pixels cannot "
                "share that; give pixels, or a fraction below 1"
            )
        last = len(lengths) - 1
        kept = []
        for i, length in enumerate(lengths):
            shared = round(self.overlap * length) if self.overlap < 1 else int(self.overlap)
            start = shared // 2 if i > 0 else 0
            stop = length - (shared - shared // 2) if i < last else length
            kept.append(slice(start, stop))
        return kept


def stitch(
    paths: np.ndarray,
    joins: Sequence[Join],
    probe: Callable[[np.ndarray], Layout | None],
    fill_value: float,
) -> tuple[da.Array, dict[str, list[int]]]:
    """Put tiles together: probe one file of each, trim what they share, and block them.

    Parameters
    ----------
    paths
        Paths of the grid of files; its last dimensions are those of `joins`, in their order.
    joins
        Along which image axes the tiles are put together.
    probe
        Gives the layout of the files of a tile, None where it has none.
    fill_value
        Pixel value where there is no file.

    Returns
    -------
    array
        Dimensions of the grid but for the joined ones, then those of an image.
    lengths
        Pixels kept of each tile, along each joined axis.

    Raises
    ------
    ValueError
        Tiles do not fit together; the message names them and their shapes.
    """
    outer = paths.ndim - len(joins)
    count = paths.shape[outer:]
    layouts = np.empty(count, object)
    for at in np.ndindex(count):
        layouts[at] = probe(paths[(..., *at)])
    first = next(layout for layout in layouts.flat if layout is not None)
    lengths: dict[str, list[int]] = {}
    for i, join in enumerate(joins):
        if join.axis not in first.axes:
            example = next(path for path in paths.flat if path is not None)
            raise ValueError(
                f"files that differ in {join.token!r} cannot be put together along "
                f"{join.axis!r}: their axes are {', '.join(first.axes)}, as in {example}. Open "
                "them without mosaic=, or one part alone (a glob)."
            )
        along = first.axes.index(join.axis)
        rows = np.moveaxis(layouts, i, 0).reshape(count[i], -1)
        lengths[join.axis] = [
            next((t.shape[along] for t in row if t is not None), first.shape[along]) for row in rows
        ]
    tiles = np.empty(count, object)
    misfits = []
    kept = {join.axis: join.kept(lengths[join.axis]) for join in joins}
    for at in np.ndindex(count):
        place = {join.axis: i for join, i in zip(joins, at, strict=True)}
        shape = tuple(
            lengths[axis][place[axis]] if axis in place else size
            for axis, size in zip(first.axes, first.shape, strict=True)
        )
        expected = replace(first, shape=shape)
        if layouts[at] not in (None, expected):
            where = ", ".join(f"{axis} {i}" for axis, i in place.items())
            misfits.append(f"tile {where}: {layouts[at]}, its neighbours make it {expected}")
            continue
        files = FileGrid(paths[(..., *at)].copy(), expected, fill_value).array()
        trim = [kept[a][place[a]] if a in place else slice(None) for a in first.axes]
        tiles[at] = _reads(files).select((*[slice(None)] * outer, *trim))
    if misfits:
        raise ValueError(f"{len(misfits)} tiles do not fit:\n{first_lines(misfits)}")
    order = [next((i for i, j in enumerate(joins) if j.axis == a), None) for a in first.axes]
    arranged = tiles.transpose([i for i in order if i is not None])
    shape = (*[1] * outer, *(1 if i is None else count[i] for i in order))
    lengths = {a: [part.stop - part.start for part in parts] for a, parts in kept.items()}
    return block(arranged.reshape(shape)), lengths


class _Blocked(MaterializedLayer):  # type: ignore[misc]
    """Top layer of a mosaic's graph; it knows the tiles below."""

    def __init__(self, mapping: dict[Any, Any], tiles: Tiles) -> None:
        super().__init__(mapping)
        self.tiles = tiles


def tiles_of(array: object) -> Tiles | None:
    """Find the tiles that a dask array was blocked from, None where it is no mere mosaic."""
    layer = array.dask.layers.get(array.name) if isinstance(array, da.Array) else None
    return layer.tiles if isinstance(layer, _Blocked) else None


def files_of(array: object) -> Reads | Tiles | None:
    """Find what a dask array reads of files, None where it is no mere view of them."""
    return source_of(array) or tiles_of(array)


def _reads(tile: da.Array) -> Reads:
    reads = source_of(tile)
    assert reads is not None, "a tile is a view of files"
    return reads


def _map(function: Callable[[da.Array], da.Array], tiles: np.ndarray) -> np.ndarray:
    """Apply a function to each array of an object array."""
    out = np.empty(tiles.size, object)
    for i, tile in enumerate(tiles.flat):  # one by one: NumPy would unpack what looks like arrays
        out[i] = function(tile)
    return out.reshape(tiles.shape)


def _lengths(tiles: np.ndarray, axis: int) -> np.ndarray:
    """Lengths of the tiles along one dimension."""
    first = tuple(slice(None) if a == axis else 0 for a in range(tiles.ndim))
    return np.array([tile.shape[axis] for tile in tiles[first]])


def _select(tiles: np.ndarray, axis: int, part: int | slice | np.ndarray) -> np.ndarray:
    """Take part of the mosaic along one dimension."""

    def of_each(tiles: np.ndarray, local: int | slice | np.ndarray) -> np.ndarray:
        def key(tile: da.Array) -> Key:
            return (*[slice(None)] * axis, local, *[slice(None)] * (tile.ndim - axis - 1))

        return _map(lambda tile: _reads(tile).select(key(tile)), tiles)

    stops = np.cumsum(_lengths(tiles, axis))
    picked = np.arange(stops[-1])[part]
    which = np.searchsorted(stops, picked, side="right")
    local = picked - np.concatenate([[0], stops])[which]
    if picked.ndim == 0:
        return of_each(tiles.take([int(which)], axis), int(local)).squeeze(axis)
    if not picked.size:
        return of_each(tiles.take([0], axis), slice(0, 0))
    borders = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(picked)]
    return np.concatenate(
        [
            of_each(tiles.take([int(which[start])], axis), _simplest(local[start:stop]))
            for start, stop in pairwise(borders)
        ],
        axis,
    )


def _simplest(picked: np.ndarray) -> slice | np.ndarray:
    """Spell evenly spaced positions as a slice."""
    step = int(picked[1] - picked[0]) if len(picked) > 1 else 1
    if step == 0 or (np.diff(picked) != step).any():
        return picked
    stop = int(picked[-1]) + (1 if step > 0 else -1)
    return slice(int(picked[0]), stop if stop >= 0 else None, step)


def _cut(tiles: np.ndarray, chunks: Chunks) -> da.Array:
    """Chunk each tile at the borders that fall into it, and block them."""
    stops = [np.cumsum(_lengths(tiles, axis)) for axis in range(tiles.ndim)]
    borders = [np.cumsum(along) for along in chunks]
    cut = np.empty(tiles.shape, object)
    for at in np.ndindex(tiles.shape):
        tile = tiles[at]
        own = []
        for axis, length in enumerate(tile.shape):
            stop = stops[axis][at[axis]]
            inside = borders[axis][(borders[axis] > stop - length) & (borders[axis] < stop)]
            own.append(tuple(np.diff([0, *(inside - stop + length), length]).tolist()))
        cut[at] = _reads(tile).rechunk(tuple(own))
    return block(cut, chunks)


def _zarr_chunks(chunks: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks that Zarr can take: the same, or all of the largest size and a rest."""
    if len(set(chunks[:-1])) <= 1 and chunks[-1] <= chunks[0]:
        return chunks
    return uniform(max(chunks), sum(chunks))
