"""How a block becomes chunks of every level: read once, halved, written, and noted as finished."""

from __future__ import annotations

import logging
import time
from contextlib import closing, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from xarray_tiffstack.ome_zarr.levels import Coarser, Memory, halve
from xarray_tiffstack.ome_zarr.pixels import arrived
from xarray_tiffstack.ome_zarr.plan import length
from xarray_tiffstack.ome_zarr.pool import RESUMES, run
from xarray_tiffstack.ome_zarr.source import BrokenError
from xarray_tiffstack.ome_zarr.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from xarray_tiffstack.ome_zarr.journal import Journal
    from xarray_tiffstack.ome_zarr.keeping import Keeper
    from xarray_tiffstack.ome_zarr.pixels import Arrays, Pixels, Target
    from xarray_tiffstack.ome_zarr.plan import Block, Plan, Region
    from xarray_tiffstack.ome_zarr.pool import Pool
    from xarray_tiffstack.ome_zarr.source import Broken, Source
    from xarray_tiffstack.ome_zarr.store import Store

LOG = logging.getLogger(__name__)

SAMPLE = 100_000  # bytes of a block, about, that its display limits are read off


class Levels:
    """Pixels of the levels of blocks, made from what is read."""

    def __init__(self, plan: Plan, source: Source, arrays: Arrays) -> None:
        self.plan, self.source, self.arrays = plan, source, arrays
        self._coarse = [Memory() for _ in plan.levels]

    def array(self, block: Block, level: int) -> Pixels:
        """Where the pixels of a level are kept."""
        return self.arrays[self.plan.images[block.image], level]

    def fine(self, block: Block, broken: Broken) -> Iterator[tuple[Region, np.ndarray]]:
        """Pixels of the level that a block reads, piece by piece."""
        plan = self.plan
        step = plan.passes[block.step]
        # Pairs may be cut along the axis of the last cut only.
        halved = {plan.axes[i] for i in plan.halved(step.reads, step.writes[-1])}
        unit = {
            d: max(n, 2) if d in halved else n for d, n in plan.settings.unit(step.reads).items()
        }
        for region in plan.pieces(plan.region(block, step.reads), unit):
            if block.step:
                yield region, self.array(block, step.reads)[tuple(region.values())]
            else:
                yield region, self.source.read(block.image, region, broken)

    def made(
        self,
        block: Block,
        broken: Broken,
        see: Callable[[np.ndarray], None] = lambda pixels: None,
    ) -> Iterator[tuple[int, Region, np.ndarray]]:
        """Pixels of each level that a block writes: the level, where, and what.

        Full resolution comes piece by piece as it is read, and the level below it is made
        meanwhile; of that and the coarser ones each is one piece. `see` is given what is read in
        C order, in parts that are in the cache just then.
        """
        plan, method = self.plan, self.plan.settings.method
        step = plan.passes[block.step]
        reads, below = step.reads, [level for level in step.writes if level > step.reads]
        regions = {level: plan.region(block, level) for level in (reads, *below)}
        shapes = {level: [length(s) for s in regions[level].values()] for level in regions}
        dtype = plan.collection.dtype
        coarse = {level: self._coarse[level].array(shapes[level], dtype) for level in below}
        if below:
            halved = plan.halved(reads, below[0])
            coarser = Coarser(shapes[reads], halved, coarse[below[0]], method)
        first = [along.start for along in regions[reads].values()]
        for region, pixels in self.fine(block, broken):
            if reads in step.writes:
                yield reads, region, pixels
            if below:
                start = [along.start - at for along, at in zip(region.values(), first, strict=True)]
                coarser.take(start, pixels, see)
            else:
                see(pixels)
        for finer, level in pairwise((reads, *below)):
            if finer != reads:
                halve(coarse[finer], plan.halved(finer, level), coarse[level], method)
            yield level, regions[level], coarse[level]


class Writer:
    """Writes blocks; in any thread. `require` raises where another conversion took over."""

    def __init__(
        self,
        levels: Levels,
        journal: Journal,
        target: Target,
        keeper: Keeper | None = None,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        self.levels, self.journal, self.target, self.keeper = levels, journal, target, keeper
        self.require = require
        self.plan, self.source = levels.plan, levels.source

    def write(self, block: Block) -> Broken:
        """Read a block, write its levels, note that it is finished; returns what was broken."""
        broken: Broken = {}
        started = time.perf_counter()
        while True:
            before = self.source.fingerprint(block)
            try:
                entry = self._transfer(block, broken)
            except BrokenError:
                continue
            finally:
                with self._writing():
                    arrived()
            self.require()
            if self.keeper is not None:
                with self._writing():
                    self.keeper.keep(self.target, self.plan, block, broken)
            slots = self.plan.slots_of(block)
            if broken.keys() >= set(slots) or self.source.fingerprint(block) == before:
                break
            for slot in slots:
                self.source.give_up(slot, OSError("it changed while it was read"), broken)
        self.require()
        with self._writing():
            self.journal.note(block, [before, len(broken), *entry], broken)
        if LOG.isEnabledFor(logging.DEBUG):
            files = self.plan.files(block)
            named = f"{files[0]} to {files[-1]}" if len(files) > 1 else "".join(files)
            LOG.debug("block %s, %s: %.2f s", block.entry, named, time.perf_counter() - started)
        return broken

    def _transfer(self, block: Block, broken: Broken) -> list[float]:
        """Write the levels of a block; returns display limits, and a checksum a level."""
        step = self.plan.passes[block.step]
        sums = dict.fromkeys((step.reads, *step.writes), 0)
        samples = []
        stride = max(1, round((self.plan.nbytes(block) / SAMPLE) ** (1 / 3)))

        def see(pixels: np.ndarray) -> None:
            sums[step.reads] = checksum(pixels, sums[step.reads])

        for level, region, pixels in self.levels.made(block, broken, see):
            if level == step.reads:
                sparse: Any = (..., *[slice(None, None, stride)] * min(3, pixels.ndim))
                samples.append(pixels[sparse].flatten())
            self.require()
            with self._writing():
                self.levels.array(block, level)[tuple(region.values())] = pixels
            if level != step.reads:
                sums[level] = checksum(pixels)
        limits = display_limits(samples, bool(broken) or self.plan.has_holes(block))
        return [*limits, *(sums[level] for level in step.writes)]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say of any error that it is the store that cannot be written."""
        try:
            yield
        except Exception as error:
            raise OSError(f"{self.target} cannot be written: {error}\n{RESUMES}") from error


def write(store: Store, blocks: Iterable[Block], pool: Pool) -> Generator[tuple[Block, Broken]]:
    """Write blocks, pass after pass; gives each when it is finished, and what was broken.

    Raises
    ------
    BlockingIOError
        Another conversion took over. Threads write nothing more then; other processes, who cannot
        know, end the blocks that they have.
    """
    task = Task(_write_block, store)
    for group in store.plan.by_pass(blocks):
        with closing(run(group, task, pool, store.plan.files)) as done:
            for each in done:
                store.require()
                yield each


def _write_block(store: Store, block: Block) -> Broken:
    return store.writer.write(block)


def checksum(pixels: np.ndarray, found: int = 0) -> int:
    """CRC-32 of pixels in C order, continued from one before; as `zlib.crc32`, 20 times as fast.

    Does not hold Python's lock, under which the other workers would wait.
    """
    flat: Any = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    return int(imagecodecs.deflate_crc32(flat, found)) if flat.size else found


def summed(pieces: Iterable[np.ndarray]) -> int:
    """Checksum of pieces that follow each other."""
    found = 0
    for pixels in pieces:
        found = checksum(pixels, found)
    return found


def display_limits(samples: Sequence[np.ndarray], holes: bool) -> tuple[float, float]:
    """Intensities below and above which one pixel in a thousand lies; what fills holes aside."""
    sample = np.concatenate(samples) if samples else np.empty(0)
    if holes:
        sample = sample[sample != 0]
    if sample.dtype.kind not in "iuf" or not np.isfinite(sample).any():
        return np.nan, np.nan
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.nanpercentile(sample, (0.1, 99.9))
    return float(low), float(high)
