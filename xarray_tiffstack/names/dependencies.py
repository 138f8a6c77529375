"""Knows which columns of codes determine others: the functional dependencies of a table.

A column holds a small integer a row, equal where the values are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence


def combined(columns: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """Give each row a number, from zero on, that is equal where all columns are equal.

    Examples
    --------
    >>> combined([np.array([0, 0, 1, 0]), np.array([2, 5, 2, 2])], rows=4).tolist()
    [0, 1, 2, 0]
    """
    codes = np.zeros(rows, np.int64)
    for column in columns:
        codes = pd.factorize(codes * (int(column.max(initial=0)) + 1) + column)[0]
    return codes


def distinct(columns: Sequence[np.ndarray], rows: int) -> bool:
    """Whether no two rows agree in all columns.

    Examples
    --------
    >>> distinct([np.array([0, 0, 1]), np.array([0, 1, 0])], rows=3)
    True
    """
    return int(combined(columns, rows).max(initial=-1)) + 1 == rows


def determines(columns: Sequence[np.ndarray], other: np.ndarray) -> bool:
    """Whether rows that agree in all of `columns` agree in `other`.

    Examples
    --------
    >>> determines([np.array([0, 0, 1, 2])], np.array([3, 3, 3, 4]))
    True
    >>> determines([np.array([0, 0, 1, 2])], np.array([3, 4, 4, 4]))
    False
    """
    codes = columns[0] if len(columns) == 1 else combined(columns, len(other))
    last = np.zeros(int(codes.max(initial=0)) + 1, np.int64)
    last[codes] = other
    return bool((last[codes] == other).all())
