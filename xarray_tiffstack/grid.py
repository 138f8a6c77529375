"""Which tokens of a file table are dimensions, and which file stands in each cell.

Everything here is decided from the table alone; no file is opened. The rules, in order:

1. Processed versions of a raw file (role "variant") are set aside where raw files are there,
   and the samples (role "sample") parted: each is a grid of its own.
2. Channel: its identity is (camera, ch, ...); its labels are the wavelengths where those are
   unique, else strings that are.
3. A token that never changes is a scalar coordinate. A clock is a coordinate too; under a
   pattern of the user's own it may be a dimension, where nothing else tells files apart.
4. Two tokens that move together are one dimension and a coordinate, and a token that others
   determine is a coordinate over them. What is left are the dimensions.
5. Every other token becomes a coordinate over exactly the dimensions that determine it.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from xarray_tiffstack.messages import FIRST, first_lines
from xarray_tiffstack.names.dependencies import combined, determines, distinct
from xarray_tiffstack.names.vocabulary import DIMS, VOCABULARY, Token

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

    from xarray_tiffstack.names.conventions import Convention

UNKNOWN = Token("axis")
MOST_SAMPLES = 10_000  # more are names that nobody understood


@dataclass(frozen=True, eq=False)
class Grid:
    """Files placed along labelled dimensions."""

    labels: dict[str, np.ndarray]
    """Labels along each dimension, sorted; the order of the keys is that of the dimensions."""
    paths: np.ndarray
    """Path of the file in each cell, None where there is none."""
    coords: dict[str, tuple[tuple[str, ...], np.ndarray]]
    """Every other token: the dimensions it varies with, and its values there."""
    duplicates: list[str] = field(default_factory=list)
    """Files left out because another stands in their cell."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions, outermost first."""
        return tuple(self.labels)

    @property
    def present(self) -> np.ndarray:
        """Whether there is a file, for each cell."""
        return np.asarray(pd.notna(self.paths))


@dataclass
class _Column:
    """A token of the table as integer codes: `values[codes]` is the column."""

    codes: np.ndarray
    values: np.ndarray

    @property
    def varies(self) -> bool:
        return len(self.values) > 1


def make_grid(
    table: pd.DataFrame,
    convention: Convention | None = None,
    *,
    tiles: Iterable[str] = (),
    duplicates: Literal["raise", "first", "last", "position"] = "raise",
) -> Grid:
    """Place the files of a table along labelled dimensions.

    Parameters
    ----------
    table
        One row a file: `path`, and one column a token.
    convention
        What the tokens mean; by default their names decide.
    tiles
        Tokens that count the tiles of a mosaic: dimensions where they vary, whatever others say.
    duplicates
        What to do where two files stand in one cell: "raise"; keep the "first" or the "last" in
        the order of the table; or number them along a dimension "position", in the order of
        their clocks.

    Raises
    ------
    ValueError
        Where files cannot be placed without guessing.
    """
    tokens = {name: _meaning(name, convention) for name in table.columns if name != "path"}
    paths = table["path"].to_numpy(object)
    columns = {
        name: _encode(table[name])
        for name, token in tokens.items()
        if token.role != "random" and (token.role != "variant" or table[name].notna().all())
    }
    counted = {token.lstrip("-") for token in tiles}
    dims, columns = _dimensions(columns, tokens, convention, counted)
    for name in dims:
        _refuse_gaps_in_column(table, name, columns[name])
    shape = tuple(len(columns[name].values) for name in dims)
    if math.prod(shape) > 100 * len(paths) + 10_000:
        sizes = ", ".join(f"{name}: {n}" for name, n in zip(dims, shape, strict=True))
        raise ValueError(
            f"{len(paths)} files would stand in a grid of {math.prod(shape)} cells ({sizes}); "
            "some of these tokens are no dimensions. Name the tokens that are with pattern=, or "
            "drop columns from the table of xarray_tiffstack.scan() and open that."
        )
    cells = _slots([columns[name] for name in dims], len(paths))
    if duplicates == "position" and not _distinct([columns[name] for name in dims], len(paths)):
        columns["position"] = _numbered(cells, columns, tokens)
        dims = ("position", *(name for name in dims if name != "position"))
        shape = tuple(len(columns[name].values) for name in dims)
        cells = _slots([columns[name] for name in dims], len(paths))
    keep, dropped = _unique_cells(cells, paths, duplicates, dims, columns)
    cells, paths = cells[keep], paths[keep]
    columns = {name: _Column(column.codes[keep], column.values) for name, column in columns.items()}
    cube = np.full(math.prod(shape), None, object)
    cube[cells] = paths
    complete = len(paths) == len(cube)
    placed = {name: columns[name] for name in dims}
    coords = {
        name: _coordinate(column, placed, complete)
        for name, column in columns.items()
        if name not in placed
    }
    return Grid(
        {name: columns[name].values for name in dims},
        cube.reshape(shape),
        coords,
        dropped,
    )


def _meaning(name: str, convention: Convention | None) -> Token:
    if convention is not None and name in convention.tokens:
        return convention.tokens[name]
    return VOCABULARY.get(name, UNKNOWN)


# --- what is left out, or refused, before anything is placed -------------------------------


def without_variants(table: pd.DataFrame, convention: Convention | None) -> pd.DataFrame:
    """Set processed versions aside where raw files are there; ``attrs["aside"]`` lists them."""
    attrs = {**table.attrs, "aside": dict(table.attrs.get("aside", {}))}
    root = attrs.get("source", "")
    for name in [n for n in table if _meaning(str(n), convention).role == "variant"]:
        raw = table[name].isna() | (table[name] == "")
        if raw.any() and not raw.all():
            processed = [os.path.relpath(path, root) for path in table.loc[~raw, "path"]]
            attrs["aside"] |= dict.fromkeys(processed, "processed version of a raw file")
            table = table[raw]
    table.attrs = attrs
    return table


def split_samples(table: pd.DataFrame, convention: Convention | None) -> dict[str, pd.DataFrame]:
    """Split a table by what was imaged: each sample is an array of its own, named for it."""
    names = [
        str(n)
        for n in table
        if _meaning(str(n), convention).role == "sample" and table[n].nunique(dropna=False) > 1
    ]
    if not names:
        return {"": table}
    found = table[names].drop_duplicates()
    if len(found) > MOST_SAMPLES:
        first = found.iloc[:FIRST].astype(str).agg("/".join, axis=1)
        raise ValueError(
            f"{len(table)} files would be {len(found)} samples, each an array of its own, by "
            f"{' and '.join(names)} in their names:\n{first_lines(first, len(found))}\nAt most "
            f"{MOST_SAMPLES} are opened. Say with pattern= what tells the files of one array "
            "apart, or open fewer files (a glob)."
        )
    samples: dict[str, pd.DataFrame] = {}
    for values, rows in table.groupby(names, dropna=False, sort=True):
        words = [str(value) for value in values if value == value and value not in (None, "")]
        label = "/".join(words) or os.path.basename(table.attrs.get("source", "")) or "files"
        while label in samples:
            label += "_"
        rows = rows.dropna(axis="columns", how="all")  # tokens that only other samples have
        rows.attrs = table.attrs
        samples[label] = rows
    return samples


def _refuse_gaps_in_column(table: pd.DataFrame, name: str, column: _Column) -> None:
    """Refuse a dimension that some of the names do not give."""
    if name in table and not column.values.dtype.hasobject and column.values.dtype.kind != "f":
        return
    if name in table and table[name].isna().any():
        without = table.loc[table[name].isna(), "path"]
        raise ValueError(
            f"{len(without)} of {len(table)} files have no {name!r} in their names, the others "
            f"do:\n{first_lines(without)}\nOpen either kind alone: narrow the source (a glob), or "
            "write a pattern= that takes only one of them."
        )


# --- tokens ---------------------------------------------------------------------------------


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which numbers inside text order as numbers."""
    return [
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", str(text))
        if part
    ]


def _encode(column: pd.Series[Any]) -> _Column:
    """Encode a column: its values sorted, a missing one last."""
    codes, values = pd.factorize(column, use_na_sentinel=True)
    found = np.asarray(values)
    if found.dtype.kind in "iuf" or pd.api.types.is_numeric_dtype(values):
        order = np.argsort(found, kind="stable")
        found = found[order]
        if found.dtype == object:
            found = found.astype(np.int64 if pd.api.types.is_integer_dtype(values) else float)
    else:
        order = np.array(
            sorted(range(len(found)), key=lambda i: natural_key(str(found[i]))), dtype=np.intp
        )
        found = found.astype(object)[order]
    rank = np.empty(len(order) + 1, np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = len(order)  # the sentinel -1
    codes = rank[codes]
    if (codes == len(order)).any():
        missing: float | str = np.nan if found.dtype.kind in "iuf" else ""
        kind: Any = float if found.dtype.kind in "iuf" else object
        found = np.append(found.astype(kind), np.array([missing], kind))
    return _Column(codes, found)


def _slots(columns: Sequence[_Column], length: int) -> np.ndarray:
    """Give each row the number of its slot, in C order."""
    if not columns:
        return np.zeros(length, np.intp)
    sizes = [len(column.values) for column in columns]
    return np.ravel_multi_index([column.codes for column in columns], sizes)


def _determines(columns: Sequence[_Column], other: _Column) -> bool:
    """Whether rows that agree in all of `columns` agree in `other`."""
    return determines([column.codes for column in columns], other.codes)


def _distinct(columns: Sequence[_Column], length: int) -> bool:
    """Whether no two rows agree in all columns."""
    return distinct([column.codes for column in columns], length)


def _dimensions(
    columns: dict[str, _Column],
    tokens: Mapping[str, Token],
    convention: Convention | None,
    tiles: Collection[str],
) -> tuple[tuple[str, ...], dict[str, _Column]]:
    """Choose the dimensions; gives the columns back with `channel` among them."""
    columns = _with_channel(columns, tokens)
    always = convention.always if convention is not None else ()
    rank = _rank(convention)
    role = {name: tokens[name].role if name in tokens else "axis" for name in columns}
    if "channel" in columns:
        role["channel"] = "axis"
    axes = [n for n in columns if role[n] in {"axis", "tile", "piece", "variant"}]
    rows = len(next(iter(columns.values())).codes) if columns else 1
    if convention is None and not _distinct([columns[n] for n in axes], rows):
        axes += [n for n in columns if role[n] == "clock"]
    axes.sort(key=lambda n: rank.get(n, rank["z_offset"] - 0.5))
    kept = [n for n in axes if columns[n].varies or n in always]
    known = {*rank, *VOCABULARY}
    for name in reversed([n for n in kept if n not in {"channel", *always, *tiles}]):
        # Of tokens with a meaning of their own, only those of a tile are given up that easily.
        jointly = [n for n in kept if n != name and (name not in known or n in tiles)]
        if _follows(name, kept, columns, jointly):
            kept.remove(name)
    return tuple(kept), columns


def _follows(
    name: str, kept: Sequence[str], columns: Mapping[str, _Column], jointly: Sequence[str]
) -> bool:
    """Whether a token is given by another dimension, or by several `jointly`.

    Of two that move together the first is the dimension.
    """
    own = columns[name]
    for other in kept:
        if other != name and _determines([columns[other]], own):
            together = _determines([own], columns[other])
            if not together or kept.index(other) < kept.index(name):
                return True
    return bool(jointly) and _determines([columns[n] for n in jointly], own)


def _rank(convention: Convention | None) -> dict[str, int]:
    """Order of the dimensions by name."""
    own = convention.dims if convention is not None else ()
    return {name: i for i, name in enumerate([*own, *(n for n in DIMS if n not in own)])}


def _with_channel(columns: dict[str, _Column], tokens: Mapping[str, Token]) -> dict[str, _Column]:
    """Add the dimension `channel`, labelled, where tokens tell channels apart."""
    role = {name: tokens[name].role for name in columns}
    identity = [n for n in columns if role[n] == "channel"]
    label = [n for n in columns if role[n] == "label"]
    if not identity and not label:
        return columns
    told = [n for n in identity if columns[n].varies]
    # Of tokens that tell the same, the one that comes first in the vocabulary stays.
    place = {name: i for i, name in enumerate(VOCABULARY)}
    for name in sorted(told, key=lambda n: place.get(n, len(place)), reverse=True):
        rest = [columns[n] for n in told if n != name]
        if rest and _determines(rest, columns[name]):
            told.remove(name)
    told += [n for n in label if not _determines([columns[t] for t in told], columns[n])]
    rows = len(next(iter(columns.values())).codes)
    codes = combined([columns[n].codes for n in told], rows)
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    names = _channel_labels(first, columns, told, label, identity)
    sorted_names = _encode(pd.Series(names))
    return {**columns, "channel": _Column(sorted_names.codes[codes], sorted_names.values)}


def _channel_labels(
    rows: np.ndarray,
    columns: Mapping[str, _Column],
    told: Sequence[str],
    label: Sequence[str],
    identity: Sequence[str],
) -> np.ndarray:
    """Label each channel (one row of each is given).

    By its wavelength or dye where that is unique, else by all that tells channels apart.
    """

    def of(name: str) -> np.ndarray:
        column = columns[name]
        values: np.ndarray = column.values[column.codes[rows]]
        return values

    own = told if len(told) == 1 else () if told else identity
    for name in label or own:
        values = of(name)
        if len(set(values.tolist())) == len(values):
            return values
    parts = [*(n for n in label if n not in told), *told]
    texts = [[channel_part(n, v) for v in of(n)] for n in parts]
    return np.array(["_".join(words) for words in zip(*texts, strict=True)], object)


def channel_part(name: str, value: Hashable) -> str:
    """Spell one field of a channel's label: 488nm, CamA, ch0."""
    prefix = {"camera": "Cam", "wavelength": "", "channel": "ch"}.get(name, name)
    return f"{prefix}{value}{'nm' if name == 'wavelength' else ''}"


# --- cells and coordinates ------------------------------------------------------------------


def _unique_cells(
    cells: np.ndarray,
    paths: np.ndarray,
    duplicates: str,
    dims: Sequence[str],
    columns: Mapping[str, _Column],
) -> tuple[np.ndarray, list[str]]:
    """Keep one file a cell, or say which cells have more."""
    series = pd.Series(cells)
    again = series.duplicated(keep="last" if duplicates == "last" else "first").to_numpy()
    if not again.any():
        return np.arange(len(cells)), []
    if duplicates != "raise":
        return np.flatnonzero(~again), paths[again].tolist()
    crowded = series[series.duplicated(keep=False)].groupby(series, sort=False).groups
    lines = []
    for rows in list(crowded.values())[:FIRST]:
        cell = ", ".join(f"{n}={columns[n].values[columns[n].codes[rows[0]]]}" for n in dims)
        names = [os.path.basename(paths[row]) for row in rows]
        more = f", ... and {len(names) - 2} more" if len(names) > 2 else ""
        lines.append(f"  ({cell}): {names[0]}, {names[1]}{more}")
    more = f"\n  ... and {len(crowded) - FIRST} more cells" if len(crowded) > FIRST else ""
    rows = next(iter(crowded.values()))
    differ = [
        n for n, c in columns.items() if n not in dims and len(set(c.codes[rows].tolist())) > 1
    ]
    why = (
        f"These files differ only in {' and '.join(differ)}, which is no dimension: two positions "
        "that the names hide, or an acquisition that was started again. "
        if differ
        else ""
    )
    raise ValueError(
        f"{int(again.sum())} files stand in a cell that another file has, in {len(crowded)} "
        f"cells:\n" + "\n".join(lines) + more + f"\n{why}"
        'Choose with duplicates="first" or "last", number them as positions with '
        'duplicates="position", or tell them apart with pattern=.'
    )


def _numbered(
    cells: np.ndarray, columns: Mapping[str, _Column], tokens: Mapping[str, Token]
) -> _Column:
    """Count the files of each cell in the order of their clocks."""
    clocks = [columns[n] for n, token in tokens.items() if token.role == "clock" and n in columns]
    order = np.lexsort([*(clock.codes for clock in reversed(clocks)), cells])
    new_cell = np.append(True, np.diff(cells[order]) != 0)
    first = np.maximum.accumulate(np.where(new_cell, np.arange(len(cells)), 0))
    codes = np.empty(len(cells), np.int64)
    codes[order] = np.arange(len(cells)) - first
    return _Column(codes, np.arange(codes.max() + 1))


def _coordinate(
    column: _Column, placed: Mapping[str, _Column], complete: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    """Lay a token out along exactly the dimensions that determine it."""
    if not column.varies:
        return (), column.values.reshape(())
    along = dict(placed)
    for name in reversed(list(placed)):
        rest = {n: c for n, c in along.items() if n != name}
        if _determines(list(rest.values()), column):
            along = rest
    shape = tuple(len(c.values) for c in along.values())
    cells = _slots(list(along.values()), len(column.codes))
    codes = np.full(math.prod(shape), -1, np.int64)
    codes[cells] = column.codes
    if complete or not (codes < 0).any():
        return tuple(along), column.values[codes].reshape(shape)
    number = column.values.dtype.kind in "iuf"
    values = np.append(
        column.values.astype(float if number else object),
        np.array([np.nan if number else ""], float if number else object),
    )
    return tuple(along), values[codes].reshape(shape)


# --- what is not there ----------------------------------------------------------------------


def counter_gaps(labels: np.ndarray) -> list[int]:
    """Integers left out of a counter that otherwise steps by one: [1] of 0, 2, 3, 4."""
    if labels.dtype.kind not in "iu" or len(labels) < 3:
        return []
    steps = np.diff(labels)
    if (steps == 1).mean() < 0.5 or labels[-1] - labels[0] > 2 * len(labels):
        return []
    return [int(n) for a, b in pairwise(labels) for n in range(a + 1, b)]
