"""Names of wells: the row and the column of the plate that they say."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def row_and_column(well: object) -> tuple[str, str]:
    """Read the name of a well.

    A quarter of a well of 384 is one of 1536. Of a number alone nothing says how many columns the
    plate has, so that all wells are in one row.

    Examples
    --------
    >>> row_and_column("B03"), row_and_column("A02.b1"), row_and_column("W0013")
    (('B', '03'), ('B', '3'), ('W', '13'))
    """
    text = str(well)
    if number := _NUMBER.fullmatch(text):
        return "W", str(int(number[1] or number[2]))
    if quarter := re.fullmatch(r"([A-Za-z])(\d+)\.([ab])([12])", text):
        row = 2 * string.ascii_uppercase.index(quarter[1].upper()) + "ab".index(quarter[3])
        return letters(row), str(2 * int(quarter[2]) - 2 + int(quarter[4]))
    found = re.fullmatch(r"([A-Za-z]+)[-_]?(\d+)", text)
    if found is None:
        raise ValueError(f"well {text!r} is not a letter and a number, such as B03")
    return found[1], found[2]


_NUMBER = re.compile(r"[Ww](\d{3,})|(\d+)")


def rows_and_columns(wells: Iterable[object]) -> tuple[list[str], list[int]] | None:
    """Read the names of wells; None where one of them says no row and column.

    A number alone says none.

    Examples
    --------
    >>> rows_and_columns(["B03", "aa-1"])
    (['B', 'AA'], [3, 1])
    >>> rows_and_columns(["B03", "control"]), rows_and_columns(["12"])
    (None, None)
    """
    names = [str(well) for well in wells]
    if any(_NUMBER.fullmatch(name) for name in names):
        return None
    try:
        places = [row_and_column(name) for name in names]
    except ValueError:
        return None
    return [row.upper() for row, _ in places], [int(column) for _, column in places]


def letters(row: int) -> str:
    """Name of a row of a plate, from 0.

    Examples
    --------
    >>> letters(0), letters(25), letters(26), letters(31)
    ('A', 'Z', 'AA', 'AF')
    """
    first, last = divmod(row, 26)
    return (letters(first - 1) if first else "") + string.ascii_uppercase[last]


def number(row: str) -> int:
    """Place of a row of a plate, from 0, by its name.

    Examples
    --------
    >>> number("A"), number("z"), number("AF")
    (0, 25, 31)
    """
    found = 0
    for letter in row.upper():
        found = 26 * found + string.ascii_uppercase.index(letter) + 1
    return found - 1
