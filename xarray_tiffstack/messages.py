"""How messages are worded: lists of offenders, choices, and the caller whom a warning names."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import FrameType

FIRST = 5  # how many offenders a message names


def first_lines(items: Iterable[object], total: int | None = None) -> str:
    """Up to five items, one an indented line, and how many more there are."""
    items = list(items)
    total = len(items) if total is None else total
    lines = [f"  {item}" for item in items[:FIRST]]
    if total > FIRST:
        lines.append(f"  ... and {total - FIRST} more")
    return "\n".join(lines)


def one_of(keyword: str, value: object, accepted: Sequence[object]) -> None:
    """Refuse a keyword whose value is not among those accepted."""
    if value not in accepted:
        raise ValueError(f"{keyword}={value!r} is none of {', '.join(map(repr, accepted))}")


def user_stacklevel() -> int:
    """Stack level of the first caller outside this package and xarray, for warnings."""
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in {
        "xarray_tiffstack",
        "xarray",
    }:
        frame, level = frame.f_back, level + 1
    return level
