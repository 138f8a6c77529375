"""The pixels that an index holds: coarser levels, what no codec can read, and display limits."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from xarray_tiffstack.index.references import DECODE
from xarray_tiffstack.ome_zarr.journal import FIELDS, Journal, path_of
from xarray_tiffstack.ome_zarr.pixels import Arrays
from xarray_tiffstack.ome_zarr.pool import PROCESSORS, pool_of
from xarray_tiffstack.ome_zarr.progress import bar
from xarray_tiffstack.ome_zarr.source import Source
from xarray_tiffstack.ome_zarr.store import Store
from xarray_tiffstack.ome_zarr.writer import Levels, Writer, display_limits, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xarray_tiffstack.index.references import References
    from xarray_tiffstack.ome_zarr.images import Image
    from xarray_tiffstack.ome_zarr.pixels import Pixels, Slices
    from xarray_tiffstack.ome_zarr.plan import Block, Plan
    from xarray_tiffstack.ome_zarr.progress import Shown

SAMPLE = 100_000  # pixels of a plane, about, that display limits are read off
Limits = dict[int, tuple[float, float]]


def chunk_grid(plan: Plan, image: Image, chunks: np.ndarray) -> np.ndarray:
    """Take what belongs to one image of something that is known of every chunk."""
    dims = plan.variable.dims
    return chunks[tuple(image.at.get(str(d), slice(None)) for d in dims)]


def decoded(plan: Plan, refs: References) -> Iterator[tuple[Image, tuple[int, ...], np.ndarray]]:
    """Read what cannot be referred to: the image, the position of its chunk, and its pixels."""
    dims, lengths = plan.variable.dims, refs.chunks
    inner = [i for i, d in enumerate(dims) if str(d) in plan.axes]
    for image in plan.images:
        own = plan.variable.isel(image.at)
        for at in np.argwhere(chunk_grid(plan, image, refs.offsets) == DECODE).tolist():
            part = tuple(
                slice(k * lengths[i], (k + 1) * lengths[i]) for k, i in zip(at, inner, strict=True)
            )
            yield image, tuple(at), np.asarray(own[part].compute(scheduler="synchronous").values)


def region_of(refs: References, plan: Plan, at: tuple[int, ...]) -> Slices:
    """Place of a chunk in the array of its image."""
    dims = plan.variable.dims
    lengths = [refs.chunks[i] for i, d in enumerate(dims) if str(d) in plan.axes]
    shape = plan.settings.shape(0).values()
    return tuple(
        slice(k * n, min((k + 1) * n, length))
        for k, n, length in zip(at, lengths, shape, strict=True)
    )


def sampled_limits(plan: Plan, refs: References) -> Limits:
    """Intensities to display of each channel, off three planes of it; files are read for that."""
    variable, channel = plan.variable, plan.collection.channel
    others = [str(d) for d in variable.dims if d not in ("y", "x", channel)]
    found: Limits = {}
    empty = refs.which < 0
    for c in range(variable.sizes[channel] if channel else 1):
        samples = []
        for step in range(3):
            at = {d: step * (variable.sizes[d] - 1) // 2 for d in others if d != "z"}
            at |= {"z": variable.sizes["z"] // 2} if "z" in others else {}
            at |= {channel: c} if channel else {}
            chunk = zip(variable.dims, refs.chunks, strict=True)
            if empty[tuple(at.get(str(d), 0) // n for d, n in chunk)]:
                continue
            with suppress(OSError, ValueError):
                plane = variable.isel(at)
                stride = max(1, round((plane.size / SAMPLE) ** 0.5))
                pixels = plane.compute(scheduler="synchronous").values
                samples.append(pixels[::stride, ::stride].ravel())
        low, high = display_limits(samples, bool(empty.any()))
        if np.isfinite(low) and high > low:
            found[c] = low, high
    return found


class _Referred:
    """Full resolution of an image, which is in the files: nothing is written to it."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __getitem__(self, region: Slices) -> np.ndarray:
        return np.asarray(self.array[region])

    def __setitem__(self, region: Slices, pixels: np.ndarray) -> None:
        pass


class _Coarser(Arrays):
    """The arrays of an index, of which full resolution stays as it is."""

    def __getitem__(self, place: tuple[Image, int]) -> Pixels:
        pixels = super().__getitem__(place)
        return pixels if place[1] else _Referred(pixels)


class _Memory(Journal):
    """A journal in memory: an index is committed as one, or not at all."""

    def __init__(self, plan: Plan) -> None:
        memory = zarr.storage.MemoryStore()
        for step, grid in enumerate(plan.grids):
            shape = (len(plan.images), *grid, len(FIELDS) + len(plan.passes[step].writes))
            zarr.create_array(memory, name=path_of(step), shape=shape, dtype="f8")
        super().__init__(plan, memory, "r+")

    def note(self, block: Block, entry: Sequence[float], broken: Any = ()) -> None:
        """Note that a block is finished; what was broken ends the work."""
        super().note(block, entry, {})


def write_coarser(plan: Plan, target: Any, workers: int | None, progress: Shown) -> Limits:
    """Make the coarser levels as a conversion does; returns display limits.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    store = Store(plan, target, "zarr", workers)
    levels = Levels(plan, Source(plan), _Coarser(plan, target, "zarr", workers))
    store.writer = Writer(levels, _Memory(plan), target)
    total = sum(map(plan.nbytes, plan.blocks))
    with (
        bar("indexed", total, progress) as advance,
        pool_of(None, workers or PROCESSORS, target) as pool,
        closing(write(store, plan.blocks, pool)) as done,
    ):
        for block, broken in done:
            advance(plan.nbytes(block))
            for failure in broken.values():
                raise OSError(
                    f"{failure.path}: {failure.error}; coarser levels need every file: opened with "
                    'validate="headers" it is a missing slot, or index with levels=1'
                )
    return store.limits(store.writer.journal.read()[0])
