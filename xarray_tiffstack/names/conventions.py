"""Knows which naming conventions there are, what their tokens mean, and which one names follow.

A convention is data: everything about one stands in ``conventions.toml`` (or in a user's own file
of the same form); the code here reads and compares.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from xarray_tiffstack.names.pattern import Pattern, Value

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

Role: TypeAlias = Literal[
    "axis", "tile", "channel", "label", "clock", "piece", "variant", "sample", "random"
]

_BUILT_IN = Path(__file__).with_name("conventions.toml")
INFERRED = "inferred"  # name of what no list holds: a convention of one folder

# Names looked at before a convention is thought worth comparing with all of them.
_SAMPLE = 200


@dataclass(frozen=True)
class Token:
    """What one token of a file name means.

    Examples
    --------
    >>> VOCABULARY["wavelength"]
    Token(role='label', units='nanometer', base=None, missing=None, title=None)
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
    base: int | None = None
    """Where counting starts, where the format says."""
    missing: int | str | None = None
    """Value where an optional token is absent from some names and present in others; None keeps it
    missing."""
    title: str | None = None
    """The token in words."""


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
    pages: str = "z"
    """What the pages of a file are, where the file does not say."""
    fallback: bool = False
    """Whether it knows so little that a marker beside a number (``time000``) says more."""
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


@dataclass(frozen=True)
class Recognition:
    """Which convention names follow, and why."""

    convention: Convention | None
    """The convention, or None where none explains most of the names."""
    pattern: Pattern | None
    """The one of its patterns that the names follow."""
    fraction: float
    """Part of the names that it explains, those set aside left out; 0 to 1."""
    runner_up: Convention | None
    """The convention that came second."""
    runner_up_fraction: float
    """Part of the names that the second explains; 0 to 1."""
    reasons: tuple[str, ...]
    """The choice in words, a line each."""


@cache
def conventions() -> Mapping[str, Convention]:
    """Return the built-in conventions by name; the file is read once.

    Examples
    --------
    >>> conventions()["aollsm"].title
    'Advanced Imaging Center / Betzig lab lattice light-sheet (AO-LLSM)'
    """
    return MappingProxyType(load_conventions(_BUILT_IN))


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
    >>> load_conventions(_BUILT_IN)["aollsm"].always
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


def recognise(names: Sequence[str], among: Iterable[Convention] | None = None) -> Recognition:
    """Find the convention that names follow.

    Every convention is compared with names spread over the whole list, and where two come close,
    those two with all names. Of those that explain more than half of the names, the best gives a
    meaning to the most characters: a pattern that fixes much of each name goes before one that
    takes any text. The name of the sample has no meaning. Where no convention explains more than
    half, none is chosen.

    Parameters
    ----------
    names : sequence of str
        Paths relative to the source, with "/" between their parts.
    among : iterable of Convention, optional
        The conventions to compare; all that are built in by default.

    Returns
    -------
    Recognition

    Notes
    -----
    No IO. Some 0.2 s for 100,000 names.

    Examples
    --------
    >>> found = recognise(["cell_ch0_stack0000_488nm_0000000msec_0007232334msecAbs.tif"])
    >>> found.convention.name, found.fraction
    ('aollsm', 1.0)
    """
    known = conventions().values() if among is None else among
    sample = names[:: max(1, len(names) // _SAMPLE)]
    tried = [_compare(one, pattern, sample) for one in known for pattern in one.patterns]
    best: dict[str, _Fit] = {}
    for fit in sorted(tried, key=_Fit.rank, reverse=True):
        if fit.fraction and len(best) < 2:
            best.setdefault(fit.convention.name, fit)
    fits = list(best.values())
    close = [fit for fit in fits[1:] if fit.is_clear and fit.characters > fits[0].characters / 2]
    if close:
        fits = [_compare(fit.convention, fit.pattern, names) for fit in fits]
        fits.sort(key=_Fit.rank, reverse=True)
    reasons = [
        f"{fit.convention.name}: {fit.fraction:.1%} of the names, "
        f"{fit.characters:.0f} characters of each"
        for fit in fits
    ]
    first, second = [*fits, None, None][:2]
    if first is None or not first.is_clear:
        reasons.append("no convention explains more than half of the names")
    return Recognition(
        convention=first.convention if first and first.is_clear else None,
        pattern=first.pattern if first and first.is_clear else None,
        fraction=first.fraction if first else 0.0,
        runner_up=second.convention if second else None,
        runner_up_fraction=second.fraction if second else 0.0,
        reasons=tuple(reasons),
    )


class _Fit(NamedTuple):
    """How well some names follow one pattern of a convention."""

    convention: Convention
    pattern: Pattern
    fraction: float
    characters: float

    @property
    def is_clear(self) -> bool:
        """Whether most of the names follow it."""
        return self.fraction > 0.5

    def rank(self) -> tuple[bool, float]:
        """Order by whether most names follow, then by how much of them is explained."""
        return self.is_clear, self.characters


def _compare(convention: Convention, pattern: Pattern, names: Sequence[str]) -> _Fit:
    """Count the names that fit, and the characters of each that have a meaning."""
    free = [
        token for token in pattern.tokens if convention.tokens[token].role in ("sample", "random")
    ]
    aside = convention.set_aside(names)
    counts = [pattern.accounts_for(name, free) for name in names if name not in aside]
    known = [count for count in counts if count is not None]
    total = max(1, len(counts))
    return _Fit(convention, pattern, len(known) / total, sum(known) / total)


def _convention(name: str, entry: dict[str, Any]) -> Convention:
    """Build one convention from its table in the file."""
    keys = [each.name for each in fields(Convention) if each.name != "name"]
    wrong = [f"{key!r} is no key" for key in entry if key not in keys]
    wrong += [f"{key!r} is missing" for key in ("title", "patterns", "dims") if key not in entry]
    if wrong:
        raise ValueError(f"{'; '.join(wrong)}; the keys are {', '.join(keys)}")
    patterns = tuple(Pattern(text) for text in entry.pop("patterns"))
    own = {token: _token(token, meaning) for token, meaning in entry.pop("tokens", {}).items()}
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


def _token(name: str, meaning: dict[str, Any]) -> Token:
    """Build the meaning of one token from its table in the file."""
    token = Token(**meaning)
    if token.role not in get_args(Role):
        raise ValueError(
            f"token {name!r} has the role {token.role!r}; roles are {', '.join(get_args(Role))}"
        )
    return token


def _vocabulary() -> tuple[Mapping[str, Token], tuple[str, ...]]:
    """Read what tokens mean, and how dimensions are ordered, where no convention says."""
    with open(_BUILT_IN, "rb") as file:
        entry = tomllib.load(file)["vocabulary"]
    tokens = {name: _token(name, meaning) for name, meaning in entry["tokens"].items()}
    return MappingProxyType(tokens), tuple(entry["dims"])


VOCABULARY, DIMS = _vocabulary()
"""Meaning of a token by its name, and order of dimensions, where no convention says otherwise."""
