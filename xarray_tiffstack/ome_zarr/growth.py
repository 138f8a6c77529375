"""A store whose time axis grows: others see it as it was until all of what came is there."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from xarray_tiffstack.ome_zarr import place
from xarray_tiffstack.ome_zarr.documents import Documents, extends
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.journal import FIELDS, REASONS, path_of
from xarray_tiffstack.ome_zarr.lock import locked
from xarray_tiffstack.ome_zarr.notes import is_growing, read_notes
from xarray_tiffstack.ome_zarr.plan import Plan
from xarray_tiffstack.ome_zarr.pool import pool_of, threads
from xarray_tiffstack.ome_zarr.settings import Options, Settings, make_settings
from xarray_tiffstack.ome_zarr.store import Store
from xarray_tiffstack.ome_zarr.writer import write

if TYPE_CHECKING:
    import os

    import xarray as xr

    from xarray_tiffstack.ome_zarr.pixels import Target
    from xarray_tiffstack.ome_zarr.plan import Block


class Growth:
    """A store that takes one time point after the other.

    Parameters
    ----------
    path
        Of the store.
    options
        What was chosen of it.
    workers
        Threads.
    overwrite
        Whether another store may be replaced.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: Options,
        workers: int | None = None,
        overwrite: bool = False,
    ) -> None:
        self.target = place.target_of(path)
        self.options, self.workers, self.overwrite = options, workers, overwrite
        self.begun = self.stuck = False
        self.written = self.nbytes = 0

    def take(self, ds: xr.Dataset) -> None:
        """Write what the store lacks; where it cannot grow to hold it, it is stuck."""
        collection = collect(ds, self.options.voxel_size)
        plan = Plan(collection, make_settings(collection, self.options))
        place.check(self.target, plan)
        with locked(self.target) as lock:
            grown = grow(plan, self.target, self.workers)
            self.stuck = grown is None and (self.begun or is_growing(read_notes(self.target), plan))
            if self.stuck:
                return
            if grown is None:
                store = Store(plan, self.target, workers=self.workers)
                grown = store, store.begin(self.overwrite, growing=True)
            store, blocks = grown
            store.lock = lock
            self.begun, self.overwrite = True, False
            with (
                pool_of(None, threads(self.workers), self.target) as pool,
                closing(write(store, blocks, pool)) as done,
            ):
                for block, _ in done:
                    self.nbytes += store.plan.nbytes(block)
            self.written += len(blocks)
            store.finish("writing")


def grow(
    plan: Plan, target: Target, workers: int | None = None
) -> tuple[Store, list[Block]] | None:
    """Let a store hold the time points that came since; None where more than that differs.

    Readers see the store as it was until `Store.finish` gathers its metadata: arrays become
    longer, and nothing that they had moves. Returns the blocks to write, those with files that
    came late among them.
    """
    notes, time = read_notes(target), plan.collection.time
    if notes is None or "settings" not in notes or time is None:
        return None
    stored = Settings(**notes["settings"])
    longer = stored.sizes | {time: plan.settings.sizes[time]}
    if replace(stored, sizes=longer, labels=plan.settings.labels) != plan.settings:
        return None
    plan = replace(plan, settings=replace(plan.settings, passes=stored.passes))
    store = Store(plan, target, workers=workers)
    store.notes = notes
    store.remember(growing=True)
    if not all(extends(store.documents, target, *at, time) for at in plan.places):
        return None
    _lengthen(store, plan, bool(notes.get("growing")))
    store.require_reasons()
    store.open()
    entries: list[np.ndarray] = store.journal.read()
    todo = [
        block
        for block in plan.blocks
        if entries[block.step][block.entry][1] != 0
        or entries[block.step][block.entry][0] != store.source.fingerprint(block)
    ]
    store.journal.forget([b for b in todo if not np.isnan(entries[b.step][b.entry]).all()])
    return store, todo


def _lengthen(store: Store, plan: Plan, growing: bool) -> None:
    """Make the arrays of a store longer, which its readers do not see yet."""
    root = zarr.open_group(store.target, mode="r+", use_consolidated=False)
    if not growing:
        before = Documents(plan, root.store)
        before.root = root
        before.consolidate(levels=True)
        store.note(state="writing", growing=True, source=plan.collection.source)
    for step, grid in enumerate(plan.grids):
        entries: Any = root[path_of(step)]
        entries.resize((len(plan.images), *grid, len(FIELDS) + len(plan.passes[step].writes)))
    if REASONS in root:
        reasons: Any = root[REASONS]
        reasons.resize((len(plan.images), *plan.grids[0]))
    for image, level in plan.places:
        pixels: Any = root[f"{image.group(level)}/image"]
        pixels.resize(tuple(plan.settings.shape(level).values()))
