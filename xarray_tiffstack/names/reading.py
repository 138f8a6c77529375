"""Knows how the names of a source are read: by a convention, by inference, or not at all."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xarray_tiffstack.messages import first_lines
from xarray_tiffstack.names.conventions import (
    Convention,
    find_convention,
    inferred_convention,
)
from xarray_tiffstack.names.infer import Columns, Inference, Parsed, infer, made_alike
from xarray_tiffstack.names.pattern import Pattern
from xarray_tiffstack.names.recognise import recognise
from xarray_tiffstack.names.template import ENDING
from xarray_tiffstack.names.vocabulary import DERIVED, VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RAW = re.compile(r"(?<![^\W_])(?:img|image|raw|orig)(?![^\W_])", re.IGNORECASE)
# Letters before the number of a token, in a regular expression or a template.
_MARKED = re.compile(r"([A-Za-z]+)(?:\(\?P<|\{)(\w+)(?:>\\d|:\d*d)")
_SHOWN = 3  # templates that a refusal offers


@dataclass(frozen=True)
class Reading:
    """How names are read, and why."""

    pattern: Pattern
    """What takes them apart."""
    convention: Convention | None = None
    """What the tokens mean; None for a pattern of the user's own."""
    reasons: tuple[str, ...] = ()
    """Why, a line each."""
    aside: Mapping[str, str] = field(default_factory=dict)
    """Names that are no part of the array, each with the reason."""
    warning: str = ""
    """What a user should know, because it was guessed."""
    parsed: Parsed | None = field(default=None, repr=False, compare=False)
    """The other names taken apart, where that was done: which fit, and the columns."""


class UnreadableError(ValueError):
    """Names that no convention explains, and that cannot be read without guessing."""

    def __init__(self, names: Sequence[str], reasons: Sequence[str], templates: Sequence[str]):
        """Keep what is to be said; `templates` are tried, and the best are kept."""
        self.names, self.reasons = list(names), tuple(reasons)
        self.templates = _best(templates, names)
        super().__init__(self.message())

    def __reduce__(self) -> tuple[type[UnreadableError], tuple[object, ...]]:
        """Pickle what it was made of."""
        return UnreadableError, (self.names, self.reasons, self.templates)

    def message(self) -> str:
        """Say what is wrong, and what to do.

        Examples
        --------
        >>> error = UnreadableError(["a_1.tif", "b.tif"], ["two kinds"], ["{n}.tif"])
        >>> print(error)
        no known convention explains these 2 names, and they cannot be read without guessing:
          a_1.tif
          b.tif
          two kinds
        Say how they are read:
          pattern='{n}.tif'
        """
        total = len(self.names)
        why = "".join(f"\n  {reason}" for reason in self.reasons)
        ways = [f"pattern={template!r}" for template in self.templates]
        ways = ways or ["a template of your own, such as pattern='{name}_t{t:d}_z{z:d}.tif'"]
        return (
            f"no known convention explains these {total} names, and they cannot be read "
            f"without guessing:\n{first_lines(self.names)}{why}\nSay how they are read:\n"
            + first_lines(ways)
        )


def read_names(names: Sequence[str], pattern: str | Pattern | Convention | None = None) -> Reading:
    """Find the pattern that reads names, and what its tokens mean.

    Parameters
    ----------
    names : sequence of str
        Paths relative to the source, with "/" between their parts.
    pattern : str, Pattern or Convention, optional
        A template, a regular expression, or a convention or its name. By default the convention is
        recognised, or else a reading inferred.

    Returns
    -------
    Reading

    Raises
    ------
    UnreadableError
        A ValueError: no convention explains the names, and no reading of them is certain.

    Notes
    -----
    No IO.

    Examples
    --------
    >>> read_names([f"shot_t{t}.tif" for t in range(3)]).pattern.text
    'shot_t{t:d}.tif'
    """
    if pattern is None:
        return _chosen(names)
    if isinstance(pattern, str):
        # No convention is called as a file is; that of one file may have no token.
        written = re.search(r"[{}()\\]", pattern) or ENDING.search(pattern)
        pattern = Pattern(pattern) if written else find_convention(pattern)
    if isinstance(pattern, Pattern):
        return Reading(pattern)
    best = max(pattern.patterns, key=lambda p: p.parse_names(names)[0].sum())
    return Reading(best, pattern, aside=pattern.set_aside(names))


def _chosen(names: Sequence[str]) -> Reading:
    """Read names as a convention says, or as an inference does that says more."""
    aside = derived_files(names)
    names = [name for name in names if name not in aside]
    known = recognise(names)
    if known.convention is None or known.pattern is None:
        return _inferred(infer(names), names, aside)
    own = known.convention.set_aside(names)
    rest = [name for name in names if name not in own]
    fits, columns = known.pattern.parse_names(rest)
    left = [rest[row] for row in np.flatnonzero(~fits).tolist()]
    swallowed = _swallowed(known.pattern, columns)
    if left or swallowed or known.convention.weak:
        found = infer(rest)
        if found.pattern and (
            swallowed
            or len(found.unmatched) < len(left)
            or (not left and _says_more(found, known.convention, columns))
        ):
            return _inferred(found, rest, {**aside, **own})
        if swallowed:
            reason = f"{known.convention.name} would take {swallowed!r} for a part of a text"
            raise UnreadableError(rest, [reason, *found.reasons], found.candidates)
        read = [rest[row] for row in np.flatnonzero(fits).tolist()]
        if left and made_alike(left, read):
            reason = f"{len(left)} of {len(rest)} names do not fit {known.convention.name}, as"
            templates = [*([found.template] if found.template else []), *found.candidates]
            raise UnreadableError(rest, [reason, f"  {left[0]}", *found.reasons], templates)
    return Reading(
        known.pattern,
        known.convention,
        known.reasons,
        {**aside, **own},
        parsed=(fits, columns),
    )


def _swallowed(pattern: Pattern, columns: Columns) -> str | None:
    """Find a number that a text has taken, though the pattern marks numbers so at another place.

    Names in an order of their own, such as ``scan_s1_m0_ORG.tif`` with m before a number of a tile,
    else fit a convention by its free texts, and tiles become channels in silence.
    """
    absent = {token for token, column in columns.items() if pd.isna(column).all()}
    marks = [mark for mark, token in _MARKED.findall(pattern.text) if token in absent]
    if not marks:
        return None
    number = re.compile(rf"(?<![^\W_])(?:(?:{'|'.join(marks)})\d+)+(?![^\W_])")
    for token in _varying(columns):
        for value in pd.unique(columns[token]):
            if isinstance(value, str) and (found := number.search(value)):
                return found[0]
    return None


def _says_more(found: Inference, convention: Convention, columns: Columns) -> bool:
    """Whether an inference finds more in names than a convention, or words of their own."""
    own = _varying(found.parsed[1]) if found.parsed else []
    free = any(token.role == "sample" for token in convention.tokens.values())
    if free and any(name not in VOCABULARY and not re.fullmatch(r".|n\d*", name) for name in own):
        return True
    told = [name for name in _varying(columns) if convention.tokens[name].role != "sample"]
    marked = any(not re.fullmatch(r"n\d*", name) for name in own)
    return len(own) > len(told) or (told == ["n"] and marked)


def _varying(columns: Columns) -> list[str]:
    """Return the tokens that are not the same in all names."""
    return [name for name, column in columns.items() if len(pd.unique(column)) > 1]


def _inferred(found: Inference, names: Sequence[str], aside: Mapping[str, str]) -> Reading:
    """Read names that no convention explains, where that can be done in one way only."""
    if found.pattern is None:
        raise UnreadableError(names, found.reasons, found.candidates)
    why = "\n".join(f"  {reason}" for reason in found.reasons)
    warning = (
        f"no known convention explains these {len(names)} names; they are read as\n"
        f"  pattern={found.template!r}\n{why}\nPass that, or what is right, to say so yourself."
    )
    convention = inferred_convention(found.pattern, found.tokens)
    return Reading(found.pattern, convention, found.reasons, aside, warning, found.parsed)


def _best(templates: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the templates that read most of some names, the best first."""
    read = {text: Pattern(text).parse_names(names)[0].mean() for text in templates if names}
    good = [text for text, part in read.items() if part >= 0.5]
    return sorted(good, key=lambda text: -read[text])[:_SHOWN]


def derived_files(names: Sequence[str]) -> dict[str, str]:
    """Find files that were made of others that are there, too, as projections and masks.

    Parameters
    ----------
    names : sequence of str
        Paths relative to the source, with "/" between their parts.

    Returns
    -------
    dict of str to str
        The reason to set each such file aside.

    Examples
    --------
    >>> derived_files(["a_t0.tif", "a_t1.tif", "MIPs/a_t0_MIP_z.tif", "masks.tif"])
    {'MIPs/a_t0_MIP_z.tif': 'processed version of a raw file'}
    """
    everything = "\n".join(names).lower()
    words = sorted((word for word in DERIVED if word in everything), key=len, reverse=True)
    derived = re.compile(
        rf"(?<![^\W_])(?:{'|'.join(words)})(?:[ _-][xyz])?(?![^\W_])", re.IGNORECASE
    )
    made = [name for name in names if derived.search(name)] if words else []
    if not made or len(made) == len(names):
        return {}
    others = set(names).difference(made)
    raw = sorted({_stem(name, kind) for name in others for kind in (derived, _RAW)})
    return {
        name: "processed version of a raw file"
        for name in made
        if _begins(raw, _stem(name, derived))
    }


def _begins(raw: Sequence[str], stem: str) -> bool:
    """Whether a stem is one of some that are sorted, or the first words of one."""
    place = bisect_left(raw, stem)
    if not stem or place == len(raw):
        return False
    return raw[place] == stem or raw[place].startswith(tuple(stem + gap for gap in "_- ."))


def _stem(name: str, kind: re.Pattern[str]) -> str:
    """Return the name of a file, without its folder and the words that say how it was made."""
    stem = re.sub(r"(?:\.ome)?\.\w+$", "", name.rpartition("/")[2], flags=re.IGNORECASE)
    return kind.sub("", stem).strip(" _-.")
