"""How messages are worded: lists of offenders, choices, and the caller whom a warning names."""

from __future__ import annotations

import re
import sys
import time
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Iterator, Sequence
    from types import FrameType

FIRST = 5  # how many offenders a message names
DAMAGED = "is damaged (cut off or changed)"  # what a store holds, and cannot be decoded
_CODE = re.compile(r"([A-Z]{2,}(?:_[A-Z]+)*): (.*)", re.DOTALL)  # with which tensorstore begins
_UNDECODED = (ValueError, RuntimeError, LookupError, TypeError, zlib.error)
_OF_DECODING = ("FAILED_PRECONDITION", "DATA_LOSS", "INVALID_ARGUMENT", "OUT_OF_RANGE")


def counted(number: int, noun: str) -> str:
    """Give a number and its noun, with the right plural.

    Examples
    --------
    >>> counted(1, "file"), counted(1200, "file")
    ('1 file', '1,200 files')
    """
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def first_lines(items: Iterable[object], total: int | None = None) -> str:
    """Up to five items, one an indented line, and how many more there are."""
    items = list(items)
    total = len(items) if total is None else total
    lines = [f"  {item}" for item in items[:FIRST]]
    if total > FIRST:
        lines.append(f"  ... and {total - FIRST} more")
    return "\n".join(lines)


def unreadable(error: Exception) -> str:
    """Say in plain words why something in a store cannot be read: libraries name codes and codecs.

    Examples
    --------
    >>> unreadable(RuntimeError("error during blosc decompression: -1"))
    'is damaged (cut off or changed)'
    >>> unreadable(PermissionError(13, "Permission denied"))
    'cannot be read (Permission denied)'
    """
    if (said := _CODE.match(str(error))) is not None:
        code, text = said.groups()
        return DAMAGED if code in _OF_DECODING else f"cannot be read ({text})"
    if isinstance(error, _UNDECODED):
        return DAMAGED
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be read ({words})"


def one_of(keyword: str, value: object, accepted: Sequence[object]) -> None:
    """Refuse the value of a keyword that is not among those accepted.

    Examples
    --------
    >>> one_of("missing", "skip", ("fill", "raise"))
    Traceback (most recent call last):
    ValueError: missing must be 'fill' or 'raise', not 'skip'
    """
    if value not in accepted:
        *most, last = map(repr, accepted)
        choices = f"{', '.join(most)} or {last}" if most else last
        raise ValueError(f"{keyword} must be {choices}, not {value!r}")


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


@contextmanager
def timed(log: logging.Logger) -> Iterator[list[str]]:
    """Log what was done, and how long it took; what it was is put into the list meanwhile."""
    started = time.perf_counter()
    done: list[str] = []
    yield done
    log.info("%s: %.2f s", " ".join(done), time.perf_counter() - started)
