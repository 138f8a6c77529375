"""Knows the words of file names: what tokens, markers, units and dyes mean; data of a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def _vocabulary() -> tuple[Mapping[str, Token], tuple[str, ...]]:
    """Read what tokens mean, and how dimensions are ordered, where no convention says."""
    with open(BUILT_IN, "rb") as file:
        entry = tomllib.load(file)["vocabulary"]
    tokens = {name: read_token(name, meaning) for name, meaning in entry["tokens"].items()}
    return MappingProxyType(tokens), tuple(entry["dims"])


VOCABULARY, DIMS = _vocabulary()
"""Meaning of a token by its name, and order of dimensions, where no convention says otherwise."""
