"""What a conversion would do, found by reading alone: nothing is written, not even a lock."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xarray_tiffstack.messages import counted
from xarray_tiffstack.ome_zarr import parts, place
from xarray_tiffstack.ome_zarr.decision import Decision, Outcome, decide
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.keeping import with_room
from xarray_tiffstack.ome_zarr.notes import read_notes
from xarray_tiffstack.ome_zarr.plan import Block, Plan
from xarray_tiffstack.ome_zarr.settings import LIMITS, Limits, Options, make_settings
from xarray_tiffstack.ome_zarr.store import Store

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import xarray as xr
    from zarr.abc.store import Store as ZarrStore

    from xarray_tiffstack.ome_zarr.keeping import Keeper
    from xarray_tiffstack.ome_zarr.pixels import Target
    from xarray_tiffstack.ome_zarr.results import Kept

OUTCOMES: dict[Outcome, str] = {
    "create": "would be created",
    "resume": "would be resumed",
    "replace": "would be replaced",
    "nothing": "is complete, nothing would be done",
    "refuse": "would be refused",
}


@dataclass(frozen=True)
class Pixels:
    """The array of one level, the same in each image."""

    path: str
    """Where it is in the store, in the first image."""
    shape: Mapping[str, int]
    """Length of each axis."""
    chunk: Mapping[str, int]
    """Extent of a chunk."""
    shard: Mapping[str, int] | None
    """Extent of a shard, where chunks share files."""
    files: int
    """Files of one image, where no chunk is left out because it is all zeros."""
    nbytes: int
    """Bytes of one image, not compressed."""


@dataclass(frozen=True)
class Forecast:
    """What a conversion would do."""

    store: str
    """The store."""
    outcome: Outcome
    """Whether a store would be created, resumed or replaced, be left as it is, or not be touched
    because the conversion would end with an error."""
    reason: str
    """Why it would be refused."""
    levels: tuple[Pixels, ...]
    """Arrays of one image."""
    images: int
    """Images of the store."""
    files: int
    """Files of the source."""
    missing: int
    """Slots without a file, to be filled."""
    blocks: int
    """Parts that the work is cut into."""
    todo: int
    """Blocks to be written."""
    reads: int
    """Bytes of pixels to be read for them."""
    free: int | None
    """Bytes that are free on the disk of a local store."""
    kept: Kept | None = None
    """What would be kept of the files beside their pixels, where that was asked for."""
    kept_nbytes: int = 0
    """Bytes of that at most, as the headers of the files say, not compressed."""
    part: tuple[int, int] | None = None
    """Which part of the conversion this is, and of how many; `todo` and `reads` are of it alone."""
    others: int = 0
    """Blocks that other parts have to write."""
    waiting: int = 0
    """Blocks among those to be written that are made of what other parts have not written yet."""

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels of the store, not compressed."""
        return self.images * sum(level.nbytes for level in self.levels)

    @property
    def stored(self) -> int:
        """Files of all pixels of the store, at most."""
        return self.images * sum(level.files for level in self.levels)

    def __str__(self) -> str:
        """Return it in a few lines."""
        lines = [f"{self.store}: {OUTCOMES[self.outcome]}{self.reason and f': {self.reason}'}"]
        for level in self.levels:
            shard = f", shards of {_extent(level.shard)}" if level.shard else ""
            lines.append(
                f"  {level.path}: {_extent(level.shape)}, "
                f"in chunks of {_extent(level.chunk)}{shard}, "
                f"{level.nbytes / 1e6:,.1f} MB, at most {counted(level.files, 'file')}"
            )
        each = f", {counted(self.images, 'image')} like this" if self.images > 1 else ""
        lines.append(
            f"  in all {self.nbytes / 1e9:.2f} GB, not compressed, at most "
            f"{counted(self.stored, 'file')} of pixels{each}"
        )
        missing = (
            f"; {counted(self.missing, 'slot')} without a file to fill" if self.missing else ""
        )
        lines.append(f"  from {counted(self.files, 'file')}{missing}")
        if self.kept is not None:
            lines += [f"  {line}" for line in str(self.kept).splitlines()]
            size = f"{self.kept_nbytes / 1e6:,.1f} MB"
            lines.append(f"  kept beside the pixels: at most {size}, not compressed")
        if self.outcome not in ("nothing", "refuse"):
            who = "part {} of {} has ".format(*self.part) if self.part else ""
            lines.append(
                f"  {who}to write: {self.todo:,} of {counted(self.blocks, 'block')}, for which "
                f"{self.reads / 1e9:.2f} GB are read"
            )
        if self.others:
            wait = f"; {self.waiting:,} of this part wait for them" if self.waiting else ""
            lines.append(f"  left to other parts: {counted(self.others, 'block')}{wait}")
        if self.free is not None:
            short = self.free < self.nbytes + self.kept_nbytes
            full = " - less than that, so it may not fit" if short else ""
            lines.append(f"  free on the disk: {self.free / 1e9:.2f} GB{full}")
        return "\n".join([*lines, "nothing was written"])


def forecast(
    ds: xr.Dataset,
    store: str | os.PathLike[str] | ZarrStore,
    options: Options,
    *,
    overwrite: bool = False,
    part: parts.Given | None = None,
    keeper: Keeper | None = None,
    limits: Limits = LIMITS,
) -> Forecast:
    """Find what `convert` would do with the same arguments.

    Costs the reading of what a store says of itself, and one `stat` of each file that is in it
    already; no pixel is read. With a `keeper` the headers of all files are, and one strip or tile
    of each compressed file.

    Raises
    ------
    ValueError
        The options are not possible.
    """
    share = parts.check_part(part, overwrite=overwrite)
    collection = collect(ds, options.voxel_size)
    plan = Plan(collection, make_settings(collection, options, limits), limits)
    target, kept, nbytes = place.target_of(store), None, 0
    try:
        place.check(target, plan)
        if keeper is not None:
            plan = with_room(plan, keeper)
            kept, nbytes = keeper.expected(plan)
    except (ValueError, FileExistsError) as error:
        decided = Decision("refuse", [], str(error))
    else:
        made = Store(plan, target)
        made.part = share
        decided = decide(made, read_notes(target), overwrite, made.left)
        plan = made.plan
    own = set(share.share(plan.blocks, plan) if share is not None else plan.blocks)
    todo, others = ([b for b in decided.todo if (b in own) == mine] for mine in (True, False))
    paths, present = collection.paths, collection.ds.get("present")
    return Forecast(
        store=str(store),
        outcome=decided.outcome,
        reason=decided.reason,
        levels=tuple(_pixels(plan, level) for level in plan.levels),
        images=len(plan.images),
        files=int(np.count_nonzero(paths)) if paths is not None else 0,
        missing=int((~present).sum()) if present is not None else 0,
        blocks=len(plan.blocks),
        todo=len(todo),
        reads=sum(map(plan.nbytes, todo)),
        free=_free(target),
        kept=kept,
        kept_nbytes=nbytes,
        part=(share.number, share.of) if share is not None else None,
        others=len(others),
        waiting=len(_waiting(plan, todo, others)),
    )


def _waiting(plan: Plan, todo: Sequence[Block], others: Sequence[Block]) -> set[Block]:
    """Blocks that are made of such as others have to write, or of such as wait themselves."""
    missing, found = set(others), set[Block]()
    for block in sorted(todo, key=lambda block: block.step):
        if block.step and not missing.isdisjoint(plan.inputs(block)):
            found.add(block)
            missing.add(block)
    return found


def _pixels(plan: Plan, level: int) -> Pixels:
    settings = plan.settings
    shape, unit = settings.shape(level), settings.unit(level)
    return Pixels(
        path=f"{plan.images[0].group(level)}/image",
        shape=shape,
        chunk=settings.chunk(level),
        shard=settings.shard(level),
        files=math.prod(-(-n // unit[d]) for d, n in shape.items()),
        nbytes=math.prod(shape.values()) * plan.itemsize,
    )


def _extent(lengths: Mapping[str, int]) -> str:
    """Give lengths with their axes; one along an axis says nothing.

    Examples
    --------
    >>> _extent({"t": 1, "y": 1024, "x": 768})
    'y 1024, x 768'
    """
    return ", ".join(f"{d} {n}" for d, n in lengths.items() if n > 1) or "1 pixel"


def _free(target: Target) -> int | None:
    """Bytes that are free where a local store would be."""
    if not isinstance(target, Path):
        return None
    there = next(folder for folder in (target, *target.parents) if folder.exists())
    return shutil.disk_usage(there).free
