"""Knows the words of file names: what tokens, markers, units and dyes mean; data of a TOML file."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Role: TypeAlias = Literal[
    "axis", "tile", "channel", "label", "clock", "piece", "variant", "sample", "random"
]

BUILT_IN = Path(__file__).with_name("conventions.toml")


@dataclass(frozen=True)
class Token:
    """What one token of a file name means.

    Examples
    --------
    >>> VOCABULARY["wavelength"]
    Token(role='label', units='nanometer', missing=None, title=None)
    """

    role: Role
    """What the token does: "axis" counts something and becomes a dimension where it varies; "tile"
    is an axis that is a place in a mosaic; "channel" is part of a channel's identity; "label" names
    the channel but is not its identity; "clock" was measured, or repeats what others say, and is a
    coordinate, never a dimension; "piece" continues the same volume along z; "variant" tells a
    processed version of a file from the raw one; "sample" is what was imaged, and different ones
    are different groups; "random" says nothing (a GUID)."""
    units: str | None = None
    """Unit of the values, spelled as UDUNITS and NGFF do."""
    missing: int | str | None = None
    """Value where an optional token is absent from some names and present in others; None keeps it
    missing."""
    title: str | None = None
    """The token in words."""


def read_token(name: str, meaning: dict[str, Any]) -> Token:
    """Build the meaning of one token from its table in the file."""
    token = Token(**meaning)
    if token.role not in get_args(Role):
        raise ValueError(
            f"token {name!r} has the role {token.role!r}; roles are {', '.join(get_args(Role))}"
        )
    return token


@dataclass(frozen=True)
class Letter:
    """What a single letter beside a number means, in company."""

    name: str
    """What the number is then called."""
    beside: str = ""
    """Markers of which one marks another number of the same names."""
    before: str = ""
    """Markers of which one marks the number right before it."""
    after: str = ""
    """Markers of which one marks the number right after it."""
    digits: int = 0
    """Digits that the number has at least."""
    alone: int = 0
    """How many values there are at most, counted from 0 or 1."""
    lower: bool = False
    """Whether the letter has to be a small one."""
    counted: bool = False
    """Whether the values have to be counted from 0 or 1."""


@dataclass(frozen=True)
class Unit:
    """What letters after a number say of it."""

    kind: str
    """What is measured."""
    unit: str
    """Unit, spelled as UDUNITS and NGFF do."""
    name: str = ""
    """What the number is called where nothing else names it."""


def _words(table: Mapping[str, str]) -> dict[str, str]:
    """Turn names with their words around."""
    return {word: name for name, words in table.items() for word in words.split()}


def _any_of(expressions: Sequence[str]) -> re.Pattern[str]:
    """Join regular expressions that are compared in any case."""
    return re.compile("|".join(expressions), re.IGNORECASE)


with BUILT_IN.open("rb") as _file:
    _TABLE = tomllib.load(_file)["vocabulary"]
_WORDS = _TABLE["words"]

VOCABULARY: Mapping[str, Token] = MappingProxyType(
    {name: read_token(name, meaning) for name, meaning in _TABLE["tokens"].items()}
)
"""Meaning of a token by its name, where no convention says otherwise."""
DIMS = tuple(_TABLE["dims"])
"""Order of dimensions, where no convention says otherwise."""
MARKERS = _words(_TABLE["markers"])
"""What a number or text is called, by the word that marks it."""
LETTERS = {letter: [Letter(**one) for one in many] for letter, many in _TABLE["letters"].items()}
"""What single letters mean, the first that holds."""
KINDS: Mapping[str, str] = _WORDS["kinds"]
"""What kind of unit a name agrees with."""
SIGNED, DECIMAL = set(_WORDS["signed"].split()), set(_WORDS["decimal"].split())
"""Names whose values may be below zero, or have a decimal point."""
GENERIC, RESERVED = set(_WORDS["generic"].split()), set(_WORDS["reserved"].split())
"""Words before a number that say nothing, and names that a token cannot have."""
NOT_IN_PLATES = set(_WORDS["not_in_plates"].split())
"""Words before a letter and a number that say that they are no place in a plate."""
DERIVED = set(_WORDS["derived"].split())
"""Words of the names of files that were made of others."""
LASERS = set(map(int, _WORDS["lasers"].split()))
"""Lines of common lasers, in nanometers."""
MONTHS = _WORDS["months"].replace(" ", "|")
"""Months, as a regular expression."""
DYE, LONG_DYE = _any_of(_WORDS["dyes"]), _any_of(_WORDS["long_dyes"])
"""Dyes, contrasts and targets; those of several words."""
VARIANT = _any_of(_WORDS["variant"].split())
"""Words that tell a processed version of a file from the raw one."""


def unit_of(letters: str) -> Unit | None:
    """Return the unit that letters after a number are.

    Examples
    --------
    >>> unit_of("Msec").unit, unit_of("mM").unit, unit_of("w")
    ('millisecond', 'millimolar', None)
    """
    found = _TABLE["units"].get(letters)
    if found is None and not letters.endswith("M"):
        found = _TABLE["units"].get(letters.lower())
    return None if found is None else Unit(**found)
