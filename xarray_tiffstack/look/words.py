"""How numbers, labels and quantities are put into words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.messages import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = {"millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


def in_bytes(size: float) -> str:
    """Size in decimal units.

    Examples
    --------
    >>> in_bytes(812), in_bytes(316_150_000)
    ('812 bytes', '316.15 MB')
    """
    if size < 1000:
        return counted(int(size), "byte")
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 1000 or unit == "TB":
            break
    return f"{size:.2f} {unit}"


def seconds(value: float, units: object) -> float | None:
    """Time in seconds, None where the unit is unknown."""
    factor = _SECONDS.get(str(units))
    return None if factor is None else value * factor


def duration(time: float) -> str:
    """Time in its two largest units, from seconds.

    Examples
    --------
    >>> duration(43.748), duration(306.2), duration(8662), duration(0.0125), duration(0)
    ('43.7 s', '5 min 6 s', '2 h 24 min', '12.5 ms', '0 s')
    """
    if time == 0:
        return "0 s"
    if abs(time) < 1:
        return f"{1000 * time:.3g} ms"
    if abs(time) < 59.95:
        return f"{time:.3g} s"
    for large, name, small, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if round(time / small) * small >= large:
            whole, left = divmod(round(time / small), large // small)
            return f"{whole} {name} {left} {rest}" if left else f"{whole} {name}"
    whole, left = divmod(round(time), 60)
    return f"{whole} min {left} s" if left else f"{whole} min"


def label_text(label: Any) -> str:
    """Label as text: numbers without digits that say nothing."""
    if isinstance(label, (float, np.floating)):
        return f"{label:.6g}"
    return str(label)


def ranges(labels: np.ndarray, taken: Sequence[int] | np.ndarray) -> str:
    """Labels at some positions, neighbours as ranges: of numbers those that count by one.

    Examples
    --------
    >>> ranges(np.array([1, 2, 3, 5, 9, 10]), range(6)), ranges(np.array(["A", "B", "C"]), [0, 1])
    ('1-3, 5, 9-10', 'A to B')
    """
    at = np.asarray(taken)
    ends = np.diff(at) != 1
    if labels.dtype.kind in "iu":
        ends |= np.diff(labels[at]) != 1
    parts = []
    for run in np.split(at, np.flatnonzero(ends) + 1):
        first, last = (label_text(labels[i]) for i in (run[0], run[-1]))
        join = "-" if first.isdecimal() and last.isdecimal() else " to "
        parts.append(first if len(run) == 1 else f"{first}{join}{last}")
    return ", ".join(parts)
