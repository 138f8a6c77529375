"""The line from a source to Datasets: scan, headers, samples, grid, lazy array, Dataset."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pandas as pd

from xarray_tiffstack.array import device as _device
from xarray_tiffstack.dataset import make_dataset
from xarray_tiffstack.grid import split_samples, without_variants
from xarray_tiffstack.headers import read_headers
from xarray_tiffstack.messages import first_lines, one_of
from xarray_tiffstack.names.conventions import (
    INFERRED,
    Convention,
    conventions,
    find_convention,
    inferred_convention,
)
from xarray_tiffstack.names.pattern import Pattern
from xarray_tiffstack.names.vocabulary import Token
from xarray_tiffstack.table import scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr

    from xarray_tiffstack.source import Source


@dataclass(frozen=True)
class Options:
    """Which files are opened and how they are placed; documented at the backend's door."""

    pattern: str | Pattern | Convention | None = None
    missing: Literal["fill", "raise"] = "fill"
    duplicates: Literal["raise", "first", "last", "position"] = "raise"
    unmatched: Literal["warn", "ignore", "raise"] = "warn"
    fill_value: float = 0
    voxel_size: float | Sequence[float] | Mapping[str, float] | None = None
    mosaic: bool | Mapping[str, str] | pd.DataFrame = False
    overlap: float | Mapping[str, float] = 0
    pages: str | None = None
    validate: Literal["headers"] | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no keyword accepts."""
        one_of("missing", self.missing, ("fill", "raise"))
        one_of("duplicates", self.duplicates, ("raise", "first", "last", "position"))
        one_of("unmatched", self.unmatched, ("warn", "ignore", "raise"))
        one_of("validate", self.validate, (None, "headers"))
        if self.pages is not None and (not isinstance(self.pages, str) or self.pages in "yx"):
            raise ValueError(f"pages={self.pages!r} is no dimension for pages, as 'z' or 'time' is")
        object.__setattr__(self, "device", _device.check(self.device))

    def pages_of(self, convention: Convention | None) -> str:
        """Say what the pages of a file are, where it does not."""
        known = convention.pages if convention is not None else None
        return self.pages or known or "z"


def open_one(source: Source | pd.DataFrame, options: Options, group: str | None) -> xr.Dataset:
    """Open the one sample of a source, or that which `group` names."""
    samples, convention = _samples(source, options)
    group = group.strip("/") if group is not None else None  # as the keys of open_groups are
    if len(samples) == 1:
        if group is not None:
            raise ValueError(f"all files belong to one sample: drop group={group!r}")
        (group,) = samples
    if group not in samples:
        what = "open one of them" if group is None else f"{group!r} is none of them"
        raise ValueError(
            f"the files belong to {len(samples)} samples; {what}:\n"
            + first_lines(f"group={name!r}: {len(table)} files" for name, table in samples.items())
            + "\nFor all of them there is xarray.open_datatree(source, engine='tiffstack')."
        )
    return make_dataset(samples[group], convention, options)


def open_all(source: Source | pd.DataFrame, options: Options) -> dict[str, xr.Dataset]:
    """Open every sample of a source, by name."""
    samples, convention = _samples(source, options)
    opened: dict[str, xr.Dataset] = {}
    refused = []
    for name, table in samples.items():
        try:
            opened[name] = make_dataset(table, convention, options)
        except (OSError, ValueError) as error:
            if len(samples) == 1:
                raise
            refused.append(f"{name}: {error}")
    if refused:
        raise ValueError(
            f"{len(refused)} of {len(samples)} samples cannot be opened; group= opens any other\n"
            + first_lines(refused)
        )
    return opened


def _samples(
    source: Source | pd.DataFrame, options: Options
) -> tuple[dict[str, pd.DataFrame], Convention | None]:
    """List the files of each sample."""
    table, convention = _file_table(source, options)
    table = without_variants(table, convention)
    if options.validate == "headers":
        axes = "zyx" if isinstance(options.mosaic, bool) else map(str, options.mosaic)
        table = read_headers(
            table, options.pages_of(convention), list(axes) if options.mosaic is not False else []
        )
    samples = split_samples(table, convention)
    broken = set(table.attrs.get("unreadable", ()))
    readable = {name: rows for name, rows in samples.items() if not broken.issuperset(rows["path"])}
    return readable, convention


def _file_table(
    source: Source | pd.DataFrame, options: Options
) -> tuple[pd.DataFrame, Convention | None]:
    """Scan the source, or take the table that was handed over."""
    if not isinstance(source, pd.DataFrame):
        table = scan(source, options.pattern, unmatched=options.unmatched)
    elif "path" not in source.columns:
        raise ValueError(
            "the file table has no column 'path'; its columns are "
            f"{', '.join(map(str, source.columns))}"
        )
    elif source.empty:
        raise FileNotFoundError("the file table has no rows")
    elif options.pattern is not None and not isinstance(options.pattern, Convention):
        raise ValueError("pattern= reads names, and a file table has them read already: drop it")
    else:
        table = _checked(source)
    if isinstance(options.pattern, Convention):
        return table, options.pattern
    name = table.attrs.get("convention")
    if name == INFERRED:
        tokens = {name: Token(**meaning) for name, meaning in table.attrs["tokens"].items()}
        return table, inferred_convention(Pattern(table.attrs["pattern"]), tokens)
    if name is not None and name not in conventions():
        raise ValueError(
            f"the table was read with a convention of your own, {name!r}: pass it again as pattern="
        )
    return table, find_convention(name) if name is not None else None


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """Take a table that was edited, or made by hand: absolute paths, and columns with names."""
    wrong = [name for name in table if not isinstance(name, str)]
    wrong += table.columns[table.columns.duplicated()].tolist()
    if wrong:
        raise ValueError(f"columns of a file table have names, each its own; not {wrong}")
    pathless = table.index[table["path"].isna()]
    if len(pathless):
        raise ValueError(
            f"{len(pathless)} rows of the file table have no path: {pathless[:5].tolist()}; "
            "drop them"
        )
    paths = [os.fspath(path) for path in table["path"]]
    if not all(path.startswith(os.sep) for path in paths):
        paths = [os.path.abspath(path) for path in paths]
    return table.assign(path=paths)
