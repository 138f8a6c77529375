"""A script that converts and verifies with an executor of another project, for test_executors.

python tests/by_executor.py KIND SOURCE STORE; that of MPI runs below ``mpiexec -m mpi4py.futures``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr


def convert(source: str, store: str, **where: Any) -> Any:
    """Convert in blocks of one file each."""
    ds = xr.open_dataset(source, engine="tiffstack")
    return ds.tiffstack.to_ome_zarr(store, levels=2, progress=False, **where)


def verify(source: str, store: str, **where: Any) -> Any:
    """Compare with the source."""
    ds = xr.open_dataset(source, engine="tiffstack")
    return ds.tiffstack.verify(store, progress=False, **where)


def by(executor: Any, source: str, store: str) -> None:
    """Convert and verify."""
    assert not convert(source, store, executor=executor).failed
    assert verify(source, store, executor=executor).ok


def loky(source: str, store: str) -> None:
    """Kill a worker meanwhile: the function is asked for another executor."""
    from loky import get_reusable_executor

    make = partial(get_reusable_executor, max_workers=2)
    (worker, _) = [make().submit(os.getpid).result(), make()]
    killer = threading.Timer(0.1, os.kill, (worker, signal.SIGKILL))
    killer.start()
    by(make, source, store)
    killer.join()


def jobqueue(source: str, store: str) -> None:
    """Have workers of dask-jobqueue, as jobs of this machine."""
    from dask_jobqueue.local import LocalCluster
    from distributed import Client

    options = {"cores": 1, "memory": "1GB", "log_directory": str(Path(store).parent)}
    with LocalCluster(n_workers=2, **options) as cluster, Client(cluster) as client:
        by(client, source, store)
        by(client.get_executor(), source, f"{store}2")


def mpi(source: str, store: str) -> None:
    """Have the other processes of MPI work."""
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor() as executor:
        by(executor, source, store)


def submitit(source: str, store: str) -> None:
    """Start parts as jobs."""
    from submitit import LocalExecutor

    executor = LocalExecutor(Path(store).parent / "log")
    executor.update_parameters(timeout_min=5)
    parts = [(number, 3) for number in (1, 2, 3)]
    for task in (convert, verify):
        jobs = [executor.submit(task, source, store, part=part) for part in parts]
        for job in jobs:
            job.result()


def ray(source: str, store: str) -> None:
    """Give tasks of Ray the interface of an executor."""
    from concurrent.futures import Executor, Future

    import ray

    class RayExecutor(Executor):
        def submit(self, fn: Any, /, *args: Any, **keywords: Any) -> Future[Any]:
            return ray.remote(lambda: fn(*args, **keywords)).remote().future()

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    by(RayExecutor(), source, store)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
