"""Knows which naming conventions there are, what their tokens mean, and which one names follow.

A convention is data: everything about one is in ``conventions.toml`` (or in a user's own file
of the same form); the code here reads and compares.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field, fields
from functools import cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from xarray_tiffstack.names.pattern import Pattern, Value
from xarray_tiffstack.names.vocabulary import BUILT_IN, DIMS, VOCABULARY, Token, read_token

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

INFERRED = "inferred"  # name of what no list holds: a convention of one folder


@dataclass(frozen=True)
class Aside:
    """Files that a format writes beside the images, and that are no part of the array."""

    pattern: Pattern
    """Their names."""
    reason: str
    """What they are."""
    alone: bool = False
    """Whether they are the images after all where there are no others."""


@dataclass(frozen=True)
class Example:
    """A real file name, and what is to be read from it."""

    name: str
    """Path of the file, as its writer spelled it."""
    tokens: Mapping[str, Value]
    """Value of each token that is there."""
    source: str
    """Where the name was seen."""


@dataclass(frozen=True)
class Convention:
    """One way in which files are named, and what the parts of the names mean.

    Examples
    --------
    >>> aollsm = conventions()["aollsm"]
    >>> aollsm.always, aollsm.tokens["time"].units
    (('channel', 'stack'), 'millisecond')
    """

    name: str
    """Name to ask for it by."""
    title: str
    """Microscope or program that writes it."""
    link: str
    """Where to read more: its description, its maker, or real files."""
    patterns: tuple[Pattern, ...]
    """Ways to write the names; one set of files follows one of them."""
    tokens: Mapping[str, Token]
    """Meaning of every token in the patterns."""
    dims: tuple[str, ...]
    """Order of the dimensions that it may give."""
    always: tuple[str, ...] = ()
    """Dimensions that are there also where they have length 1."""
    pages: str | None = None
    """What the pages of a file are, where the file does not say; None where that is not known."""
    weak: bool = False
    """Whether it says so little that other programs write such names, too: what an inference finds
    in them beyond it goes before it."""
    settings: bool = False
    """Whether a Settings file of a lattice light-sheet microscope may lie beside the images."""
    aside: tuple[Aside, ...] = ()
    """Files that belong to the format, but not to the array."""
    examples: tuple[Example, ...] = field(default=(), repr=False)
    """Real names; all are tested."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the fields; a mapping proxy cannot be pickled."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return partial(Convention, **{**values, "tokens": dict(self.tokens)}), ()

    def set_aside(self, names: Sequence[str]) -> dict[str, str]:
        """Say which files belong to the format but not to the array, and what they are.

        Parameters
        ----------
        names : sequence of str
            Paths relative to the source, with "/" between their parts.

        Returns
        -------
        dict of str to str
            The reason for each name that is set aside. No IO.

        Examples
        --------
        >>> ctc = conventions()["cell_tracking_challenge"]
        >>> ctc.set_aside(["01/t000.tif", "01_RES/mask000.tif"])
        {'01_RES/mask000.tif': 'segmentation or tracking'}
        >>> ctc.set_aside(["01_RES/mask000.tif", "01_RES/mask001.tif"])
        {}
        """
        found = {
            name: aside
            for aside in self.aside
            for name in names
            if aside.pattern.accounts_for(name) is not None
        }
        alone = any(aside.alone for aside in found.values()) and not any(
            pattern.accounts_for(name) is not None
            for name in names
            if name not in found
            for pattern in self.patterns
        )
        return {name: aside.reason for name, aside in found.items() if not (alone and aside.alone)}


@cache
def conventions() -> Mapping[str, Convention]:
    """Return the built-in conventions by name; the file is read once.

    Examples
    --------
    >>> conventions()["aollsm"].title
    'Advanced Imaging Center / Betzig lab lattice light-sheet (AO-LLSM)'
    """
    return MappingProxyType(load_conventions(BUILT_IN))


def load_conventions(path: str | os.PathLike[str]) -> dict[str, Convention]:
    """Read conventions from a TOML file, in the form that ``docs/conventions.md`` describes.

    Parameters
    ----------
    path : str or path-like
        The file; it is read once.

    Returns
    -------
    dict of str to Convention

    Raises
    ------
    ValueError
        For a file that is not TOML, or an entry that is not a convention; the message names both.
    OSError
        Where the file cannot be read.

    Examples
    --------
    >>> load_conventions(BUILT_IN)["aollsm"].always
    ('channel', 'stack')
    """
    try:
        with open(path, "rb") as file:
            entries = tomllib.load(file).get("convention")
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    if not entries:
        raise ValueError(f"{path} has no table [convention.<name>]")
    loaded = {}
    for name, entry in entries.items():
        try:
            loaded[name] = _convention(name, entry)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, [convention.{name}]: {error}") from None
    return loaded


def find_convention(name: str) -> Convention:
    """Look a convention up by its name.

    Parameters
    ----------
    name : str
        Name of a built-in convention.

    Returns
    -------
    Convention

    Raises
    ------
    ValueError
        For an unknown name, with those that are known.

    Examples
    --------
    >>> find_convention("aollsm").tokens["stack"].role
    'axis'
    """
    known = conventions()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name.lower(), known, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise ValueError(f"no convention is named {name!r}.{hint} Known: {', '.join(known)}")


def inferred_convention(pattern: Pattern, tokens: Mapping[str, Token]) -> Convention:
    """Make a convention of a pattern that was inferred, for the one folder that it was made for.

    Parameters
    ----------
    pattern : Pattern
        How the names are read.
    tokens : mapping of str to Token
        Meaning of the tokens that mean something else than their names do in `VOCABULARY`.

    Examples
    --------
    >>> inferred_convention(Pattern("shot{n:d}_c{channel:d}"), {}).tokens["channel"].role
    'channel'
    """
    meanings = {name: VOCABULARY.get(name, Token("axis")) for name in pattern.tokens}
    return Convention(
        name=INFERRED,
        title="Inferred from the names of one folder",
        link="",
        patterns=(pattern,),
        tokens=MappingProxyType({**meanings, **tokens}),
        dims=DIMS,
    )


def _convention(name: str, entry: dict[str, Any]) -> Convention:
    """Build one convention from its table in the file."""
    keys = [each.name for each in fields(Convention) if each.name != "name"]
    wrong = [f"{key!r} is no key" for key in entry if key not in keys]
    wrong += [f"{key!r} is missing" for key in ("title", "patterns", "dims") if key not in entry]
    if wrong:
        raise ValueError(f"{'; '.join(wrong)}; the keys are {', '.join(keys)}")
    patterns = tuple(Pattern(text) for text in entry.pop("patterns"))
    own = {token: read_token(token, meaning) for token, meaning in entry.pop("tokens", {}).items()}
    used = list(dict.fromkeys(token for pattern in patterns for token in pattern.tokens))
    for key in ("dims", "always"):
        if not isinstance(entry.get(key, []), list):
            raise ValueError(f"{key} is a list of names, not {entry[key]!r}")
    if unknown := [token for token in used if token not in own and token not in VOCABULARY]:
        raise ValueError(f"tokens without a meaning: {', '.join(unknown)}; give each a role")
    if idle := own.keys() - set(used):
        raise ValueError(f"tokens that no pattern has: {', '.join(sorted(idle))}")
    asides = tuple(
        Aside(**{**aside, "pattern": Pattern(aside["pattern"])}) for aside in entry.pop("aside", ())
    )
    examples = tuple(Example(**example) for example in entry.pop("examples", ()))
    dims, always = tuple(entry.pop("dims")), tuple(entry.pop("always", ()))
    return Convention(
        name=name,
        patterns=patterns,
        tokens=MappingProxyType({token: own.get(token) or VOCABULARY[token] for token in used}),
        dims=dims,
        always=always,
        aside=asides,
        examples=examples,
        **entry,
    )
