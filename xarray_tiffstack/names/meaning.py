"""Knows what to call what changes in names, by the letters beside it and the company it keeps.

A marker gives a standard name only where nothing contradicts it: no unit of another kind, no value
that such a number cannot have, no other field with a better right. Otherwise a field keeps the word
or the letters that are in the names, and is called `n` only where there are none.
"""

from __future__ import annotations

import re
from dataclasses import replace

from xarray_tiffstack.names.dependencies import combined, determines
from xarray_tiffstack.names.fields import Field, Pieces, UnclearError, are_dyes, fields_of
from xarray_tiffstack.names.punctuation import FEW, GUID_MARK, WORD
from xarray_tiffstack.names.vocabulary import (
    DECIMAL,
    DYE,
    GENERIC,
    KINDS,
    LASERS,
    LETTERS,
    MARKERS,
    NOT_IN_PLATES,
    RESERVED,
    SIGNED,
    VARIANT,
    VOCABULARY,
    Letter,
    Token,
)

_AXIS = Token("axis")  # what a token is whose name says nothing
_COUNTED = {"t", "z", "stack", "x_offset", "y_offset", "cycle", "round", "iter"}
_MAGNIFICATIONS = {1, 1.25, 2, 2.5, 4, 5, 6.3, 10, 16, 20, 25, 30, 32, 40, 50, 60, 63, 100, 150}
_ROUNDS = {"hyb", "hybs", "round", "rounds", "rnd", "cyc", "cycle", "cycles", "merfish", "seqfish"}
_CHANNELS = 64  # more channels than these are none


def name_fields(pieces: Pieces, files: int) -> None:
    """Name every field, and say what it means and how it is written."""
    _drop_copies(fields_of(pieces))
    fields = fields_of(pieces)
    company = _Company(pieces)
    taken: set[str] = set()
    for one in sorted(fields, key=_right_to_a_name):
        options = company.names_of(one) if not one.name else [one.name]
        if options:
            one.name = next((n for n in options if n not in taken), free_name(options[-1], taken))
            taken.add(one.name)
    for one in fields:
        if not one.name:
            name = _unmarked_name(one, pieces, taken)
            one.name, one.marked = free_name(name, taken), name != "n"
            taken.add(one.name)
    if "channel" in taken and taken & {"camera", "wavelength", "dye"}:
        next(one for one in fields if one.name == "channel").name = "ch"
    axes, sizes = _no_tiles(fields)
    for one in fields:
        one.token = _AXIS if one.name in axes else _token(one, files)
        if one.name in sizes:
            one.token = Token("clock")
        one.spec = one.spec or _spec(one, pieces)
    _settle_texts(fields)


def _no_tiles(fields: list[Field]) -> tuple[set[str], set[str]]:
    """Return the names of rows and columns of a plate, and of sizes of rectangles."""
    plate = any(one.name == "row" and not one.number for one in fields)
    rectangle = {"x", "y"} <= {one.marker for one in fields}
    return {"row", "col"} if plate else set(), {"w", "h"} if rectangle else set()


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, or the first of name2, name3, ... that no field has."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}{number}"
    return free


def _right_to_a_name(field: Field) -> tuple[bool, int]:
    """Sort fields by who takes a name first.

    What is measured goes before what is counted, and longer markers say more than shorter ones.
    """
    return field.unit is None or field.unit.kind != KINDS.get(_plain_name(field)), -len(
        field.marker
    )


def _plain_name(field: Field) -> str:
    """Return what the marker of a field says, whatever else is there."""
    return MARKERS.get(field.marker, "")


def _drop_copies(fields: list[Field]) -> None:
    """Leave out fields that a later one repeats, as the folder of channel1/img_C1 does."""
    for place, one in enumerate(fields):
        for other in fields[place + 1 :]:
            if _alike(one.marker, other.marker) and _same(one, other):
                if one.marker in MARKERS or not other.marker:
                    other.before, other.word = one.before, one.word
                    other.after = other.after or one.after
                    other.noun = other.noun or one.noun
                one.name = "{}"
                break


def _alike(marker: str, other: str) -> bool:
    """Whether two markers may mean the same: one is the other, its first letters, or none."""
    same = MARKERS.get(marker, marker) == MARKERS.get(other, other)
    return same or marker.startswith(other) or other.startswith(marker)


def _same(one: Field, other: Field) -> bool:
    """Whether two fields have the same value in every name, if perhaps padded differently."""
    if len(one.texts) != len(other.texts) or not (one.codes == other.codes).all():
        return False
    return one.values == other.values if one.number and other.number else one.texts == other.texts


class _Company:
    """The markers of all numbers of some names, in order, whether they change or not."""

    def __init__(self, pieces: Pieces) -> None:
        """Collect them."""
        self.marks: list[tuple[str, Field | None]] = []
        self.words: set[str] = set()
        self.about = "".join(piece if isinstance(piece, str) else "0" for piece in pieces)
        for piece in pieces:
            if isinstance(piece, Field):
                self.marks.append((_mark(piece), piece))
                continue
            self.words |= set(map(str.lower, re.findall(r"[^\W\d_]+", piece)))
            for found in re.finditer(r"([^\W\d_]*)[-_ =]?[0-9]+([^\W\d_]*)", piece):
                self.marks.append(((found[1] or found[2]).lower(), None))

    def beside(self, field: Field) -> set[str]:
        """Return the markers of the other numbers."""
        return {mark for mark, one in self.marks if one is not field}

    def next_to(self, field: Field) -> tuple[str, str]:
        """Return the markers of the numbers before and after."""
        place = next(i for i, (_, one) in enumerate(self.marks) if one is field)
        marks = ["", *(mark for mark, _ in self.marks), ""]
        return marks[place], marks[place + 2]

    def names_of(self, field: Field) -> list[str]:
        """Return the names that a field may have, the likeliest first."""
        if not field.number:
            return _text_names(field)
        standard = self._standard_names(field)
        names = [name for name in standard if not _contradicted(name, field)]
        return names + _own_names(field)

    def _standard_names(self, field: Field) -> list[str]:
        """Return the names that the marker and the unit of a number give, if any."""
        marker, unit, beside = field.marker, field.unit, self.beside(field)
        if not marker and not field.decimal and LASERS.issuperset(field.values):
            return ["wavelength"]
        after = bool(unit and not field.before and not field.word)
        if after and not (marker == "s" and self._counts_trailing(field)):
            return [unit.name] if unit and _unit_names(unit.name, field) else []
        if marker in ("x", "y"):
            return self._place_names(marker, field, beside)
        if marker == "z" == field.after and re.search("[0-9]x.*[0-9]y.*0z", self.about):
            return ["z_offset"]
        name = MARKERS.get(marker) or self._letter_name(marker, field, beside)
        if unit and unit.kind == "time" and name == "t":
            return ["time"]
        if unit and unit.name == "wavelength" and name == "channel":
            return ["wavelength"]
        return [name] if name else []

    def _counts_trailing(self, field: Field) -> bool:
        """Whether 1s, 2s are counted: other letters trail their numbers, or they go up by one."""
        others = [
            one.after.lower() for _, one in self.marks if one is not None and one is not field
        ]
        trailing = any(after in MARKERS or after in LETTERS for after in others)
        return trailing or (_goes_up_by_one(field))

    def _place_names(self, marker: str, field: Field, beside: set[str]) -> list[str]:
        """Name a number at an x or a y."""
        if field.decimal or (field.unit and field.unit.kind == "length"):
            return [f"{marker}_position"]
        alone = ({"x", "y"} - {marker}).isdisjoint(beside)
        if alone and marker == "x" == field.after.lower():
            return ["magnification"] if {*field.values} <= _MAGNIFICATIONS else []
        return [f"{marker}_offset"]

    def _letter_name(self, letter: str, field: Field, beside: set[str]) -> str:
        """Return what a single letter means in this company, if anything."""
        before, after = self.next_to(field)
        if letter in "rc" and {"r", "c"} <= beside | {letter} and self.words & _ROUNDS:
            return ""  # a round and a channel, or a row and a column
        if letter == "w" and beside >= {"x", "y"}:
            return ""  # the width of a rectangle
        for one in LETTERS.get(letter, ()):
            if _holds(one, field, beside, before, after):
                return one.name
        return ""


def _mark(field: Field) -> str:
    """Return the marker of a field, or of what it plainly is."""
    if field.name:
        return field.name
    if field.number:
        return "W" if field.before == "W" else field.marker  # of a well, perhaps: no wavelength
    return "ch" if are_dyes(field.texts) else _plain_name(field)


def _holds(letter: Letter, field: Field, beside: set[str], before: str, after: str) -> bool:
    """Whether what a letter means in some company holds."""
    if (letter.lower and field.before.isupper()) or (letter.counted and not _goes_up_by_one(field)):
        return False
    wide = letter.digits and min(map(len, field.texts)) >= letter.digits
    return bool(
        (letter.beside and beside & {*letter.beside.split()})
        or (letter.before and before in letter.before.split())
        or (letter.after and after in letter.after.split())
        or (wide and (field.before.isupper() or min(field.values) > 0))  # w0000 is no well
        or (letter.alone and _is_alone(letter.alone, field, beside))
    )


def _is_alone(most: int, field: Field, beside: set[str]) -> bool:
    """Whether a few numbers are counted, and no other letter is there that may mean anything."""
    letters = {mark for mark in beside if len(mark) == 1} - {"t", "z", "x", "y"}
    return not letters and len(field.texts) <= most and _goes_up_by_one(field)


def _goes_up_by_one(field: Field) -> bool:
    """Whether numbers count from 0 or 1."""
    if field.decimal:
        return False
    numbers = sorted(map(int, field.values))
    return numbers[0] in (0, 1) and len(numbers) == numbers[-1] - numbers[0] + 1


def _unit_names(name: str, field: Field) -> bool:
    """Whether a unit alone says what a number is."""
    values = field.values
    if name == "wavelength":
        return all(300 <= value <= 1100 and value == int(value) for value in values) and (
            len(values) <= FEW
        )
    if name == "time" and field.after.lower() == "ms":  # perhaps an exposure
        return min(values) == 0 or len(values) > FEW
    return bool(name)


def _contradicted(name: str, field: Field) -> bool:
    """Whether the values or the unit of a number are none that such a thing has."""
    values, unit = field.values, field.unit
    measured = unit is not None and (field.before or field.word) and field.marker != field.after
    return bool(
        (measured and unit is not None and KINDS.get(name) != unit.kind)
        or (min(values) < 0 and name not in SIGNED)
        or (field.decimal and name not in DECIMAL)
        or (name in ("channel", "camera") and len(values) > _CHANNELS)
        or (name == "wavelength" and not all(200 <= value <= 2000 for value in values))
        or (name == "angle" and not all(-360 <= value <= 360 for value in values))
    )


def _own_names(field: Field) -> list[str]:
    """Return the word or letters of the names that a number may be called."""
    row = len(field.before) == 1 and field.before.isupper() and field.noun.lower() in NOT_IN_PLATES
    noun = field.noun if field.noun.lower() not in GENERIC else ""
    if DYE.fullmatch(noun) or VARIANT.fullmatch(noun) or len(noun) < 2:
        noun = ""
    own = (noun if row and noun else "") or field.before or field.word or field.after or noun
    own = own if len(own) <= 24 and own.lower() not in GENERIC | RESERVED else ""
    return [own] if own.isidentifier() and (own not in VOCABULARY or own == "sample") else []


def _text_names(field: Field) -> list[str]:
    """Return the names that the marker of a text allows; a text counts nothing."""
    name = _plain_name(field)
    if field.moment and name not in ("t", "time"):
        return []
    if name == "channel" or (name and are_dyes(field.texts)):
        return ["channel" if field.before or name == "channel" else "dye"]
    if name and name not in _COUNTED:
        return [name]
    lettered = all(re.fullmatch(r"[A-Za-z]{1,2}[0-9]+", text) for text in field.texts)
    if lettered and not are_dyes(field.texts):
        return _own_names(field)
    return []


def _unmarked_name(field: Field, pieces: Pieces, taken: set[str]) -> str:
    """Name a field that has no marker by what is there, if that says anything."""
    texts = field.texts
    if field.number:
        return "date" if all(map(re.compile("20[0-9]{6}").fullmatch, texts)) else "n"
    if field.moment:
        return "timestamp"
    if are_dyes(texts):
        return "dye"
    if all(map(VARIANT.fullmatch, texts)):
        return "variant"
    if {text.lower() for text in texts} == {"r", "g", "b"}:
        return "channel"
    if {text.lower() for text in texts} in ({"left", "right"}, {"l", "r"}):
        return "side"
    place = pieces.index(field)
    if all(len(text) == 1 and text in "ABCDEFGHIJKLMNOP" for text in texts):
        match pieces[place + 1 : place + 3]:
            case ["-" | " - ", Field(name="", number=True) as column]:
                column.name = free_name("col", taken)
                taken.add(column.name)
                return "row"
    before = "".join(piece if isinstance(piece, str) else "0" for piece in pieces[:place])
    if any("/" in piece for piece in pieces[place:] if isinstance(piece, str)):
        return "folder"
    if _is_repeated(field, pieces, before) and "channel" not in taken:
        return "channel"
    return "sample" if WORD.search(before.rpartition("/")[2]) else "name"


def _is_repeated(field: Field, pieces: Pieces, before: str) -> bool:
    """Whether a text is all that changes in a file's name, and most folders have each of them."""
    stem = before.rpartition("/")[2]
    others = [one for one in fields_of(pieces) if one is not field]
    behind = pieces[pieces.index(field) + 1 :]
    if "0" in stem or not others or any(isinstance(piece, Field) for piece in behind):
        return False
    folders = combined([one.codes for one in others], len(field.codes))
    count = int(folders.max()) + 1
    return count > 1 and 2 * len(field.codes) > count * len(field.texts) > count


def _settle_texts(fields: list[Field]) -> None:
    """Make texts that say what a number says, too, coordinates and no samples of their own."""
    channels = [
        one for one in fields if one.name in ("channel", "ch", "cycle", "c", "round", "wavelength")
    ]
    counted = [one for one in fields if one.number and one.marked and one.token.role != "clock"]
    texts = [one for one in fields if not one.number]
    for text in [one for one in texts if one.name in ("name", "sample", "folder", "dye")]:
        own = channels if text.name != "folder" else []
        among = len(own) > 1 and determines([one.codes for one in own], text.codes)
        single = any(
            len(one.texts) == len(text.texts) and determines([one.codes], text.codes)
            for one in counted
        )
        if (among and not determines([own[0].codes], text.codes)) or (
            single and text.name != "dye"
        ):
            text.token = Token("clock")


def _token(field: Field, files: int) -> Token:
    """Tell what a field means, by its name and its unit."""
    base = field.name if field.name in VOCABULARY else field.name.rstrip("0123456789")
    token = VOCABULARY.get(base, _AXIS)
    if field.name != base and token.role in ("channel", "label"):
        token = _AXIS
    if field.moment:
        token = Token("clock")
    if base == "n" and not field.decimal and len(field.texts[0]) > 5:
        numbers = list(map(int, field.values))
        if 2 * len(numbers) > files and max(numbers) - min(numbers) > 10 * len(numbers):
            token = Token("clock")  # long numbers that count nothing
    return replace(token, units=field.unit.unit) if field.unit else token


def _spec(field: Field, pieces: Pieces) -> str:
    """Tell how the template writes a field."""
    texts = field.texts
    if not field.number:
        if all(text.isalpha() for text in texts):
            return ":l"
        return ":w" if all(text.isalnum() for text in texts) else ""
    if field.decimal:
        return ":f"
    narrow, wide = min(map(len, texts)), max(map(len, texts))
    following = pieces[pieces.index(field) + 1 :]
    if wide > 18:
        return ":s"
    if following and isinstance(following[0], str) and following[0].startswith(GUID_MARK):
        return f":{narrow}d"  # a GUID may go on with digits
    padded = [text for text in texts if re.match("[-+]?0[0-9]", text)]
    if any(len(text) > narrow for text in padded):
        raise UnclearError(
            f"numbers are padded in several ways: {min(texts, key=len)}, {max(padded, key=len)}"
        )
    return f":0{narrow}d" if padded else ":d"
