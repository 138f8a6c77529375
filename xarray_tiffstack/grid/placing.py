"""Which tokens of a file table are dimensions, and which file is in each slot.

Everything here is decided from the table alone; no file is opened. The rules, in order:

1. Processed versions of a raw file (role "variant") are set aside where raw files are there,
   and the samples (role "sample") parted: each is a grid of its own.
2. Channel: its identity is (camera, ch, ...); its labels are the wavelengths where those are
   unique, else strings that are.
3. A token that never changes is a scalar coordinate. A clock is a coordinate too; under a
   pattern of the user's own it may be a dimension, where files differ in nothing else.
4. Two tokens that move together are one dimension and a coordinate, and a token that others
   determine is a coordinate over them. What is left are the dimensions.
5. Every other token becomes a coordinate over exactly the dimensions that determine it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from xarray_tiffstack.grid.columns import (
    Column,
    all_determine,
    all_distinct,
    encode,
    meaning,
    slots_of,
)
from xarray_tiffstack.grid.dimensions import choose_dimensions
from xarray_tiffstack.messages import FIRST, counted, first_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from xarray_tiffstack.names.conventions import Convention
    from xarray_tiffstack.names.vocabulary import Token


@dataclass(frozen=True, eq=False)
class Grid:
    """Files placed along labelled dimensions."""

    labels: dict[str, np.ndarray]
    """Labels along each dimension, sorted; the order of the keys is that of the dimensions."""
    paths: np.ndarray
    """Path of the file in each slot, None where there is none."""
    coords: dict[str, tuple[tuple[str, ...], np.ndarray]]
    """Every other token: the dimensions it varies with, and its values there."""
    duplicates: list[str] = field(default_factory=list)
    """Files left out because they are duplicates of a file in the same slot."""
    unreadable: frozenset[str] = frozenset()
    """Paths of files that hold no pixels: empty ones, and those that cannot be read."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions, outermost first."""
        return tuple(self.labels)

    @property
    def readable(self) -> np.ndarray:
        """Path of the file in each slot whose pixels can be read, else None."""
        paths = self.paths.copy()
        paths[np.isin(paths, list(self.unreadable))] = None
        return paths

    @property
    def present(self) -> np.ndarray:
        """Whether there is a file with pixels, for each slot."""
        return np.asarray(pd.notna(self.readable))

    def without(self, unreadable: Iterable[str]) -> Grid:
        """Give the grid with some files known to hold no pixels."""
        return replace(self, unreadable=frozenset(unreadable))


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
        What to do where two files belong in one slot: "raise"; keep the "first" or the "last" in
        the order of the table; or number them along a dimension "position", in the order of
        their clocks.

    Raises
    ------
    ValueError
        Where files cannot be placed without guessing.
    """
    tokens = {name: meaning(name, convention) for name in table.columns if name != "path"}
    paths = table["path"].to_numpy(object)
    columns = {
        name: encode(table[name])
        for name, token in tokens.items()
        if token.role != "random" and (token.role != "variant" or table[name].notna().all())
    }
    tile_dims = {token.lstrip("-") for token in tiles}
    dims, columns = choose_dimensions(columns, tokens, convention, tile_dims)
    for name in dims:
        _refuse_gaps_in_column(table, name, columns[name])
    shape = tuple(len(columns[name].values) for name in dims)
    if math.prod(shape) > 100 * len(paths) + 10_000:
        sizes = ", ".join(f"{name}: {n}" for name, n in zip(dims, shape, strict=True))
        raise ValueError(
            f"{counted(len(paths), 'file')} would fill a grid of {math.prod(shape)} slots "
            f"({sizes}): some of these tokens are not dimensions. Name only the tokens that are "
            "with pattern=, or drop columns from the table of xarray_tiffstack.scan() and open "
            "that."
        )
    slots = slots_of([columns[name] for name in dims], len(paths))
    if duplicates == "position" and not all_distinct([columns[name] for name in dims], len(paths)):
        columns["position"] = _numbered(slots, columns, tokens)
        dims = ("position", *(name for name in dims if name != "position"))
        shape = tuple(len(columns[name].values) for name in dims)
        slots = slots_of([columns[name] for name in dims], len(paths))
    keep, dropped = _unique_slots(slots, paths, duplicates, dims, columns)
    slots, paths = slots[keep], paths[keep]
    columns = {name: Column(column.codes[keep], column.values) for name, column in columns.items()}
    cube = np.full(math.prod(shape), None, object)
    cube[slots] = paths
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


# --- what is left out, or refused, before anything is placed -------------------------------


def _refuse_gaps_in_column(table: pd.DataFrame, name: str, column: Column) -> None:
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


# --- slots and coordinates ------------------------------------------------------------------


def _unique_slots(
    slots: np.ndarray,
    paths: np.ndarray,
    duplicates: str,
    dims: Sequence[str],
    columns: Mapping[str, Column],
) -> tuple[np.ndarray, list[str]]:
    """Keep one file a slot, or say which slots have more."""
    series = pd.Series(slots)
    again = series.duplicated(keep="last" if duplicates == "last" else "first").to_numpy()
    if not again.any():
        return np.arange(len(slots)), []
    if duplicates != "raise":
        return np.flatnonzero(~again), paths[again].tolist()
    crowded = series[series.duplicated(keep=False)].groupby(series, sort=False).groups
    lines = []
    for rows in list(crowded.values())[:FIRST]:
        slot = ", ".join(f"{n}={columns[n].values[columns[n].codes[rows[0]]]}" for n in dims)
        names = [os.path.basename(paths[row]) for row in rows]
        more = f", ... and {len(names) - 2} more" if len(names) > 2 else ""
        lines.append(f"  ({slot}): {names[0]}, {names[1]}{more}")
    more = f"\n  ... and {len(crowded) - FIRST} more slots" if len(crowded) > FIRST else ""
    rows = next(iter(crowded.values()))
    differ = [
        n for n, c in columns.items() if n not in dims and len(set(c.codes[rows].tolist())) > 1
    ]
    why = (
        f"These files differ only in {' and '.join(differ)}, which is not a dimension: two "
        "positions that the names do not show, or an acquisition that was started again. "
        if differ
        else ""
    )
    raise ValueError(
        f"{counted(int(again.sum()), 'duplicate')}: files with the labels of another file, in "
        f"{counted(len(crowded), 'slot')}:\n" + "\n".join(lines) + more + f"\n{why}"
        'Choose with duplicates="first" or "last", number them as positions with '
        'duplicates="position", or name what differs with pattern=.'
    )


def _numbered(
    slots: np.ndarray, columns: Mapping[str, Column], tokens: Mapping[str, Token]
) -> Column:
    """Count the files of each slot in the order of their clocks."""
    clocks = [columns[n] for n, token in tokens.items() if token.role == "clock" and n in columns]
    order = np.lexsort([*(clock.codes for clock in reversed(clocks)), slots])
    new_slot = np.append(True, np.diff(slots[order]) != 0)
    first = np.maximum.accumulate(np.where(new_slot, np.arange(len(slots)), 0))
    codes = np.empty(len(slots), np.int64)
    codes[order] = np.arange(len(slots)) - first
    return Column(codes, np.arange(codes.max() + 1))


def _coordinate(
    column: Column, placed: Mapping[str, Column], complete: bool
) -> tuple[tuple[str, ...], np.ndarray]:
    """Lay a token out along exactly the dimensions that determine it."""
    if not column.varies:
        return (), column.values.reshape(())
    along = dict(placed)
    for name in reversed(list(placed)):
        rest = {n: c for n, c in along.items() if n != name}
        if all_determine(list(rest.values()), column):
            along = rest
    shape = tuple(len(c.values) for c in along.values())
    slots = slots_of(list(along.values()), len(column.codes))
    codes = np.full(math.prod(shape), -1, np.int64)
    codes[slots] = column.codes
    if complete or not (codes < 0).any():
        return tuple(along), column.values[codes].reshape(shape)
    number = column.values.dtype.kind in "iuf"
    values = np.append(
        column.values.astype(float if number else object),
        np.array([np.nan if number else ""], float if number else object),
    )
    return tuple(along), values[codes].reshape(shape)
