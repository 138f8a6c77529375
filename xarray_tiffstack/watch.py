"""How a store grows while the microscope is still writing: which files are whole, and when to end.

A time point is taken when all of its files are there, or those of a later one are; a file that
comes later still is filled in. At the end the store is made the same as a conversion of the whole
folder, whatever happened on the way.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xarray_tiffstack.ome_zarr import metadata as ngff
from xarray_tiffstack.ome_zarr.convert import Summary, make_job, to_ome_zarr
from xarray_tiffstack.table import scan
from xarray_tiffstack.tiff import probe

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

POLL = 2.0  # seconds between looks at the folder
LAYOUT = ("levels", "chunks", "shards", "compressors", "ngff_version", "voxel_size")


def follow(
    source: str | os.PathLike[str],
    store: str | os.PathLike[str],
    *,
    pattern: str | None = None,
    until_idle: float | None = None,
    expected: int | None = None,
    stop: threading.Event | None = None,
    poll: float = POLL,
    overwrite: bool = False,
    **options: Any,
) -> Summary:
    """Convert a folder that is still being written, until everything is there.

    The time axis of the store grows; others can read it at every moment. What comes out at the
    end is what `to_ome_zarr` makes of the folder then. Lists the folder every few seconds, and
    looks into a file when its size has not changed from one time to the next.

    Parameters
    ----------
    source : str or path
        Folder or glob, as ``xarray.open_dataset`` takes it.
    store : str or path
        Where to.
    pattern : str, optional
        As for ``xarray.open_dataset``.
    until_idle : float, optional
        End when nothing has come or changed for so many seconds.
    expected : int, optional
        End when so many files are whole.
    stop : threading.Event, optional
        End when it is set.
    poll : float
        Seconds between looks at the folder.
    overwrite : bool
        Replace a store that is complete, or that another source or other settings made.
    **options
        The others of `to_ome_zarr`.

    Returns
    -------
    Summary
        Of everything from the beginning.

    Raises
    ------
    FileExistsError
        The store is there and of other making.
    FileNotFoundError
        At the end there is no file.

    Notes
    -----
    The store is begun with two time points, which show what changes with time. Where a later
    file changes the layout (the first of another channel, a time point between two that are
    there), growing stops, and at the end the folder is converted anew.
    """
    stop = stop or threading.Event()
    begun = changed = time.monotonic()
    growth = _Growth(store, options, overwrite)
    looks: dict[str, tuple[int, int]] = {}
    whole: set[str] = set()
    while not stop.is_set():
        table, before = _listed(source, pattern), looks
        looks = {} if table is None else _looks(table["path"])
        changed = changed if looks == before else time.monotonic()
        still = {path for path, look in looks.items() if look == before.get(path)}
        fresh = {path for path in still - whole if _readable(path)}
        whole = (whole & still) | fresh
        if fresh and table is not None:
            growth.take(_time_points(table[table["path"].isin(whole)]))
        if expected is not None and len(whole) >= expected:
            break
        if until_idle is not None and time.monotonic() - changed >= until_idle:
            break
        stop.wait(poll)
    ds = xr.open_dataset(source, engine="tiffstack", pattern=pattern)
    if growth.begun:
        growth.take(ds)
    summary = to_ome_zarr(ds, store, overwrite=growth.overwrite or growth.stuck, **options)
    return replace(
        summary,
        written=min(summary.blocks, summary.written + growth.written),
        nbytes=summary.nbytes + growth.nbytes,
        seconds=time.monotonic() - begun,
    )


class _Growth:
    """A store that takes one time point after the other."""

    def __init__(
        self, store: str | os.PathLike[str], options: dict[str, Any], overwrite: bool
    ) -> None:
        self.store, self.workers, self.overwrite = store, options.get("workers"), overwrite
        self.layout = {name: options[name] for name in LAYOUT if name in options}
        self.begun = self.stuck = False
        self.written = self.nbytes = 0

    def take(self, ds: xr.Dataset | None) -> None:
        """Write what the store lacks, unless it cannot grow to hold it."""
        if ds is None:
            return
        job = make_job(ds, self.store, **self.layout)
        job.growing = True
        blocks = job.grow()
        self.stuck = blocks is None and self.begun
        if self.stuck:
            return
        if blocks is None:
            blocks = job.begin(self.overwrite)
        self.begun, self.overwrite = True, False
        with closing(job.run(blocks, job.write, self.workers)) as done:
            for block, _ in done:
                self.nbytes += job.nbytes(block)
        self.written += len(blocks)
        job.finish("writing")


def _listed(source: str | os.PathLike[str], pattern: str | None) -> pd.DataFrame | None:
    """File table of what is there; None where nothing is yet."""
    try:
        return scan(source, pattern, unmatched="ignore")
    except FileNotFoundError:
        return None


def _looks(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Size and time of change of files, without those that are gone again."""
    looks = {}
    for path in paths:
        with suppress(OSError):
            stat = os.stat(path)
            looks[path] = stat.st_size, stat.st_mtime_ns
    return looks


def _readable(path: str) -> bool:
    """Whether a file holds all the pages that it announces."""
    try:
        probe(path)
    except (OSError, ValueError):
        return False
    return True


def _time_points(table: pd.DataFrame) -> xr.Dataset | None:
    """Dataset up to the last time point that has all of its files; None below two of them."""
    try:
        ds = xr.open_dataset(table, engine="tiffstack")  # type: ignore[arg-type]
        dim = next(d for d, kind in ngff.axes(ds).items() if kind == "time")
    except (ValueError, StopIteration):  # too few files for that; at the end it would be raised
        return None
    others = [d for d in ds["present"].dims if d != dim]
    complete = np.flatnonzero(ds["present"].all(others))
    return ds.isel({dim: slice(int(complete[-1]) + 1)}) if len(complete) > 1 else None
