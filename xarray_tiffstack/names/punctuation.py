"""Knows which punctuation belongs to a number, a date or a text, and does not part words.

While names are cut, it is written as digits (in numbers and dates) or letters (in texts) that no
keyboard has, and turned back by `plain`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

from xarray_tiffstack.names.vocabulary import LASERS, LONG_DYE, MONTHS

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDING = re.compile(r"(?:\.ome)?\.[A-Za-z][A-Za-z0-9]*$", re.IGNORECASE | re.MULTILINE)
WORD = re.compile(r"[^\W_]+")
_GUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")

# Dates that sort as text: 2024-03-31, 20240331_143005, perhaps with a time; and others.
_HOUR = "(?:[01][0-9]|2[0-3])"
_ISO = (
    rf"(?:19|20)[0-9]{{2}}(?P<sep>[-_.])(?:0[1-9]|1[0-2])(?P=sep)(?:0[1-9]|[12][0-9]|3[01])"
    rf"(?:[T_ -]{_HOUR}[-.:h][0-5][0-9](?:[-.:m][0-5][0-9])?|T{_HOUR}(?:[0-5][0-9]){{1,2}})?"
    rf"|(?:19|20)[0-9]{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
    rf"[T_-]{_HOUR}(?:[0-5][0-9]){{2}}"
)
_OTHER_DATE = (
    r"(?:0[1-9]|[12][0-9]|3[01])(?P<mid>[-_.])(?:0[1-9]|1[0-2])(?P=mid)(?:19|20)[0-9]{2}"
    rf"|[0-3]?[0-9][-_. ]?(?:{MONTHS})[a-z]*[-_. ]?(?:20)?[0-9]{{2}}"
)
ISO_DATE = re.compile(rf"(?<![0-9])(?:{_ISO})(?![0-9])")
DATE = re.compile(rf"(?<![0-9])(?:{_ISO}|(?i:{_OTHER_DATE}))(?![0-9])")
DURATION = re.compile(
    r"(?<![0-9])(?:[0-9]+d[_ -]?[0-9]+h(?:[_ -]?[0-9]+m(?:in)?)?(?:[_ -]?[0-9]+s)?"
    r"|[0-9]+h[_ -]?[0-9]+m(?:in)?(?:[_ -]?[0-9]+s)?|[0-9]+m(?:in)?[0-9]+s|[0-9]+min[_ -]?[0-9]+s)"
    r"(?![^\W_])"
)
# A mantissa and an exponent with its sign: 1e-3, 2.5E+04.
_SCIENTIFIC = re.compile(
    r"(?<![0-9])(?<![0-9][.,])[0-9]+(?:[.,p][0-9]+)?[eE][-+][0-9]{1,3}(?![0-9.])", re.ASCII
)
TIME_OF_DAY = re.compile(
    rf"(?<![0-9])(?P<h>{_HOUR})(?P<sep>[-_.])(?P<m>[0-5][0-9])(?P=sep)(?P<s>[0-5][0-9])(?![0-9])"
)
# Digits with a unit or an equals sign have a decimal point, where dots do not part words too;
# elsewhere dots may part numbers. A wavelength has none.
_UNIT = "(?:[uµμ]m|mm|[mu]?s|m?sec|min|hr?|deg|x|[munp]M|k?V|K|C)(?![A-Za-z])"
_MEASURED = re.compile(
    rf"(?<![0-9.,])(?<!C)(0|[1-9][0-9]*|[0-9]+(?=[,p]))([.,p])(?=[0-9]+{_UNIT})"
    r"|(?<==)(-?(?:0|[1-9][0-9]*))(\.)(?=[0-9]+(?![0-9.]|nm))|(?<![0-9.,])([0-9]+)([,p])(?=[0-9]+nm)"
)
_MEASURED_AMONG_DOTS = re.compile(
    rf"(?<=[xyzXYZ])(-?[0-9]+)(\.)(?=[0-9]+[uµμm]m(?![A-Za-z]))|(?<![0-9.,])([0-9]+)([,p])(?=[0-9]+{_UNIT})"
)
_SIGNED = re.compile(r"([-+]?[0-9]+)(\.)(?=[0-9]+(?![0-9.]))")
DECIMAL_POINT = re.compile(r"(?<![0-9.])(0|[1-9][0-9]*)(\.)(?=[0-9])")
_PARTING_POINT = re.compile(r"[^0-9\n]\.|\.[^0-9\n]|(?<![0-9])0[0-9]+\.[0-9]|[0-9]\.[0-9]+\.[0-9]")
_SIGN = re.compile(r"(?:(?<=[_=/(\[,])|^)-(?=[0-9])|(?<![0-9+])\+(?=[0-9])", re.MULTILINE)
_GLUED = re.compile(r"([^\W\d_]+)(-?)(?=[0-9+])")


def _stand_ins(characters: str, first: int) -> dict[int, int]:
    """Give each of some characters another one."""
    return {ord(char): first + place for place, char in enumerate(characters)}


_IN_NUMBERS = _stand_ins(".-_ ,+:ThmspdnibcefgjlortuvyaJFMASONDEBRPYULGCV", 0x1D7CE)
_IN_TEXTS = _stand_ins("-_ ()+.,[]&#'@%=~!;", 0xA000)
_BACK = {new: old for table in (_IN_NUMBERS, _IN_TEXTS) for old, new in table.items()}
_MINUS, PLUS, GUID_MARK = "-".translate(_IN_NUMBERS), "+".translate(_IN_NUMBERS), "\ue000"

# Words of different make are one text where they are as few as this.
FEW = 16


def plain(texts: Sequence[str]) -> list[str]:
    """Return texts as they are in the names."""
    return [text.translate(_BACK) for text in texts]


def keep_in_text(punctuation: str) -> str:
    """Write punctuation as letters, so that it does not part a text."""
    return punctuation.translate(_IN_TEXTS)


def is_joined(text: str) -> bool:
    """Whether a text has punctuation in it that is kept."""
    return any(ord(char) in _BACK and char.isalpha() for char in text)


def protected(joined: str) -> str:
    """Keep the punctuation of dates, durations and measured values in them."""
    for kind in (DATE, DURATION, *([TIME_OF_DAY] if _has_times_of_day(joined) else [])):
        joined = kind.sub(lambda found: found[0].translate(_IN_NUMBERS), joined)
    if all(map(_SCIENTIFIC.search, joined.split("\n"))):  # else the e may be a row of a plate
        joined = _SCIENTIFIC.sub(lambda found: found[0].translate(_IN_NUMBERS), joined)
    if re.search(r"\+[0-9]+\.[0-9]", joined):  # signs are written, so dots are decimal points
        joined = with_points(joined, _SIGNED)
    parted = re.search(r"[^\W\d_]\.|\.[^\W\d_]", joined)
    return with_points(joined, _MEASURED_AMONG_DOTS if parted else _MEASURED)


def with_points(joined: str, kind: re.Pattern[str] = DECIMAL_POINT) -> str:
    """Keep decimal points in their numbers."""
    return kind.sub(
        lambda found: "".join(filter(None, found.groups())).translate(_IN_NUMBERS), joined
    )


def sorts_as_text(dates: Sequence[str]) -> bool:
    """Whether dates, times or durations are in order where the numbers in them are compared.

    Examples
    --------
    >>> sorts_as_text(["30Mar2024", "31Mar2024"]), sorts_as_text(["31-03-2024", "01-04-2024"])
    (True, False)
    """
    written = sorted(dates, key=lambda text: list(map(int, re.findall("[0-9]+", text))))
    return written == sorted(dates, key=_moment)


def _moment(text: str) -> list[int]:
    """Return year, month and day of a date that begins with the day; else its numbers."""
    numbers = list(map(int, re.findall("[0-9]+", text)))
    month = re.search(MONTHS, text.lower())
    if month:
        return [numbers[-1], MONTHS.split("|").index(month[0]), numbers[0]]
    return (
        numbers
        if ISO_DATE.fullmatch(text) or len(numbers) != 3 or numbers[2] < 1900
        else numbers[::-1]
    )


def may_be_decimals(joined: str) -> bool:
    """Whether dots between digits may be decimal points: none parts words, or a wavelength."""
    fractions = {found[1] for found in re.finditer(r"(?<![0-9.])[0-9]+\.([0-9]+)", joined)}
    lasers = len(fractions) > 1 and all(int(text[:9]) in LASERS for text in fractions)
    return bool(DECIMAL_POINT.search(joined)) and not _PARTING_POINT.search(joined) and not lasers


def _has_times_of_day(joined: str) -> bool:
    """Whether 14-30-05 is a time in these names, and not three numbers that count."""
    found = {match.group("h", "m", "s") for match in TIME_OF_DAY.finditer(joined)}
    sizes = [len(set(part)) for part in zip(*found, strict=True)]
    return sum(size > 1 for size in sizes) > 1 and len(found) < math.prod(sizes)


def with_signs(joined: str) -> list[str]:
    """Mark signs, and dyes of several words, and part the names."""
    joined = _GUID.sub(GUID_MARK, joined)
    joined = _SIGN.sub(lambda found: found[0].translate(_IN_NUMBERS), joined)
    joined = re.sub(
        rf"(?<![^\W_])(?:{LONG_DYE.pattern})(?![^\W_])",
        lambda found: found[0].translate(_IN_TEXTS),
        joined,
        flags=re.IGNORECASE,
    )
    # After letters "-" parts words (t-1, t-2), unless only some names have it (t1, t-1).
    glued = Counter(_GLUED.findall(joined))
    lines = joined.count("\n") + 1
    signs = {w for w, sign in glued if sign and 0 < glued[w, ""] <= lines - glued[w, "-"]}
    if PLUS in joined:  # where signs are written, "-" is one, too
        signs |= {
            word for word, sign in glued if sign and (word in [*"xyzXYZ"] or word + PLUS in joined)
        }
    if signs:
        signed = _GLUED.sub(
            lambda found: found[1] + (found[2] and (_MINUS if found[1] in signs else "-")), joined
        )
        if len(set(makes_of(signed))) <= len(set(makes_of(joined))):
            joined = signed
    return joined.split("\n")


def makes_of(joined: str) -> list[str]:
    """Tell how each name is made: its punctuation, with "w" for every word."""
    joined = joined.translate({ord(char): "w" for char in set(joined) if char.isalnum()})
    while "ww" in joined:
        joined = joined.replace("ww", "w")
    return joined.split("\n")


def with_texts(lines: list[str]) -> list[str]:
    """Keep the punctuation of texts of several words that are between what all names share."""
    cuts = [re.findall(r"[^\W_]+|[\W_]", line) for line in lines]
    forms = [[re.sub(r"\d+", "0", piece) for piece in cut] for cut in cuts]
    different = list(map(list, {tuple(form) for form in forms}))
    if len(different) > 4 * FEW:
        return lines
    start = _shared(different)
    stop = _shared([form[start:][::-1] for form in different])
    middles = ["".join(cut[start : len(cut) - stop]) for cut in cuts]
    kinds = {"".join(form[start : len(form) - stop]) for form in forms}
    texts = sorted(set(middles))
    words = [WORD.findall(text) for text in texts]
    is_text = (
        start + stop > 0
        and 1 < len(texts) == len(kinds) <= FEW
        and all(words)
        and not any("/" in text or GUID_MARK in text for text in texts)
        and any(len({own[end] for own in words}) == len(words) for end in (0, -1))
        and all(text[0].isalnum() and text[-1].isalnum() for text in texts)
        and any(map(str.isalpha, "".join(texts)))
    )
    if not is_text:
        return lines
    return [
        "".join(cut[:start]) + middle.translate(_IN_TEXTS) + "".join(cut[len(cut) - stop :])
        for cut, middle in zip(cuts, middles, strict=True)
    ]


def _shared(forms: list[list[str]]) -> int:
    """Count the pieces with which all forms begin; each has one more."""
    first, last = min(forms), max(forms)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    same = min(len(first), len(last)) if same is None else same
    return min(same, *(len(form) - 1 for form in forms))
