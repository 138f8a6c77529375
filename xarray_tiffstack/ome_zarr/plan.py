"""One conversion, decided: which blocks there are, and which part of each level and file is whose.

Made once, and never changed: reader, writer, verification and growth take it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xarray_tiffstack.ome_zarr.settings import LIMITS, Limits, Pass, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import xarray as xr

    from xarray_tiffstack.ome_zarr.images import Collection, Image, Slot

Region: TypeAlias = dict[str, slice]


@dataclass(frozen=True)
class Block:
    """What is read and written at once, and is finished or not."""

    step: int
    """Position of its pass."""
    image: int
    """Position of its image."""
    index: tuple[int, ...]
    """Position among the blocks of the image, along each dimension."""

    @classmethod
    def of(cls, stored: tuple[int, Sequence[int]]) -> Block:
        """Make one of its pass and its entry, as they are kept in a store."""
        step, (image, *index) = stored
        return cls(step, image, tuple(index))

    @property
    def entry(self) -> tuple[int, ...]:
        """Where its entry is in the journal of its pass."""
        return self.image, *self.index


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that follows from a Dataset and the settings of its store."""

    collection: Collection
    """The Dataset, its images and their axes."""
    settings: Settings
    """What decides the bytes of the store."""
    limits: Limits = LIMITS
    """Where the work is cut."""

    def __getstate__(self) -> dict[str, Any]:
        """Take along what all else follows from."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of one image."""
        return tuple(self.collection.axes)

    @cached_property
    def images(self) -> tuple[Image, ...]:
        """Images of the store."""
        return self.collection.images

    @cached_property
    def variable(self) -> xr.Variable:
        """Pixels of the source."""
        return self.collection.ds["image"].variable

    @cached_property
    def itemsize(self) -> int:
        """Bytes of a pixel."""
        return self.collection.dtype.itemsize

    @cached_property
    def levels(self) -> range:
        """Levels of each image."""
        return range(len(self.settings.factors))

    @cached_property
    def places(self) -> tuple[tuple[Image, int], ...]:
        """Each level of each image."""
        return tuple(itertools.product(self.images, self.levels))

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """Rounds over the blocks."""
        return tuple(
            Pass(step["reads"], tuple(step["writes"]), step["block"])
            for step in self.settings.passes
        )

    @cached_property
    def grids(self) -> tuple[tuple[int, ...], ...]:
        """How many blocks each image has along each axis, of each pass."""
        return tuple(
            tuple(-(-self.settings.shape(step.reads)[d] // step.block[d]) for d in self.axes)
            for step in self.passes
        )

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in the order in which they are written."""
        return tuple(
            Block(step, image, index)
            for step, grid in enumerate(self.grids)
            for image in range(len(self.images))
            for index in np.ndindex(*grid)
        )

    @cached_property
    def nodes(self) -> dict[str, tuple[str, ...]]:
        """Names of the arrays of a group of each level."""
        return {
            str(level): ("image", *map(str, self.collection.ds.coords)) for level in self.levels
        }

    def region(self, block: Block, level: int) -> Region:
        """Part of a level that a block covers."""
        step = self.passes[block.step]
        fine, coarse = self.settings.factors[step.reads], self.settings.factors[level]
        shape, read = self.settings.shape(level), self.settings.shape(step.reads)
        region = {}
        for dim, i in zip(self.axes, block.index, strict=True):
            by = coarse.get(dim, 1) / fine.get(dim, 1)
            start, stop = i * step.block[dim], min((i + 1) * step.block[dim], read[dim])
            region[dim] = slice(int(start / by), min(int(stop / by), shape[dim]))
        return region

    def nbytes(self, block: Block) -> int:
        """Bytes of pixels that a block reads."""
        region = self.region(block, self.passes[block.step].reads)
        return math.prod(map(length, region.values())) * self.itemsize

    def pieces(self, region: Region, step: Mapping[str, int]) -> Iterator[Region]:
        """Cut a region into pieces that follow each other in C order, made of entire steps.

        Memory that is small and used again soon stays mapped, and partly cached: entire files at
        once take about 1.5 times the processor time.
        """
        extent = {dim: length(along) for dim, along in region.items()}
        if not all(extent.values()):  # of a coarse level, at the end of an odd axis
            return
        for dim in region:
            one = math.prod(extent.values()) // extent[dim] * self.itemsize
            fit = max(1, self.limits.piece // one // step[dim]) * step[dim]
            extent[dim] = min(extent[dim], fit)
            if extent[dim] > 1:  # cut along further axes they would not follow each other
                break
        cuts = (
            [
                slice(at, min(at + extent[dim], along.stop))
                for at in range(along.start, along.stop, extent[dim])
            ]
            for dim, along in region.items()
        )
        for cut in itertools.product(*cuts):
            yield dict(zip(region, cut, strict=True))

    def halved(self, finer: int, coarser: int) -> list[int]:
        """Positions of the axes along which a level is half as long as the one above."""
        above, below = self.settings.factors[finer], self.settings.factors[coarser]
        return [i for i, d in enumerate(self.axes) if below.get(d, 1) > above.get(d, 1)]

    # -- files ------------------------------------------------------------------------------

    def slots(self, image: int, region: Region) -> list[Slot]:
        """Slots of the grid of files that a region of full resolution covers."""
        at = {d: slice(i, i + 1) for d, i in self.images[image].at.items()}
        taken = ((region | at)[d] for d in self.collection.slot_dims)
        return list(itertools.product(*(range(s.start, s.stop) for s in taken)))

    def slots_of(self, block: Block) -> list[Slot]:
        """Slots that a block covers."""
        return self.slots(block.image, self.region(block, 0))

    def paths(self, slots: Sequence[Slot]) -> list[str]:
        """Paths of the files of some slots, as the Dataset has them."""
        paths = self.collection.paths
        if paths is None:
            return []
        return [str(p) for slot in slots for p in np.ravel(paths[slot]) if p]

    def files(self, block: Block) -> list[str]:
        """Paths of the files of a block."""
        return self.paths(self.slots_of(block))

    def has_holes(self, block: Block) -> bool:
        """Whether slots of a block are filled, for want of a file."""
        paths = self.collection.paths
        return paths is not None and not all(
            np.ravel(paths[slot]).all() for slot in self.slots_of(block)
        )

    def by_pass(self, blocks: Iterable[Block]) -> Iterator[list[Block]]:
        """Take blocks apart by their passes, each of which reads what the ones before wrote."""
        for _, group in itertools.groupby(blocks, lambda block: block.step):
            yield list(group)

    def inputs(self, block: Block) -> list[Block]:
        """Blocks that write what a block of a later pass reads."""
        if not block.step:
            return []
        reads = self.passes[block.step].reads
        step = max(i for i in range(block.step) if reads in self.passes[i].writes)
        above, below = self.settings.factors[self.passes[step].reads], self.settings.factors[reads]
        ranges = []
        for dim, along, count in zip(
            self.axes, self.region(block, reads).values(), self.grids[step], strict=True
        ):
            by = below.get(dim, 1) // above.get(dim, 1)
            extent = max(1, self.passes[step].block[dim] // by)
            last = min(count, max(-(-along.stop // extent), along.start // extent + 1))
            ranges.append(range(min(along.start // extent, count - 1), last))
        return [Block(step, block.image, index) for index in itertools.product(*ranges)]

    def dependents(self, blocks: Sequence[Block]) -> list[Block]:
        """Blocks of later passes that read what some blocks write."""
        found: dict[Block, None] = {}
        for step in range(1, len(self.passes)):
            reads = self.passes[step].reads
            changed = [
                (b.image, tuple(self.region(b, reads).values()))
                for b in (*blocks, *found)
                if reads in self.passes[b.step].writes
            ]
            for block in self.blocks if changed else ():
                if block.step == step and any(
                    image == block.image and _meet(region, self.region(block, reads).values())
                    for image, region in changed
                ):
                    found[block] = None
        return list(found)


def length(along: slice) -> int:
    """Length of a slice."""
    return int(along.stop - along.start)


def _meet(one: Iterable[slice], other: Iterable[slice]) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))
