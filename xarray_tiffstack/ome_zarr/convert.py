"""The entry points to OME-Zarr: what may be asked of a conversion, and what comes back."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xarray_tiffstack.messages import counted, timed
from xarray_tiffstack.ome_zarr import parts, place
from xarray_tiffstack.ome_zarr.decision import differing
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.keeping import with_room
from xarray_tiffstack.ome_zarr.lock import locked
from xarray_tiffstack.ome_zarr.notes import read_notes
from xarray_tiffstack.ome_zarr.plan import Block, Plan
from xarray_tiffstack.ome_zarr.pool import Given, Pool, pool_of
from xarray_tiffstack.ome_zarr.progress import bar
from xarray_tiffstack.ome_zarr.results import Summary, VerifyResult
from xarray_tiffstack.ome_zarr.settings import (
    LIMITS,
    Limits,
    Options,
    Settings,
    make_settings,
    settings_like,
)
from xarray_tiffstack.ome_zarr.store import Store
from xarray_tiffstack.ome_zarr.verification import verify_store
from xarray_tiffstack.ome_zarr.writer import write

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import xarray as xr
    from zarr.abc.store import Store as ZarrStore

    from xarray_tiffstack.ome_zarr.keeping import Keeper
    from xarray_tiffstack.ome_zarr.levels import Method
    from xarray_tiffstack.ome_zarr.metadata import NgffVersion
    from xarray_tiffstack.ome_zarr.progress import Shown
    from xarray_tiffstack.ome_zarr.verification import Recheck


LOG = logging.getLogger(__name__)


def to_ome_zarr(
    ds: xr.Dataset,
    store: str | os.PathLike[str] | ZarrStore,
    *,
    levels: int | Literal["auto"] = "auto",
    chunks: Mapping[str, int] | Literal["auto"] = "auto",
    shards: Mapping[str, int] | Literal["auto"] | None = None,
    compressors: Any = "auto",
    ngff_version: NgffVersion = "0.5",
    voxel_size: Mapping[str, float] | None = None,
    method: Method = "mean",
    workers: int | None = None,
    overwrite: bool = False,
    verify: bool = False,
    strict: bool = False,
    progress: Shown = "auto",
    executor: Given = None,
    part: parts.Given | None = None,
    keeper: Keeper | None = None,
) -> Summary:
    """Write a Dataset as OME-Zarr; ``ds.tiffstack.to_ome_zarr`` says what each option means.

    The pixels must be on the host, or be read to it. Each file is read once; its coarser levels
    are made from the pixels in memory. After an interruption the same call resumes: it writes the
    blocks that are not finished, and those that `verify` found damaged, and ends with the same
    store. Nothing that this program did not write is deleted. A `keeper` keeps of each file what is
    not pixels.
    """
    options = Options(levels, chunks, shards, compressors, ngff_version, voxel_size, method)
    return convert(
        ds, store, options, workers=workers, overwrite=overwrite, check=verify, strict=strict,
        progress=progress, executor=executor, part=part, keeper=keeper,
    )  # fmt: skip


def convert(
    ds: xr.Dataset,
    store: str | os.PathLike[str] | ZarrStore,
    options: Options,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    check: bool = False,
    strict: bool = False,
    progress: Shown = "auto",
    executor: Given = None,
    part: parts.Given | None = None,
    limits: Limits = LIMITS,
    engine: str = "auto",
    keeper: Keeper | None = None,
) -> Summary:
    """Convert as `to_ome_zarr` does; tests choose how the work is cut, and who writes."""
    started = time.perf_counter()
    share = parts.check_part(part, overwrite=overwrite, verify=check)
    collection = collect(ds, options.voxel_size)
    plan = Plan(collection, make_settings(collection, options, limits), limits)
    target = place.target_of(store)
    place.check(target, plan)
    if keeper is not None:
        plan = with_room(plan, keeper)
    verified, left = None, list[Block]()
    with (
        locked(target, shared=share is not None) as lock,
        pool_of(executor, workers, target, collection.source) as pool,
    ):
        made = Store(plan, target, engine, workers, keeper, lock)

        def do(blocks: list[Block]) -> int:
            with timed(LOG) as done:
                nbytes = _write(made, blocks, pool, progress, strict)
                count = counted(len(blocks), "block")
                done.append(f"{store}: {count}, {nbytes / 1e9:.2f} GB read and written")
            return nbytes

        if share is not None:
            todo = parts.begin(made, share, lock)
            written, total, left = parts.write(made, share, todo, do)
            parts.finish(made, left, lock)
        else:
            with timed(LOG) as done:
                todo = made.begin(overwrite)
                all_of_them = counted(len(plan.blocks), "block")
                done.append(f"{store}: {len(todo)} of {all_of_them} to write")
            written, total = len(todo), do(todo)
            with timed(LOG) as done:
                made.finish()
                done.append(f"{store}: finished")
            if not pool.near:
                made.sweep()
        seconds = time.perf_counter() - started
        if check:
            verified = verify_store(made, pool, progress, source=False)
    paths, present = collection.paths, collection.ds.get("present")
    return Summary(
        store=str(store),
        files=int(np.count_nonzero(paths)) if paths is not None else 0,
        missing=int((~present).sum()) if present is not None else 0,
        failed=made.failures(),
        blocks=len(made.plan.blocks),
        written=written,
        nbytes=total,
        seconds=seconds,
        memory=_peak_memory(),
        verified=verified,
        kept=None if keeper is None or left else keeper.kept(target, made.plan),
        part=(share.number, share.of) if share is not None else None,
        left=len(left),
        left_parts=tuple(parts.names(made.plan, left, share.of)) if share is not None else (),
    )


def _write(store: Store, todo: list[Block], pool: Pool, progress: Shown, strict: bool) -> int:
    """Write blocks; returns the bytes that were read."""
    nbytes = store.plan.nbytes
    total = sum(map(nbytes, todo))
    with (
        bar("converted", total, progress) as advance,
        closing(write(store, todo, pool)) as done,
    ):
        for block, broken in done:
            advance(nbytes(block))
            if strict and broken:
                failure = next(iter(broken.values()))
                raise OSError(f"{failure.path}: {failure.error} (strict: nothing more is read)")
    return total


def verify(
    ds: xr.Dataset,
    store: str | os.PathLike[str] | ZarrStore,
    *,
    workers: int | None = None,
    progress: Shown = "auto",
    executor: Given = None,
    part: parts.Given | None = None,
    recheck: Recheck | None = None,
) -> VerifyResult:
    """Compare every pixel of a store with its source; see ``ds.tiffstack.verify``.

    `recheck` reads files a second way: it is given the paths of the files of a slot, and a lazy
    DataArray of the stored pixels along the dimensions that they have, and returns what differs as
    text, or None. It is called for every file. The outcome is kept in the store where
    that may be written, and the next conversion writes the blocks that differ again.
    """
    target = place.target_of(store)
    notes = read_notes(target)
    if notes is None or "settings" not in notes:
        raise FileNotFoundError(f"{store} is no store that to_ome_zarr wrote")
    if notes["state"] != "complete":
        raise ValueError(f"{store} is not complete; convert again to complete it, then verify")
    settings = Settings(**notes["settings"])
    collection = collect(ds, settings.voxel_size)
    wanted = Plan(collection, settings_like(collection, settings))
    if names := differing(wanted, settings, target):
        raise ValueError(f"{store} was made from something else: other {', '.join(names)}")
    made = Store(Plan(collection, settings), target, workers=workers)
    made.notes = notes
    made.open("r")
    with pool_of(executor, workers, target, collection.source) as pool:
        return verify_store(
            made, pool, progress, source=True, recheck=recheck, part=parts.part_of(part)
        )


def _peak_memory() -> int | None:
    """Most memory that this process ever held, in bytes; None where the system does not tell."""
    with suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return None
