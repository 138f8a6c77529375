"""A folder that the microscope is still writing: which files are complete, and when to end.

A time point is taken when all of its files are there, or those of a later one are; a file that
comes later still is filled in. At the end the store is made the same as a conversion of all of the
folder, whatever happened on the way.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xarray_tiffstack.index import check_index, to_virtual
from xarray_tiffstack.ome_zarr.convert import to_ome_zarr
from xarray_tiffstack.ome_zarr.growth import Growth
from xarray_tiffstack.ome_zarr.images import axes
from xarray_tiffstack.ome_zarr.settings import Options
from xarray_tiffstack.storage import looks
from xarray_tiffstack.table import scan
from xarray_tiffstack.tiff import probe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from xarray_tiffstack.index import Indexed
    from xarray_tiffstack.ome_zarr.results import Summary

POLL = 2.0  # seconds between looks at the folder
LAYOUT = [field.name for field in fields(Options)]


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
    storage_options: Mapping[str, Any] | None = None,
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
        End when so many files are complete.
    stop : threading.Event, optional
        End when it is set.
    poll : float
        Seconds between looks at the folder.
    overwrite : bool
        Replace a store that is complete, or that was made from another source or with other
        settings.
    storage_options : mapping, optional
        How a source at a URL is reached, as for ``xarray.open_dataset``.
    **options
        The others of `to_ome_zarr`.

    Returns
    -------
    Summary
        Of everything from the beginning.

    Raises
    ------
    FileExistsError
        Another store is there.
    FileNotFoundError
        At the end there is no file.

    Notes
    -----
    The store is begun with two time points, which show what changes with time. Where a later
    file changes the layout (the first of another channel or position, a time point between two
    that are there), growing stops, and at the end all of the folder is converted again.
    """
    begun = time.monotonic()
    layout = Options(**{name: options[name] for name in LAYOUT if name in options})
    growth = Growth(store, layout, options.get("workers"), overwrite)
    for points in _growing(
        source, pattern, storage_options, until_idle, expected, stop or threading.Event(), poll
    ):
        growth.take(points)
    ds = xr.open_dataset(
        source, engine="tiffstack", pattern=pattern, storage_options=storage_options
    )
    if growth.begun:
        growth.take(ds)
    summary = to_ome_zarr(ds, store, overwrite=growth.overwrite or growth.stuck, **options)
    return replace(
        summary,
        written=min(summary.blocks, summary.written + growth.written),
        nbytes=summary.nbytes + growth.nbytes,
        seconds=time.monotonic() - begun,
    )


def follow_index(
    source: str | os.PathLike[str],
    index: str | os.PathLike[str],
    *,
    pattern: str | None = None,
    until_idle: float | None = None,
    expected: int | None = None,
    stop: threading.Event | None = None,
    poll: float = POLL,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Indexed:
    """Index a folder that is still being written: a commit for each time point.

    So every state of the experiment can be read again, by ``open_index(index, snapshot=...)``. The
    index is begun with two time points, as in `follow`. A file that comes late has a commit of its
    own.

    Parameters
    ----------
    source, pattern, until_idle, expected, stop, poll
        As for `follow`.
    index : str or path
        ``NAME.icechunk``.
    overwrite : bool
        Go on from an index that is there, which keeps its earlier states.
    storage_options : mapping, optional
        How a source at a URL is reached, as for ``xarray.open_dataset``.
    **options
        The others of `to_virtual`.

    Returns
    -------
    Indexed
        Of the last state.

    Raises
    ------
    FileExistsError
        Another index is there.
    FileNotFoundError
        At the end there is no file.
    ValueError
        References of kerchunk are asked for, which have one state only.
    """
    if os.path.splitext(index)[1] in (".json", ".parq", ".parquet"):
        raise ValueError("references of kerchunk have one state only: follow with NAME.icechunk")
    done: Indexed | None = None
    seen = 0
    for points in _growing(
        source, pattern, storage_options, until_idle, expected, stop or threading.Event(), poll
    ):
        clock = next(d for d, kind in axes(points).items() if kind == "time")
        count = points.sizes[clock]
        for last in range(min(max(seen, 1), count - 1), count):
            part = points.isel({clock: slice(last + 1)})
            if done is None or int(part["present"].sum()) != done.files:
                again = overwrite or done is not None
                done = to_virtual(part, index, overwrite=again, **options)
        seen = count
    ds = xr.open_dataset(
        source, engine="tiffstack", pattern=pattern, storage_options=storage_options
    )
    if done is None or int(ds["present"].sum()) != done.files or check_index(index):
        done = to_virtual(ds, index, overwrite=overwrite or done is not None, **options)
    return done


def _growing(
    source: str | os.PathLike[str],
    pattern: str | None,
    storage_options: Mapping[str, Any] | None,
    until_idle: float | None,
    expected: int | None,
    stop: threading.Event,
    poll: float,
) -> Iterator[xr.Dataset]:
    """Give all complete time points, each time that a file was completed."""
    changed = time.monotonic()
    seen: dict[str, tuple[int, int | str]] = {}
    complete: set[str] = set()
    while not stop.is_set():
        table, before = _listed(source, pattern, storage_options), seen
        seen = {} if table is None else _looks(table["path"].tolist())
        changed = changed if seen == before else time.monotonic()
        still = {path for path, look in seen.items() if look == before.get(path)}
        fresh = {path for path in still - complete if _readable(path)}
        complete = (complete & still) | fresh
        if fresh and table is not None:
            points = _time_points(table[table["path"].isin(complete)])
            if points is not None:
                yield points
        if expected is not None and len(complete) >= expected:
            break
        if until_idle is not None and time.monotonic() - changed >= until_idle:
            break
        stop.wait(poll)


def _listed(
    source: str | os.PathLike[str], pattern: str | None, storage_options: Mapping[str, Any] | None
) -> pd.DataFrame | None:
    """File table of what is there; None where nothing is yet."""
    try:
        return scan(source, pattern, unmatched="ignore", storage_options=storage_options)
    except FileNotFoundError:
        return None


def _looks(paths: Sequence[str]) -> dict[str, tuple[int, int | str]]:
    """Size and state of files, without those that are gone again."""
    found = zip(paths, looks(paths), strict=True)
    return {path: look for path, look in found if look is not None}


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
        dim = next(d for d, kind in axes(ds).items() if kind == "time")
    except (ValueError, StopIteration):  # too few files for that; at the end it would be raised
        return None
    others = [d for d in ds["present"].dims if d != dim]
    complete = np.flatnonzero(ds["present"].all(others))
    return ds.isel({dim: slice(int(complete[-1]) + 1)}) if len(complete) > 1 else None
