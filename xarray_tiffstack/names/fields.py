"""Knows what is asked of a part of names that changes: a number, a text, its unit, its marker."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from xarray_tiffstack.names.punctuation import DATE, DURATION, FEW, TIME_OF_DAY, plain
from xarray_tiffstack.names.vocabulary import DYE, LETTERS, MARKERS, Token, Unit, unit_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

_NUMBER = re.compile(r"[-+]?[0-9]+(?:[.,p][0-9]+)?(?:[eE][-+][0-9]+)?")

# Part of the names that must be of one make before the others are thought of as strays.
MOST = 0.8
# Makes that a message shows.
FIRST = 5


class UnclearError(ValueError):
    """Names that cannot be read without guessing."""

    def __init__(self, *reasons: str, templates: Sequence[str] = ()) -> None:
        """Keep the reasons, a line each, and the templates that are possible."""
        super().__init__(*reasons)
        self.templates = tuple(templates)


class SeveralMakesError(UnclearError):
    """Names that are made in several ways."""

    def __init__(self, names: Sequence[str], makes: Sequence[str]) -> None:
        """Say which ways there are."""
        kinds = Counter(makes).most_common()
        self.alike = [
            [name for name, make in zip(names, makes, strict=True) if make == kind]
            for kind, _ in kinds[:FIRST]
        ]
        reasons = [f"  {len(own)} as {own[0]}" for own in self.alike]
        if len(kinds) > FIRST:
            reasons.append(f"  ... and {len(kinds) - FIRST} more ways")
        super().__init__(
            "the names are made in several ways, and most are made in no single one:", *reasons
        )


@dataclass(eq=False)
class Field:
    """A part of the names that changes: ``texts[codes]`` is what is there."""

    texts: list[str]
    codes: np.ndarray
    before: str = ""
    """Letters that touch it on the left."""
    after: str = ""
    """Letters that touch it on the right, where they belong to it."""
    word: str = ""
    """Marker beside it, where nothing touches it."""
    noun: str = ""
    """Any other word before it."""
    name: str = ""
    token: Token = Token("axis")  # noqa: RUF009 - it is frozen
    marked: bool = True
    """Whether its name was read, and not made up."""
    spec: str = ""

    @property
    def number(self) -> bool:
        """Whether all its texts are numbers."""
        return all(map(_NUMBER.fullmatch, self.texts))

    @property
    def values(self) -> list[float]:
        """The texts as numbers."""
        return [float(text.replace("p", ".").replace(",", ".")) for text in self.texts]

    @property
    def decimal(self) -> bool:
        """Whether it is a number with a decimal point or an exponent."""
        return self.number and any(map(set(".,peE").intersection, self.texts))

    @property
    def unit(self) -> Unit | None:
        """What the letters after it say of a number."""
        return unit_of(self.after) if self.after else None

    @property
    def moment(self) -> bool:
        """Whether all its texts are dates, times of day or durations."""
        kinds = (DATE, TIME_OF_DAY, DURATION)
        return any(all(map(kind.fullmatch, self.texts)) for kind in kinds)

    @property
    def marker(self) -> str:
        """The letters that mark it, in lower case; "" where there are none."""
        glued = self.before.lower()
        tail = re.search(r"(?<=[a-z])[A-Z][a-z]*\Z", self.before)
        if tail and glued not in MARKERS and is_marker(tail[0]):
            return tail[0].lower()
        return glued or (self.word or self.after).lower()


# Literal text and fields, in the order in which they are in the names.
Pieces: TypeAlias = "list[str | Field]"


def fields_of(pieces: Pieces) -> list[Field]:
    """Return the fields alone, without those that a later one repeats."""
    return [piece for piece in pieces if isinstance(piece, Field) and piece.name != "{}"]


def is_marker(word: str) -> bool:
    """Whether a word may mark a number."""
    return word.lower() in MARKERS or word.lower() in LETTERS or word.lower() in ("x", "y")


def are_dyes(texts: Sequence[str]) -> bool:
    """Whether one of some texts names a dye, a contrast or a target."""
    return len(texts) <= FEW and any(map(_is_dye, plain(texts)))


def _is_dye(text: str) -> bool:
    """Whether a text, or a word of several, names a dye, a contrast or a target."""
    return any(map(DYE.fullmatch, [text, *re.split("[-_ ]", text)]))
