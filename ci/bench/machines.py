"""The rows of the table about many processes: what they cost beside threads."""

from __future__ import annotations

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import xarray as xr

from bench import peers
from bench.measure import CORES, OURS, Race, Row
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.plan import Plan
from xarray_tiffstack.ome_zarr.pool import pool_of, run
from xarray_tiffstack.ome_zarr.settings import Limits, Options, make_settings
from xarray_tiffstack.ome_zarr.store import Store
from xarray_tiffstack.ome_zarr.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.data import Workshop

PROCESSES, DASK = "processes", "dask"


def executors(stack: ExitStack) -> dict[str, Any]:
    """As many threads, processes, and workers of dask as there are cores."""
    import distributed

    context = multiprocessing.get_context("spawn")
    warnings.simplefilter("ignore")
    cluster = distributed.LocalCluster(
        n_workers=CORES, threads_per_worker=1, dashboard_address=":0"
    )
    stack.enter_context(cluster)
    return {
        OURS: stack.enter_context(ThreadPoolExecutor(CORES)),
        PROCESSES: stack.enter_context(ProcessPoolExecutor(CORES, context)),
        DASK: stack.enter_context(distributed.Client(cluster, set_as_default=False)),
    }


def by_processes(shop: Workshop) -> Iterator[Row]:
    """Convert files of 316 MB by threads, by as many processes, and by as many workers of dask."""
    folder = shop.noisy_as("processes", shop.sized(4, 2, 2))
    nbytes = sum(path.stat().st_size for path in folder.iterdir())
    store = f"{shop.memory}/processes"
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], object]] = {
            name: partial(peers.ours_to, folder, store, executor=executor)
            for name, executor in executors(stack).items()
        }
        race = Race(contenders, shop.rounds(9), fastest=True)
    peers.emptied(store)
    yield Row(
        f"convert by {CORES} threads, beside {CORES} processes, all levels",
        f"{nbytes / race.seconds() / 1e9:.2f} GB/s",
        race,
        "processes 0.9x the rate of threads",
        race.ratio(PROCESSES) <= 1 / 0.9,
    )


def blocks(shop: Workshop) -> Iterator[Row]:
    """Do nothing with each of 10,000 blocks: what is left is the handling of its task."""
    files, limits = shop.planes(shop.sized(10_000, 1_000, 50), (8, 8)), Limits(small=1)
    collection = collect(xr.open_dataset(files, engine="tiffstack"))
    settings = make_settings(collection, Options(levels=1, chunks={"z": 1}), limits)
    plan = Plan(collection, settings, limits)
    count = len(plan.blocks)
    store = Store(plan, shop.folder / "blocks.ome.zarr")
    store.begin(overwrite=True)

    def each(executor: Any) -> None:
        task: Task[Any, None] = Task(lambda store, block: None, store)
        with pool_of(executor, None, store.target) as pool:
            for _ in run(plan.blocks, task, pool, plan.files):
                pass

    with ExitStack() as stack:
        contenders = {name: partial(each, given) for name, given in executors(stack).items()}
        race = Race(contenders, shop.rounds(3))
    spelled = ", ".join(
        f"{'threads' if name == OURS else name} {1e6 * race.seconds(name) / count:.0f} µs"
        for name in race.rounds
    )
    yield Row(f"handling of each of {count:,} blocks", spelled)


MACHINES: tuple[Callable[[Workshop], Iterator[Row]], ...] = (by_processes, blocks)
