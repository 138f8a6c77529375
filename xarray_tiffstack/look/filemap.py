"""The map of the files: a square for each slot, or for several where there are very many."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from xarray_tiffstack.look import plate
from xarray_tiffstack.look.files import STATES
from xarray_tiffstack.look.words import in_bytes, label_text
from xarray_tiffstack.messages import counted
from xarray_tiffstack.wells import letters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray_tiffstack.look.files import Files, State

MOST = 5000  # squares of a map
CLASSES = dict(zip(STATES, ("ok", "size", "short", "empty", "bad", "gone", "none"), strict=True))


@dataclass(frozen=True, eq=False)
class Square:
    """One square of the map."""

    state: State
    """The worst of its slots' states."""
    said: str
    """Which slots, and their files."""


@dataclass(frozen=True, eq=False)
class Map:
    """Squares in rows."""

    rows: list[tuple[str, list[Square | None]]]
    """Name of each row, and its squares; None is a place of a plate that was not recorded."""
    columns: list[str]
    """Names of the columns; of a plate all, else the first and the last."""
    merged: int
    """Slots of one square."""
    is_plate: bool = False


def make_map(files: Files) -> Map:
    """Lay the files out: the longest dimension from left to right, of plates rows and columns."""
    if files.wells:
        return _plate(files)
    shape: tuple[int, ...] = files.paths.shape or (1,)
    names = list(files.labels)
    lengths = [0 if names[i : i + 1] == ["channel"] else n for i, n in enumerate(shape)]
    lengths = lengths if max(lengths) > 1 else list(shape)
    across = max(range(len(shape)), key=lambda axis: (lengths[axis], axis))
    slots = np.moveaxis(np.arange(files.paths.size).reshape(shape), across, -1)
    table = slots.reshape(-1, slots.shape[-1])
    down = _rows_a_square(len(table), slots.shape[0], math.ceil(table.size / MOST))
    over = math.ceil(math.ceil(len(table) / down) * table.shape[1] / MOST)
    rows: list[tuple[str, list[Square | None]]] = []
    for first in range(0, len(table), down):
        group = table[first : first + down]
        squares: list[Square | None] = [
            _square(files, group[:, i : i + over].ravel()) for i in range(0, table.shape[1], over)
        ]
        rows.append((_row_name(files, group, names[:across] + names[across + 1 :]), squares))
    columns = [
        f"{name} {label_text(files.labels[name][i])}"
        for name in names[across:][:1]
        for i in (0, -1)
    ]
    return Map(rows, columns, down * over)


def _rows_a_square(rows: int, outermost: int, wanted: int) -> int:
    """Choose how many rows are merged: those of one label of the outermost dimension, if it goes.

    Examples
    --------
    >>> _rows_a_square(200, 4, 20), _rows_a_square(200, 4, 90)
    (25, 90)
    """
    alike = rows // max(1, outermost)
    return next((n for n in range(wanted, alike + 1) if alike % n == 0), min(rows, wanted))


def _row_name(files: Files, group: np.ndarray, others: Sequence[str]) -> str:
    """Labels of a row along all dimensions but that of the columns; of several the ends."""
    names = list(files.labels)
    ends = []
    for slot in dict.fromkeys((int(group[0, 0]), int(group[-1, 0]))):
        at = dict(zip(names, np.unravel_index(slot, files.paths.shape or (1,)), strict=False))
        ends.append(", ".join(f"{n} {label_text(files.labels[n][at[n]])}" for n in others))
    return " to ".join(dict.fromkeys(ends))


def _plate(files: Files) -> Map:
    """Lay the wells out as they lie on the plate."""
    slots = np.arange(files.paths.size).reshape(files.paths.shape)
    each = {
        place: slots[tuple(at.get(name, slice(None)) for name in files.labels)].ravel()
        for place, at in files.wells.items()
    }
    squares = {place: _square(files, of_well) for place, of_well in each.items()}
    height, width = plate.shape(list(each))
    rows: list[tuple[str, list[Square | None]]] = [
        (letters(r), [squares.get((r, c)) for c in range(width)]) for r in range(height)
    ]
    merged = len(next(iter(each.values())))
    return Map(rows, [str(c + 1) for c in range(width)], merged, is_plate=True)


def _square(files: Files, slots: np.ndarray) -> Square:
    """One square for one slot, or for several."""
    states = files.states.ravel()[slots]
    worst = STATES[int(states.max())]
    shape = files.paths.shape or (1,)
    first, last = (
        files.slot([int(i) for i in np.unravel_index(int(slot), shape)]) if files.labels else ""
        for slot in (slots[0], slots[-1])
    )
    if len(slots) == 1:
        return Square(worst, f"{first}: {_file_in_words(files, int(slots[0]))}".lstrip(": "))
    number = Counter(STATES[s] for s in states.tolist())
    held = len(slots) - number["missing"]
    parts = [f"{held:,} of {counted(len(slots), 'file')}" if held < len(slots) else ""]
    parts += [f"{n:,} {state}" for state, n in number.items() if state not in ("present",)]
    said = ", ".join(filter(None, parts)) or f"all {counted(len(slots), 'file')}"
    return Square(worst, f"{first} to {last}: {said}")


def _file_in_words(files: Files, slot: int) -> str:
    path, size = files.paths.flat[slot], int(files.sizes.flat[slot])
    if path is None:
        return "missing"
    state = STATES[int(files.states.flat[slot])]
    extra = "" if state == "present" or files.elsewhere else f" ({state})"
    return f"{files.below(path)}{f', {in_bytes(size)}' if size >= 0 else ''}{extra}"


def map_html(files: Files) -> str:
    """Draw the map, with a legend of the states that occur."""
    drawn = make_map(files)
    rows = []
    for name, squares in drawn.rows:
        cells = "".join(_square_html(square, files.elsewhere) for square in squares)
        rows.append(f"<div class=ts-row><b>{escape(name)}</b><span>{cells}</span></div>")
    if drawn.is_plate:
        heads = "".join(f"<i>{escape(name)}</i>" for name in drawn.columns)
        rows.insert(0, f"<div class=ts-row><b></b><span class=ts-heads>{heads}</span></div>")
        ends = ""
    else:
        first, last = drawn.columns or ("", "")
        ends = "<p class=ts-note>"
        ends += f"From left to right: {escape(first)} to {escape(last)}." if first != last else ""
        ends += f" One square is {counted(drawn.merged, 'file')}." if drawn.merged > 1 else ""
        ends += "</p>"
    kind = "ts-map ts-plate" if drawn.is_plate else "ts-map"
    return f"<div class='{kind}'>{''.join(rows)}</div>{ends}{_legend(files)}"


def _square_html(square: Square | None, elsewhere: bool) -> str:
    if square is None:
        return "<i></i>"
    state = "ok" if elsewhere and square.state == "no longer there" else CLASSES[square.state]
    return f'<i class="{state}" title="{escape(square.said)}"></i>'


def _legend(files: Files) -> str:
    """Name the colours that occur, with how many files have them."""
    number = np.bincount(files.states.ravel(), minlength=len(STATES))
    shown = [
        f"<span><i class={'ok' if files.elsewhere and state != 'missing' else CLASSES[state]}></i> "
        f"{state} {n:,}</span>"
        for state, n in zip(STATES, number.tolist(), strict=True)
        if n
    ]
    return f"<p class='ts-map ts-legend'>{''.join(shown)}</p>"
