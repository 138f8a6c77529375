"""Knows how names are cut into words, numbers and texts, and which of these change.

Names are cut at their punctuation, and words into letters and digits. Punctuation that belongs to a
number, a date or a text is kept in it. What differs between names is a field; all else is literal.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from xarray_tiffstack.names.fields import (
    MOST,
    Field,
    Pieces,
    SeveralMakesError,
    UnclearError,
    are_dyes,
    is_marker,
)
from xarray_tiffstack.names.punctuation import (
    FEW,
    PLUS,
    WORD,
    is_joined,
    keep_in_text,
    makes_of,
    plain,
    with_signs,
    with_texts,
)
from xarray_tiffstack.names.vocabulary import GENERIC, LETTERS, MARKERS, NOT_IN_PLATES

if TYPE_CHECKING:
    from collections.abc import Sequence

WELL = re.compile(
    r"(?P<head>(?i:well)|[A-Za-z]+[a-z](?=[A-P]))?(?P<row>[A-P]|A[A-F]|[a-p])"
    r"(?:0?[1-9]|[1-3][0-9]|4[0-8])"
)
_RUN = re.compile(r"\d+|[^\W\d_]+")
_SIZE = re.compile(r"\d+[xX]\d+")


def cut_words(stems: str, names: Sequence[str]) -> tuple[Pieces, np.ndarray]:
    """Cut names into literal text and fields without a name.

    Gives the rows of the names that are made as most are. `stems` are the names without their
    endings, a line each.
    """
    lines = with_signs(stems)
    makes = makes_of("\n".join(lines))
    if Counter(makes).most_common(1)[0][1] < MOST * len(names):
        lines = with_texts(lines)
        makes = makes_of("\n".join(lines))
    make, count = Counter(makes).most_common(1)[0]
    if count < MOST * len(names):
        raise SeveralMakesError(names, makes)
    alike = np.array([row for row, one in enumerate(makes) if one == make])
    rows, words = _usual(alike, [WORD.findall(lines[row]) for row in alike])
    if len(rows) < MOST * len(names):
        raise UnclearError("the words of these names are made in several ways")
    gaps = WORD.split(lines[rows[0]])
    words, gaps = _with_neighbours(words, gaps)
    signed = any(PLUS in line for line in lines)
    parts = [
        _word_pieces(
            texts,
            codes,
            _noun_before(words, gaps, place),
            plate=_speak_of_plates(lines[rows[0]], words, place),
            signed=signed,
        )
        for place, (texts, codes) in enumerate(words)
    ]
    _lend_words(parts, gaps)
    pieces: Pieces = [gaps[0]]
    for part, gap in zip(parts, gaps[1:], strict=True):
        for piece in (*part, gap):
            if isinstance(piece, str) and isinstance(pieces[-1], str):
                pieces[-1] += piece
            else:
                pieces.append(piece)
    return _without_glued(pieces), rows


# --- words ----------------------------------------------------------------------------------

# A place in a plate is named beside one of these.
_PLATE = re.compile(
    r"(?i:(?<![^\W\d_])(?:wells?|sites?|fields?|fld|fov|plate|wv)(?![^\W\d_]))|(?<![^\W_])[swf]\d",
)
_PLACE = re.compile(r"(?i:s|w|f|site|field|fld|fov|wv)\d*")

# Texts of one make with other numbers: more of them count something.
_COUNTED = 3

_Word: TypeAlias = "tuple[list[str], np.ndarray]"


def _usual(rows: np.ndarray, words: list[list[str]]) -> tuple[np.ndarray, list[_Word]]:
    """Leave out the names that have a word of another make than most have in its place.

    Gives the rows that stay, and their words by place: the different texts, and a code a row.
    """
    columns = [coded(column) for column in zip(*words, strict=True)]
    keep = np.ones(len(rows), bool)
    for texts, codes in columns:
        if not are_dyes(texts):
            kinds, shapes = coded([_shape(text) for text in texts])
            counts = np.bincount(shapes[codes])
            if counts.max() >= MOST * len(codes):
                keep &= shapes[codes] == counts.argmax()
            elif len(texts) > FEW:
                raise UnclearError(
                    f"words such as {', '.join(plain(texts[:3]))} are made in {len(kinds)} ways"
                )
    if keep.all():
        return rows, columns
    return _usual(rows[keep], [word for word, usual in zip(words, keep, strict=True) if usual])


def coded(column: Sequence[str]) -> _Word:
    """Return the different texts of a column, and which of them is in each row."""
    codes, texts = pd.factorize(np.array(column, object))
    return texts.tolist(), codes


def _shape(word: str) -> str:
    """Tell how a word is made: "a" for letters and "0" for digits."""
    return "".join("0" if run[0].isdecimal() else "a" for run in _RUN.findall(word))


def _letters_change(texts: Sequence[str]) -> bool:
    """Whether texts differ in more than their digits."""
    return len({re.sub(r"\d+", "0", text) for text in texts}) > 1


def _with_neighbours(words: list[_Word], gaps: list[str]) -> tuple[list[_Word], list[str]]:
    """Join words beside each other that change together, as the two of "Far Red"."""
    words, gaps = words[:], gaps[:]
    place = 0
    while place + 1 < len(words):
        (texts, codes), (others, other_codes) = words[place : place + 2]
        gap = gaps[place + 1]
        pairs = {*zip(codes.tolist(), other_codes.tolist(), strict=True)}
        together = len(texts) == len(others) == len(pairs) > 1
        if gap in "_- " and gap and together and all(map(_letters_change, (texts, others))):
            second = dict(pairs)
            joined = [text + keep_in_text(gap) + others[second[i]] for i, text in enumerate(texts)]
            words[place : place + 2] = [(joined, codes)]
            del gaps[place + 1]
        else:
            place += 1
    return words, gaps


def _noun_before(words: list[_Word], gaps: list[str], place: int) -> str:
    """Return the word before a place, if it is the same in all names and nothing but letters."""
    if not place or gaps[place] not in ("_", "-", " ", ".", "=", "#", "_#", " #", "-#", " - "):
        return ""
    texts = words[place - 1][0]
    alone = len(texts) == 1 and texts[0].isalpha()
    return plain(texts)[0] if alone else ""


def _word_pieces(
    texts: list[str], codes: np.ndarray, noun: str, *, plate: bool, signed: bool
) -> Pieces:
    """Cut the words of one place, if they are made alike."""
    shown = plain(texts)
    if len(texts) == 1:
        return [*shown]
    field = Field(shown, codes, noun=noun)
    if wells := _wells(field, plate=plate):
        return wells
    mixed = len({_shape(text) for text in texts}) > 1
    dyes = are_dyes(texts) and not texts[0][0].isdecimal() and not _count_alike(shown)
    lettered = all(map(WELL.fullmatch, shown)) and _letters_change(texts)
    if mixed and not dyes:
        _refuse_counters(shown)
    if mixed or dyes or lettered or any(map(is_joined, texts)):
        return _without_head(field)
    runs = [_RUN.findall(text) for text in texts]
    columns = [coded(column) for column in zip(*runs, strict=True)]
    literal = ["" if len(own) > 1 else own[0] for own, _ in columns]
    numbers_first = runs[0][0].isdecimal() and len(columns) % 2 == 0
    pieces: Pieces = []
    for place, (own, sub) in enumerate(columns):
        if literal[place]:
            pieces += plain(own)
            continue
        field = Field(plain(own), sub[codes])
        if not field.number:
            pieces += _without_head(field)
            continue
        if place < 2:
            field.noun = noun
        if numbers_first:
            field.after = literal[place + 1]
        elif place and not _SIZE.fullmatch(texts[0]):
            field.before = literal[place - 1]
            field.after = literal[-1] if place == len(columns) - 2 else ""
        pieces += [field] if signed else _without_dash(field)
    return _without_ordinals(pieces)


def _speak_of_plates(line: str, words: list[_Word], place: int) -> bool:
    """Whether words that may be places in a plate are that, by what is beside them.

    Where all have one letter, and that may mark a number, only the word behind them tells.
    """
    texts = words[place][0]
    if len({text[:1] for text in texts}) > 1 or not is_marker(texts[0][:1]):
        return _PLATE.search(line) is not None
    behind = words[place + 1][0] if place + 1 < len(words) else []
    counted = _count_alike(plain(texts)) and not any(text[0] in "wW" for text in behind)
    return not counted and any(map(_PLACE.fullmatch, behind))


def _refuse_counters(texts: Sequence[str]) -> None:
    """Refuse texts that are numbers for the most part, as t000, t001, t002 and 000, 001."""
    kinds = Counter(re.sub(r"\d+", "0", text) for text in texts)
    if max(kinds.values()) > _COUNTED:
        raise UnclearError(f"words such as {', '.join(texts[:3])} count in {len(kinds)} ways")


def _wells(field: Field, *, plate: bool) -> Pieces:
    """Tell whether words are places in a plate, and return them as such.

    They are where the names speak of a plate, or where there are two rows and no other noun.
    """
    found = [WELL.fullmatch(text) for text in field.texts]
    if not all(found):
        return []
    matches = [one for one in found if one]
    heads = {match["head"] for match in matches}
    rows = len({match["row"].upper() for match in matches})
    noun = field.noun.lower()
    padded = all(
        len(text) - match.end("row") == 2 for text, match in zip(field.texts, matches, strict=True)
    )
    free = not noun or noun in GENERIC or (padded and noun not in NOT_IN_PLATES)
    upper = all(match["row"].isupper() for match in matches)
    if len(heads) > 1 or not (heads != {None} or plate or (rows > 1 and free and upper)):
        return []
    # One row, C2 and C3, may count what begins with this letter: they are as unclear as C1 and C2.
    counts = not padded and {match["row"].lower() for match in matches} <= LETTERS.keys()
    if rows == 1 and heads == {None} and (noun in NOT_IN_PLATES or not upper or counts):
        return []
    head = heads.pop() or ""
    if head and head.lower() != "well" and rows == 1:
        return []
    field.texts = [text[len(head) :] for text in field.texts]
    field.before = head
    field.name = "well" if head.lower() in ("", "well") else ""
    return [head, field] if head else [field]


def _count_alike(texts: Sequence[str]) -> bool:
    """Whether texts are one word with numbers that count from 0 or 1."""
    found = [re.fullmatch(r"([^\W\d_]+)([0-9]+)", text) for text in texts]
    if not all(found) or len({match[1] for match in found if match}) > 1:
        return False
    numbers = {int(match[2]) for match in found if match}
    return min(numbers) < 2 and max(numbers) - min(numbers) < len(numbers)


def _without_head(field: Field) -> Pieces:
    """Take a marker that all texts begin with (CamA, CamB) out, where a word begins after it."""
    first, last = min(field.texts), max(field.texts)
    same = [a == b for a, b in zip(first, last, strict=False)]
    head = first[: [*same, False].index(False)]
    head = next(
        (head[:stop] for stop in range(len(head), 1, -1) if head[:stop].lower() in MARKERS), ""
    )
    rests = [text[len(head) :] for text in field.texts]
    begins = all(len(rest) == 1 or rest[:1].isupper() or rest[:1] in "-_ " for rest in rests)
    if not head or not all(rests) or not (begins or are_dyes(rests)):
        return [field]
    field.before = head
    field.texts = rests
    return [head, field]


def _without_dash(field: Field) -> Pieces:
    """Take a "-" that is no sign out of the numbers after letters."""
    if field.before and all(text.startswith("-") for text in field.texts):
        field.texts = [text[1:] for text in field.texts]
        return ["-", field]
    return [field]


def _without_ordinals(pieces: Pieces) -> Pieces:
    """Leave out what makes 1st, 2nd, 3rd of numbers."""
    for number, ending in pairwise(pieces):
        if not isinstance(number, Field) or not isinstance(ending, Field) or not number.number:
            continue
        if {text.lower() for text in ending.texts} <= {"st", "nd", "rd", "th"}:
            ending.name = "{}"
    return pieces


def _lend_words(parts: Sequence[Pieces], gaps: Sequence[str]) -> None:
    """Give numbers and texts that nothing touches the word beside them, where it is a marker.

    It is before them (slice_003), unless some have none before and all have one after them
    (003_slice_05_ch); where both may be, none is given.
    """
    kinds = "".join(map(_kind, parts))
    folders = [place for place, gap in enumerate(gaps) if "/" in gap]
    for start, stop in pairwise([0, *folders, len(parts)]):
        kind = kinds[start:stop]
        places = [place for place in range(start, stop) if isinstance(parts[place][0], Field)]
        numbers = [place for place in places if kinds[place] == "n"]
        equals = any("=" in gaps[n] for n in numbers)
        after = (
            not equals
            and re.search("(nm){2,}o*$", kind)
            and all(kinds[n + 1 : n + 2] == "m" for n in numbers)
        )
        before = all(n > start and kinds[n - 1] == "m" for n in numbers)
        for place in places:
            field, number = parts[place][0], kinds[place] == "n"
            beside = place + 1 if after and number else place - 1
            if (after and before and number) or beside < start or kinds[beside] != "m":
                continue
            word = str(parts[beside][0])
            number_before = start < beside < place and kinds[beside - 1] == "n"
            size = word in "xX" and number_before and gaps[beside] == gaps[place]  # 2 x 3
            if isinstance(field, Field) and not size and (field.unit or not field.after):
                field.word = word


def _kind(part: Pieces) -> str:
    """Tell a word that is a marker, "m", from one that begins with a number, "n", and others."""
    first = part[0]
    if isinstance(first, Field):
        return "n" if first.number else "o"
    if len(part) == 1 and is_marker(first):
        return "m"
    return "n" if first[:1].isdecimal() else "o"


def _without_glued(pieces: Pieces) -> Pieces:
    """Cut the number of a folder off the numbers that begin with it, as in cam1/cam100000."""
    parted: Pieces = []
    for piece in pieces:
        if isinstance(piece, Field) and piece.number and piece.before:
            for other in parted:
                if isinstance(other, Field) and other.number and other.before == piece.before:
                    rests = _beyond(other, piece)
                    if rests is None:
                        continue
                    if len({len(rest) for rest in rests}) > 1:
                        raise UnclearError(
                            f"the numbers after {piece.before!r} begin with another number, "
                            "and their lengths differ"
                        )
                    parted.append(Field(other.texts, other.codes, name="{}"))
                    texts, codes = coded(rests)
                    piece = Field(texts, codes, spec=f":{len(rests[0])}d")
                    break
        parted.append(piece)
    return parted


def _beyond(one: Field, other: Field) -> list[str] | None:
    """Return what is left of the numbers of a field where they begin with those of another."""
    heads = [one.texts[code] for code in one.codes]
    texts = [other.texts[code] for code in other.codes]
    longer = all(
        len(text) > len(head) and text.startswith(head)
        for head, text in zip(heads, texts, strict=True)
    )
    return [text[len(head) :] for head, text in zip(heads, texts, strict=True)] if longer else None
