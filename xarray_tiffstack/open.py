"""The line from a source to Datasets: names, headers, samples, grid, lazy array, Dataset."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING

import pandas as pd

from xarray_tiffstack.array.device import register_cupy
from xarray_tiffstack.dataset import make_dataset
from xarray_tiffstack.grid.samples import split_samples, without_variants
from xarray_tiffstack.headers import Headers, read_headers
from xarray_tiffstack.messages import counted, first_lines, timed, user_stacklevel
from xarray_tiffstack.storage import sizes
from xarray_tiffstack.table import FileTable, read_table, table_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from xarray_tiffstack.options import Options
    from xarray_tiffstack.source import Source


LOG = logging.getLogger(__name__)


def open_one(source: Source | pd.DataFrame, options: Options, group: str | None) -> xr.Dataset:
    """Open the one sample of a source, or that which `group` names."""
    register_cupy()
    samples, headers = _samples(source, options)
    group = group.strip("/") if group is not None else None  # as the keys of open_groups are
    if len(samples) == 1:
        if group is not None:
            raise ValueError(f"all files belong to one sample: drop group={group!r}")
        (group,) = samples
    if group not in samples:
        what = "open one of them" if group is None else f"{group!r} is not one of them"
        names = (f"group={name!r}: {_files(table)}" for name, table in samples.items())
        raise ValueError(
            f"the files belong to {counted(len(samples), 'sample')}; {what}:\n{first_lines(names)}"
            "\nFor all of them there is xarray.open_datatree(source, engine='tiffstack'). "
            "To make a dimension of what differs, give it a name of your own in pattern=."
        )
    return _opened(samples[group], headers, options)


def open_all(source: Source | pd.DataFrame, options: Options) -> dict[str, xr.Dataset]:
    """Open every sample of a source, by name."""
    samples, headers = _samples(source, options)
    opened: dict[str, xr.Dataset] = {}
    refused = []
    for name, table in samples.items():
        try:
            opened[name] = _opened(table, headers, options)
        except (OSError, ValueError) as error:
            if len(samples) == 1:
                raise
            refused.append(f"{name}: {error}")
    if refused:
        raise ValueError(
            f"{len(refused)} of {counted(len(samples), 'sample')} cannot be opened; group= opens "
            f"any of the others\n{first_lines(refused)}"
        )
    return opened


def _opened(table: FileTable, headers: Headers, options: Options) -> xr.Dataset:
    with timed(LOG) as done:
        ds = make_dataset(table, headers, options)
        sizes = ", ".join(f"{dim} {size}" for dim, size in ds.sizes.items())
        done.append(f"opened {_files(table)} as {sizes}")
    return ds


def _samples(
    source: Source | pd.DataFrame, options: Options
) -> tuple[dict[str, FileTable], Headers]:
    """List the files of each sample, and what is known of their headers."""
    if isinstance(source, pd.DataFrame):
        table = table_of(source, options.pattern, options.access)
    else:
        table = read_table(source, options.pattern, options.unmatched, options.access)
    table = without_variants(table)
    with timed(LOG) as done:
        empty, absent = _look(table)
        done.append(f"sizes of {_files(table)}, {len(empty | absent)} of them empty or gone")
    if absent and not isinstance(source, (str, os.PathLike)):
        raise FileNotFoundError(
            f"{len(absent)} of {_files(table)} do not exist:\n{first_lines(absent)}"
        )
    headers = Headers(unreadable=empty | absent)
    if headers.unreadable:
        warnings.warn(
            f"{len(headers.unreadable)} of {_files(table)} missing, because empty or gone:\n"
            f"{first_lines(headers.unreadable.values())}",
            UserWarning,
            stacklevel=user_stacklevel(),
        )
    if options.validate == "headers":
        pages = options.pages_of(table.convention)
        with timed(LOG) as done:
            table, headers = read_headers(table, pages, _loose(options.mosaic))
            done.append(f"headers of {_files(table)}")
    samples = split_samples(table)
    broken = set(headers.unreadable)
    readable = {n: own for n, own in samples.items() if not broken.issuperset(own.rows["path"])}
    if not readable:
        raise OSError(
            f"none of {counted(len(broken), 'file')} can be read:\n"
            f"{first_lines(headers.unreadable.values())}"
        )
    return readable, headers


def _loose(mosaic: bool | Mapping[str, str] | pd.DataFrame) -> list[str]:
    """Axes along which files may differ in length, because they are tiles of a mosaic."""
    if isinstance(mosaic, bool):
        return list("zyx") if mosaic else []
    return list(map(str, mosaic))


def _look(table: FileTable) -> tuple[dict[str, str], dict[str, str]]:
    """Find the files that are empty, and those that are not there; none is opened."""
    paths = table.rows["path"].tolist()
    known = table.sizes
    found = sizes(paths) if known is None else [known.get(path) for path in paths]
    if all(found):
        return {}, {}
    empty = {p: f"{p} is empty (0 bytes)" for p, n in zip(paths, found, strict=True) if n == 0}
    absent = {p: f"{p} does not exist" for p, n in zip(paths, found, strict=True) if n is None}
    return empty, absent


def _files(table: FileTable) -> str:
    return counted(len(table.rows), "file")
