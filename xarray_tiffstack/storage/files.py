"""What is known of files without opening them: how long each is, and whether it changed."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

from xarray_tiffstack.storage.access import access_of
from xarray_tiffstack.storage.address import is_url
from xarray_tiffstack.storage.listing import listed
from xarray_tiffstack.storage.remote import stat, together

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_LOOK = 256  # files that are looked at one by one
SLOW_LOOK = 1e-4  # seconds for one file, above which many are looked at together


def sizes(paths: Sequence[str]) -> list[int | None]:
    """Size of each file in bytes; None where there is none.

    Costs one ``stat`` of each file, many at a time where a file server takes its time. Of URLs it
    costs a listing of their folder (a request for each 1,000 objects), or of few of them a request
    each.
    """
    if paths and is_url(paths[0]):
        return [None if found is None else found[0] for found in listed(paths)]
    started = time.perf_counter()
    found = _sizes(paths[:FIRST_LOOK])
    rest = paths[FIRST_LOOK:]
    if rest and time.perf_counter() - started > SLOW_LOOK * len(found):
        step = -(-len(rest) // 16)
        with ThreadPoolExecutor(16) as pool:
            parts = (rest[i : i + step] for i in range(0, len(rest), step))
            found += chain.from_iterable(pool.map(_sizes, parts))
    else:
        found += _sizes(rest)
    return found


def _sizes(paths: Sequence[str]) -> list[int | None]:
    found: list[int | None] = []
    for path in paths:
        try:
            found.append(os.stat(path).st_size)
        except OSError:
            found.append(None)
    return found


def states(paths: Sequence[str]) -> list[tuple[int, int | str] | None]:
    """Size of each file and when it changed, or the ETag of an object; None where there is none.

    Costs one ``stat``, or one request, of each file.
    """
    if paths and is_url(paths[0]):
        return together(_state, paths)
    return [_state(path) for path in paths]


def _state(path: str) -> tuple[int, int | str] | None:
    """Size of a file and when it changed, or the ETag of an object; None where there is none."""
    try:
        if is_url(path):
            return stat(path, access_of(path))
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def looks(paths: Sequence[str]) -> list[tuple[int, int | str] | None]:
    """Size and state of many files, as `states` gives them; of URLs by listing their folder.

    To be compared with what this says later, and with nothing else.
    """
    return list(listed(paths)) if paths and is_url(paths[0]) else states(paths)


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a Zarr store, or an index of a folder."""
    if is_url(path):  # as stores are called
        return path.rstrip("/").endswith((".zarr", ".icechunk"))
    roots = (os.path.join(path, name) for name in ("zarr.json", ".zgroup", ".zattrs"))
    return is_index(path) or any(map(os.path.exists, roots))


def is_index(path: str | os.PathLike[str]) -> bool:
    """Whether something is an index: a repository of icechunk, or references of kerchunk."""
    if is_url(path):
        return path.rstrip("/").endswith(".icechunk")
    path = os.fspath(path).rstrip("/" + os.sep)
    if path.endswith((".json", ".parq", ".parquet")):
        return os.path.exists(path)
    held = (os.path.join(path, name) for name in ("repo", "snapshots", "manifests"))
    return all(map(os.path.exists, held))
