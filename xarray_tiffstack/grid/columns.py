"""The columns of a file table as integer codes, and what the tokens in them mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xarray_tiffstack.names.dependencies import determines, distinct
from xarray_tiffstack.names.vocabulary import VOCABULARY, Token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_tiffstack.names.conventions import Convention

UNKNOWN = Token("axis")


def meaning(name: str, convention: Convention | None) -> Token:
    """Meaning of a token in a convention, else by its name alone."""
    if convention is not None and name in convention.tokens:
        return convention.tokens[name]
    return VOCABULARY.get(name, UNKNOWN)


@dataclass
class Column:
    """A token of the table as integer codes: `values[codes]` is the column."""

    codes: np.ndarray
    values: np.ndarray

    @property
    def varies(self) -> bool:
        """Whether not all files have the same value."""
        return len(self.values) > 1


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which numbers inside text order as numbers."""
    return [
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", str(text))
        if part
    ]


def encode(column: pd.Series[Any]) -> Column:
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
    return Column(codes, found)


def slots_of(columns: Sequence[Column], length: int) -> np.ndarray:
    """Give each row the number of its slot, in C order."""
    if not columns:
        return np.zeros(length, np.intp)
    sizes = [len(column.values) for column in columns]
    return np.ravel_multi_index([column.codes for column in columns], sizes)


def all_determine(columns: Sequence[Column], other: Column) -> bool:
    """Whether rows that agree in all of `columns` agree in `other`."""
    return determines([column.codes for column in columns], other.codes)


def all_distinct(columns: Sequence[Column], length: int) -> bool:
    """Whether no two rows agree in all columns."""
    return distinct([column.codes for column in columns], length)
