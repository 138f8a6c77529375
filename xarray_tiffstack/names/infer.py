"""How to read names that nobody described: what varies in them, and what the letters beside say.

Names are cut into words at their punctuation, and words into letters and digits. What differs
between names is a field, and a field is named only from its marker: the letters that touch it
("ch0", "000x", "z=8.5um"), or the word before it ("slice_003"). All else stays literal. Where that
does not give one reading that puts every file in a cell of its own, nothing is chosen.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from dataclasses import field as with_default
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from xarray_tiffstack.names.pattern import Pattern
from xarray_tiffstack.names.vocabulary import VOCABULARY, Token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Words that mark a field, by what it is then called. A marker under two names takes the first that
# no other field has.
_MARKERS = {
    "channel": "channel chan chn ch c w wv filter color colour",
    "wavelength": "wavelength wl laser lambda exc",
    "camera": "camera cam cm",
    "t": "t tp time timepoint timestep tl tm frame fr",
    "stack": "stack stk volume vol",
    "z": "z slice slc sl plane zstep zplane zslice zpos zstack depth",
    "site": "site s",
    "field": "field fld f fov",
    "position": "position pos p xy xypos point pt loc location",
    "well": "well w",
    "row": "row r",
    "col": "col column c",
    "x_offset": "x tilex xtile",
    "y_offset": "y tiley ytile",
    "tile": "tile m mosaic",
    "angle": "angle ang rot rotation",
    "cycle": "cycle cyc",
    "round": "round rnd hyb r",
    "iter": "iter iteration loop",
    "view": "view vw",
    "illumination": "illumination illum ill",
    "region": "region reg roi",
    "scene": "scene",
    "series": "series ser",
    "part": "part",
    "plate": "plate",
}
_MEANINGS: dict[str, tuple[str, ...]] = {
    marker: tuple(name for name, words in _MARKERS.items() if marker in words.split())
    for words in _MARKERS.values()
    for marker in words.split()
}
# Letters after a number: what it is where no marker stands before it, and its unit.
_UNITS = {
    "nm": ("wavelength", "nanometer"),
    "um": ("", "micrometer"),
    "µm": ("", "micrometer"),
    "μm": ("", "micrometer"),
    "mm": ("", "millimeter"),
    "ms": ("time", "millisecond"),
    "msec": ("time", "millisecond"),
    "msecabs": ("time_abs", "millisecond"),
    "s": ("time", "second"),
    "sec": ("time", "second"),
    "min": ("time", "minute"),
    "h": ("time", "hour"),
    "hr": ("time", "hour"),
    "deg": ("angle", "degree"),
    "mw": ("power", "milliwatt"),
}
# Lines of common lasers, in nanometers: numbers that are all among them are wavelengths.
_LASERS = re.compile(
    "355|375|405|44[025]|45[78]|473|476|488|491|505|51[45]|532|54[36]|55[25]|56[018]|58[89]|59[24]|"
    "63[3-8]|64[027]|660|670|685|730|750|785|808"
)
_DYE = re.compile(
    r"(?:m|e|em|s|sf|td|cyo|turbo|tag)?(?:[gcyrb]fp|cherry|tomato|scarlet|neon(?:green)?|venus|"
    r"citrine|cerulean|turquoise|ruby|kate|emerald|orange|apple|plum|iris)[0-9]?|dapi|fitc|tritc|"
    r"hoechst(?:[0-9]+)?|draq[57]|sytox|topro|pi|dii|dio|did|rhod(?:amine)?|tx?red|texas[ _-]?red|"
    r"cy[ _-]?(?:2|3|3\.5|5|5\.5|7)|(?:atto|af|alexa|alexa[ _-]?fluor|bodipy|cf|jf)[ _-]?[0-9]{3}|"
    r"a(?:350|405|430|488|514|532|546|555|568|594|610|633|647|660|680|700|750|790)|gcamp[0-9a-z]*|"
    r"(?:tl[ _-]?)?(?:bf|bright[ _-]?field|bright|dic|phase|phase[ _-]contrast|trans|transmitted)|"
    r"(?:far[ _-]?)?red|green|blue|yellow|violet|[3-8][0-9]{2}nm|actin|tubulin|phalloidin|nuclei|"
    r"dna|rna|er|agp|mito",
    re.IGNORECASE,
)
_PUNCTUATED_DYE = re.compile(
    r"(?<![^\W_])(?:alexa[ _-]fluor[ _-]?[0-9]+|(?:alexa|hoechst|cy|atto)[ _-][0-9]+|texas[ _-]red|"
    r"far[ _-]red|(?:tl[ _-])?bright[ _-]?field|phase[ _-]contrast|tl[ _-](?:dic|phase))(?![^\W_])",
    re.IGNORECASE,
)
_VARIANT = re.compile(
    "raw|orig?|org|deskew(?:ed)?|decon(?:volved)?|dsr|mip|max|masks?|corr|proj", re.IGNORECASE
)
_WELL = re.compile(r"[A-P][0-9]{1,2}")
_LETTERED = re.compile(r"[A-Z][0-9]+")

_ENDING = re.compile(r"(?:\.ome)?\.[A-Za-z][A-Za-z0-9]*$", re.IGNORECASE | re.MULTILINE)
_GUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
# A date (2024-03-01), perhaps with a time (T12-30-59), or fourteen digits.
_DATE = re.compile(
    r"(?<![0-9])(?:19|20)[0-9]{2}(?:-[01][0-9]-[0-3][0-9](?:[T_ ][0-2][0-9][-.h][0-5][0-9]"
    r"(?:[-.m][0-5][0-9])?)?|[01][0-9][0-3][0-9]T[0-2][0-9][0-5][0-9][0-5][0-9])(?![0-9])"
)
# Digits with a unit or an equals sign have a decimal point; elsewhere dots may part words.
_MEASURED = re.compile(
    r"(?<![0-9.])([0-9]+)\.(?=[0-9]+(?:[uµμnm]m|m?s|m?sec|deg|x)(?![A-Za-z]))"
    r"|(?<==)(-?[0-9]+)\.(?=[0-9]+(?![0-9.]))"
)
_DECIMAL = re.compile(r"(?<![0-9.])(0|[1-9][0-9]*)\.(?=[0-9])")
_PARTING = re.compile(r"[^0-9\n]\.|\.[^0-9\n]|(?<![0-9])0[0-9]+\.[0-9]|[0-9]\.[0-9]+\.[0-9]")
_SIGN = re.compile(r"(?:(?<=[_=/(\[,])|^)-(?=[0-9])", re.MULTILINE)
_GLUED = re.compile(r"([^\W\d_]+)(-?)(?=[0-9])")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")

# While names are cut, punctuation that belongs to a word is written as digits (in numbers and
# dates) or letters (in dyes) that no keyboard has.
_IN_NUMBERS = str.maketrans(".-_ Thm", "".join(map(chr, range(0x1D7D8, 0x1D7DF))))
_IN_TEXTS = str.maketrans("-_ ", "\ua000\ua001\ua002")
_BACK = {new: old for table in (_IN_NUMBERS, _IN_TEXTS) for old, new in table.items()}
_POINT, _MINUS, _GUID_MARK = ".".translate(_IN_NUMBERS), "-".translate(_IN_NUMBERS), "\ue000"
_WORD = re.compile(r"[^\W_]+")
_RUN = re.compile(r"\d+|[^\W\d_]+")
_SIZE = re.compile(r"\d+[xX]\d+")

# Part of the names that must be of one make before the others are thought of as strays.
_MOST = 0.8
# Words of different make are one text where they are as few as this.
_FEW = 16
# Names that are cut; the others are compared with what these give.
_SAMPLE = 2000
# Names that a message shows.
_FIRST = 5
_DOT = "a dot between two digits may be a decimal point, or part two numbers"
_AXIS = Token("axis")  # what a token is whose name says nothing


@dataclass(frozen=True)
class Inference:
    """How names can be read, and why; what is not certain is not chosen."""

    template: str | None = None
    """The template that reads them, or None where no reading is certain."""
    tokens: Mapping[str, Token] = with_default(default_factory=dict)
    """Meaning of the tokens that mean something else than their names do in `VOCABULARY`."""
    reasons: tuple[str, ...] = ()
    """Why each token is what it is, or why nothing was chosen, a line each."""
    constants: tuple[str, ...] = ()
    """Words with digits that are the same in all names, and so stay as they are."""
    unmatched: tuple[str, ...] = ()
    """Names that are made differently from the others, and are not read."""
    candidates: tuple[str, ...] = ()
    """Templates to choose from, where none was chosen."""

    @property
    def pattern(self) -> Pattern | None:
        """The template, compiled."""
        return None if self.template is None else Pattern(self.template)

    @property
    def has_markers(self) -> bool:
        """Whether a letter beside a number says what it is, for any token."""
        tokens = self.pattern.tokens if self.pattern is not None else ()
        return any(not re.fullmatch(r"n\d*|name|folder|sample", token) for token in tokens)


class _UnclearError(ValueError):
    """Names that cannot be read without guessing."""

    def __init__(self, *reasons: str, candidates: Sequence[str] = ()) -> None:
        """Keep the reasons, a line each, and the templates that are possible."""
        super().__init__(*reasons)
        self.candidates = tuple(candidates)


@dataclass(eq=False)
class _Field:
    """A part of the names that varies: ``texts[codes]`` is what stands there."""

    texts: list[str]
    codes: np.ndarray
    before: str = ""
    """Letters that touch it on the left."""
    after: str = ""
    """Letters that touch it on the right, where they belong to it."""
    word: str = ""
    """Marker beside it, where nothing touches it."""
    name: str = ""
    token: Token = _AXIS
    marked: bool = True
    """Whether its name was read, and not made up."""
    spec: str = ""

    @property
    def number(self) -> bool:
        return all(map(_NUMBER.fullmatch, self.texts))

    @property
    def decimal(self) -> bool:
        return self.number and any("." in text for text in self.texts)

    @property
    def unit(self) -> tuple[str, str] | None:
        """What a number with such letters after it is, and its unit; nM is a concentration."""
        return None if self.after.endswith("M") else _UNITS.get(self.after.lower())

    @property
    def date(self) -> bool:
        return all(map(_DATE.fullmatch, self.texts))


# Literal text and fields, in the order in which they stand.
_Pieces: TypeAlias = "list[str | _Field]"


def units_beside(pattern: Pattern) -> dict[str, str]:
    """Find the units that stand behind the tokens of a template.

    Examples
    --------
    >>> units_beside(Pattern("a_{time:d}msec_{power:d}mW_t{t:d}s{site:d}.tif"))
    {'time': 'millisecond', 'power': 'milliwatt'}
    """
    beside = re.findall(r"\{(\w+)(?::\w*)?\}([A-Za-zµμ]++)(?!\{)", pattern.text)
    return {
        token: _UNITS[letters.lower()][1] for token, letters in beside if letters.lower() in _UNITS
    }


def infer(names: Sequence[str]) -> Inference:
    r"""Find out how names that follow no known convention are read.

    Parameters
    ----------
    names : sequence of str
        Paths relative to the source, with "/" between their parts.

    Returns
    -------
    Inference
        Its `template` is None where names are of several makes, where two files would stand in
        one cell, where most cells would be empty, or where dots may be points or punctuation.

    Notes
    -----
    No IO. Some 0.2 s for 100,000 names: a sample is cut, and all are compared with what it gives.

    Examples
    --------
    >>> found = infer([f"488_300mW_ch{c}_z={z / 2}um.tif" for c in range(2) for z in range(3)])
    >>> found.template
    '488_300mW_ch{channel:d}_z={z:f}um.tif'
    >>> found.tokens["z"].units
    'micrometer'
    >>> print(*found.reasons, sep="\n")
    channel: 2 numbers, 0 to 1, marked by 'ch'
    z: 3 numbers, 0.0 to 1.0, marked by 'z', in 'um'
    """
    try:
        return _infer(list(names))
    except _UnclearError as error:
        return Inference(reasons=error.args, candidates=error.candidates)


def _infer(names: list[str]) -> Inference:
    """Cut a sample of the names, and with it those that its template does not read."""
    if not names:
        raise _UnclearError("there are no names")
    everything = np.random.default_rng(0).permutation(len(names))
    chosen, template = np.sort(everything[:_SAMPLE]), ""
    while True:
        before = template
        pieces = _cut([names[row] for row in chosen])
        template = _template(pieces, [names[row] for row in chosen])
        fits, columns = Pattern(template).parse_names(names)
        others = np.setdiff1d(np.flatnonzero(~fits), chosen)
        if template == before or not len(others):
            return _judged(names, pieces, template, fits, columns)
        chosen = np.union1d(chosen, others[: _SAMPLE // 10])


def _cut(names: Sequence[str]) -> _Pieces:
    """Cut names into literal text and named fields, whichever way their dots are meant."""
    joined = "\n".join(names)
    if joined.count("\n") != len(names) - 1:
        raise _UnclearError("names have line breaks")
    stems = _DATE.sub(lambda found: found[0].translate(_IN_NUMBERS), _ENDING.sub("", joined))
    stems = _MEASURED.sub(rf"\g<1>\g<2>{_POINT}", stems)
    if _PARTING.search(stems) or not _DECIMAL.search(stems):
        return _cut_stems(names, stems)
    pieces = _cut_stems(names, _DECIMAL.sub(rf"\g<1>{_POINT}", stems))
    if all(piece.marked or not piece.decimal for piece in _fields(pieces)):
        return pieces
    raise _UnclearError(_DOT, candidates=[_template(pieces, names)])


def _fields(pieces: _Pieces) -> list[_Field]:
    """Return the fields alone, without those that a later one repeats."""
    return [piece for piece in pieces if isinstance(piece, _Field) and piece.name != "{}"]


# --- names into words -----------------------------------------------------------------------


def _cut_stems(names: Sequence[str], joined: str) -> _Pieces:
    """Cut names, given without endings and a line each, into literal text and named fields."""
    stems = _with_signs(_GUID.sub(_GUID_MARK, joined))
    makes = _makes("\n".join(stems))
    make, count = Counter(makes).most_common(1)[0]
    if count < _MOST * len(names):
        raise _several_makes(names, makes)
    alike = [row for row, one in enumerate(makes) if one == make]
    rows, words = _usual(np.array(alike), [_WORD.findall(stems[row]) for row in alike])
    if len(rows) < _MOST * len(names):
        raise _UnclearError("the words of these names are made in several ways")
    gaps = _WORD.split(stems[rows[0]])
    lettered = sum(_LETTERED.fullmatch(texts[0]) is not None for texts, _ in words)
    parts = [_word_pieces(texts, codes, wells=lettered == 1) for texts, codes in words]
    _lend_words(parts, gaps)
    pieces: _Pieces = [gaps[0]]
    for part, gap in zip(parts, gaps[1:], strict=True):
        for piece in (*part, gap):
            if isinstance(piece, str) and isinstance(pieces[-1], str):
                pieces[-1] += piece
            else:
                pieces.append(piece)
    _name(pieces, len(rows))
    _check(pieces, [names[row] for row in rows])
    return pieces


def _with_signs(joined: str) -> list[str]:
    """Mark minus signs, and dyes of several words, and part the names."""
    joined = _SIGN.sub(_MINUS, joined)
    joined = _PUNCTUATED_DYE.sub(lambda found: found[0].translate(_IN_TEXTS), joined)
    # After letters "-" parts words (t-1, t-2), unless only some names have it (t1, t-1).
    glued = set(_GLUED.findall(joined))
    signs = {word for word, sign in glued if sign} & {word for word, sign in glued if not sign}
    if signs:
        signed = _GLUED.sub(
            lambda found: found[1] + (found[2] and (_MINUS if found[1] in signs else "-")), joined
        )
        if len(set(_makes(signed))) < len(set(_makes(joined))):
            joined = signed
    return joined.split("\n")


def _makes(joined: str) -> list[str]:
    """Tell how each name is made: its punctuation, with "w" for every word."""
    joined = joined.translate({ord(char): "w" for char in set(joined) if char.isalnum()})
    while "ww" in joined:
        joined = joined.replace("ww", "w")
    return joined.split("\n")


def _several_makes(names: Sequence[str], makes: Sequence[str]) -> _UnclearError:
    """Say which makes there are, with a template for each."""
    kinds = Counter(makes).most_common()
    reasons, candidates = ["the names are made in several ways, none of which most have:"], []
    for kind, count in kinds[:_FIRST]:
        alike = [name for name, make in zip(names, makes, strict=True) if make == kind]
        reasons.append(f"  {count} as {alike[0]}")
        template = infer(alike).template if count > 1 else None
        if template:
            candidates.append(template)
    if len(kinds) > _FIRST:
        reasons.append(f"  ... and {len(kinds) - _FIRST} more ways")
    return _UnclearError(*reasons, candidates=candidates)


def _usual(
    rows: np.ndarray, words: list[list[str]]
) -> tuple[np.ndarray, list[tuple[list[str], np.ndarray]]]:
    """Leave out the names that have a word of another make than most have in its place.

    Gives the rows that stay, and their words by place: the different texts, and a code a row.
    """
    columns = [_coded(column) for column in zip(*words, strict=True)]
    keep = np.ones(len(rows), bool)
    for texts, codes in columns:
        if not _are_dyes(texts):
            kinds, shapes = _coded([_shape(text) for text in texts])
            counts = np.bincount(shapes[codes])
            if counts.max() >= _MOST * len(codes):
                keep &= shapes[codes] == counts.argmax()
            elif len(texts) > _FEW:
                raise _UnclearError(
                    f"words such as {', '.join(_plain(texts[:3]))} are made in {len(kinds)} ways"
                )
    if keep.all():
        return rows, columns
    return _usual(rows[keep], [word for word, usual in zip(words, keep, strict=True) if usual])


def _coded(column: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the different texts of a column, and which of them stands in each row."""
    codes, texts = pd.factorize(np.array(column, object))
    return texts.tolist(), codes


def _shape(word: str) -> str:
    """Tell how a word is made: "a" for letters and "0" for digits."""
    return "".join("0" if run[0].isdecimal() else "a" for run in _RUN.findall(word))


def _plain(texts: Sequence[str]) -> list[str]:
    """Return texts as they stand in the names."""
    return [text.translate(_BACK) for text in texts]


def _are_dyes(texts: Sequence[str]) -> bool:
    """Whether at least half of some texts name dyes, colours or contrasts."""
    return 2 * sum(map(bool, map(_DYE.fullmatch, _plain(texts)))) >= len(texts)


def _word_pieces(texts: list[str], codes: np.ndarray, *, wells: bool) -> _Pieces:
    """Cut the words of one place, if they are made alike; they may be the `wells` of one row."""
    if len(texts) == 1:
        return [*_plain(texts)]
    mixed = len({_shape(text) for text in texts}) > 1
    dyes = _are_dyes(texts) and not texts[0][0].isdecimal()
    row = all(map(_WELL.fullmatch, texts)) and texts[0][0].lower() not in _MEANINGS
    if mixed or dyes or (wells and row):
        return [_Field(_plain(texts), codes)]
    runs = [_RUN.findall(text) for text in texts]
    if _begin_with_wells(runs):
        runs = [[run[0] + run[1], *run[2:]] for run in runs]
    columns = [_coded(column) for column in zip(*runs, strict=True)]
    literal = ["" if len(own) > 1 else own[0] for own, _ in columns]
    numbers_first = runs[0][0].isdecimal() and len(columns) % 2 == 0
    pieces: _Pieces = []
    for place, (own, sub) in enumerate(columns):
        if literal[place]:
            pieces += _plain(own)
            continue
        field = _Field(_plain(own), sub[codes])
        if field.number and numbers_first:
            field.after = literal[place + 1]
        elif field.number and place and not _SIZE.fullmatch(texts[0]):
            field.before = literal[place - 1]
            field.after = literal[-1] if place == len(columns) - 2 else ""
        pieces += _without_common(field)
    return pieces


def _begin_with_wells(runs: list[list[str]]) -> bool:
    """Whether words begin with a letter that varies, A to P, and one or two digits."""
    return (
        len(runs[0]) > 1
        and len({run[0] for run in runs}) > 1
        and all(len(run[0]) == 1 and run[0].upper() in "ABCDEFGHIJKLMNOP" for run in runs)
        and all(len(run[1]) <= 2 for run in runs)
    )


def _without_common(field: _Field) -> _Pieces:
    """Take a marker that all texts begin with (CamA, CamB) out, or a "-" that is no sign."""
    head = ""
    if not field.number:
        first, last = min(field.texts), max(field.texts)
        same = [a == b for a, b in zip(first, last, strict=False)]
        head = first[: [*same, False].index(False)]
        if head.lower() not in _MEANINGS or head in field.texts:
            return [field]
        field.before = head
    elif field.before and all(text.startswith("-") for text in field.texts):
        head = "-"
    field.texts = [text.removeprefix(head) for text in field.texts]
    return [head, field] if head else [field]


def _lend_words(parts: Sequence[_Pieces], gaps: Sequence[str]) -> None:
    """Give numbers and texts that nothing touches the word beside them, where it is a marker.

    It stands before them (slice_003), unless some have none before and all have one after them
    (003_slice_05_ch); where both may be, none is given.
    """
    kinds = "".join(map(_kind, parts))
    folders = [place for place, gap in enumerate(gaps) if "/" in gap]
    for start, stop in pairwise([0, *folders, len(parts)]):
        kind = kinds[start:stop]
        places = [place for place in range(start, stop) if isinstance(parts[place][0], _Field)]
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
            size = word in "xX" and start < beside < place and kinds[beside - 1] == "n"  # 2 x 3
            if isinstance(field, _Field) and not size and (field.unit or not field.after):
                field.word = word


def _kind(part: _Pieces) -> str:
    """Tell a word that is a marker, "m", from one that begins with a number, "n", and others."""
    first = part[0]
    if isinstance(first, _Field):
        return "n" if first.number else "o"
    if len(part) == 1 and first.lower() in _MEANINGS:
        return "m"
    return "n" if first[:1].isdecimal() else "o"


# --- fields into tokens ---------------------------------------------------------------------


def _name(pieces: _Pieces, files: int) -> None:
    """Name every field by its marker, and say what it means and how it is written."""
    _drop_copies(_fields(pieces))
    fields = _fields(pieces)
    about = "".join(piece if isinstance(piece, str) else "0" for piece in pieces)
    taken: set[str] = set()
    # Longer markers say more: "ch" is the channel before "c" is.
    for one in sorted(fields, key=lambda one: -len(_marker(one))):
        options = _number_names(one, fields, about) if one.number else _text_names(one)
        is_unit = one.unit and one.after.lower() not in _MEANINGS
        own = one.before or one.word or ("" if is_unit else one.after)
        if own.isidentifier() and len(own) <= 2 and own.lower() not in ("x", "y", "z"):
            options.append(own)
        if options:
            one.name = next((n for n in options if n not in taken), _free(options[0], taken))
            taken.add(one.name)
    for one in fields:
        if not one.name:
            name = _unmarked_name(one, pieces, taken)
            one.name, one.marked = _free(name, taken), name != "n"
            taken.add(one.name)
    if "channel" in taken and taken & {"camera", "wavelength", "dye"}:
        next(one for one in fields if one.name == "channel").name = "ch"
    plate = any(one.name == "row" and not one.number for one in fields)
    for one in fields:
        # The rows and columns of a plate are no tiles of a mosaic.
        one.token = _AXIS if plate and one.name in ("row", "col") else _token(one, files)
        one.spec = _spec(one, pieces)


def _free(name: str, taken: set[str]) -> str:
    """Return the name, or the first of name2, name3, ... that no field has."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}{number}"
    return free


def _drop_copies(fields: list[_Field]) -> None:
    """Leave out fields that a later one repeats, as the folder of C1/img_C1 does."""
    for place, one in enumerate(fields):
        meaning = _MEANINGS.get(_marker(one), ())[:1]
        for other in fields[place + 1 :]:
            if meaning == _MEANINGS.get(_marker(other), ())[:1] and _same(one, other):
                one.name = "{}"
                break


def _same(one: _Field, other: _Field) -> bool:
    """Whether two fields have the same value in every name, if perhaps padded differently."""
    if len(one.texts) != len(other.texts) or not (one.codes == other.codes).all():
        return False
    if one.number and other.number:
        return list(map(float, one.texts)) == list(map(float, other.texts))
    return one.texts == other.texts


def _marker(field: _Field) -> str:
    """Return the letters that mark a field, in lower case; "" where there are none."""
    whole = field.before.lower()
    last = re.search(r"(?<=[a-z])[A-Z][a-z]*\Z", field.before)
    if last and whole not in _MEANINGS:
        return last[0].lower()
    return whole or (field.word or field.after).lower()


def _counts(field: _Field) -> bool:
    """Whether numbers go up by one."""
    numbers = sorted(map(int, field.texts)) if not field.decimal else [0]
    return len(numbers) == numbers[-1] - numbers[0] + 1


def _number_names(field: _Field, fields: Sequence[_Field], about: str) -> list[str]:
    """Return the names that the marker and the unit of a number allow, the likeliest first."""
    marker, after = _marker(field), field.after.lower()
    markers = {_marker(one) for one in fields}
    meanings = list(_MEANINGS.get(marker, ()))
    if field.unit:
        trailing = {one.after.lower() for one in fields} & _MEANINGS.keys() - _UNITS.keys()
        if marker == after == "s" and (trailing or _counts(field)):
            return meanings if trailing else ["s"]  # 3s is a site beside 2t, else perhaps seconds
        name, first = field.unit[0], (meanings[:1] or [""])[0] if marker != after else ""
        sayers = {"time": ("", "t"), "time_abs": ("", "t"), "wavelength": ("", "channel")}
        if first in sayers.get(name, ("",)):
            return [name] if name else []
        return meanings
    if marker in ("x", "y") and field.decimal:
        return [f"{marker}_position"]
    if marker == "x" == after and "y" not in markers and not re.search("[0-9]y", about):
        return []  # a magnification
    if marker == "z" == after and re.search("[0-9]x.*[0-9]y.*0z", about):
        return ["z_offset"]
    if marker == "p" and "z" not in markers and re.search("f[0-9]+p", about):
        return ["z", "position"]
    grid = marker == "c" and ("r" in markers or re.search("r[0-9]+c", about))
    wells = marker == "w" and (markers & {"c", "ch", "channel"} or re.search("[0-9]C[0-9]", about))
    return meanings[::-1] if grid or wells else meanings


def _text_names(field: _Field) -> list[str]:
    """Return the names that the marker of a text allows; a text counts nothing."""
    if all(_WELL.fullmatch(text.upper()) for text in field.texts):
        return ["well"]
    counts = {"t", "z", "stack", "x_offset", "y_offset", "part", "cycle", "round", "iter"}
    return [name for name in _MEANINGS.get(_marker(field), ()) if name not in counts]


def _unmarked_name(field: _Field, pieces: _Pieces, taken: set[str]) -> str:
    """Name a field that has no marker by what stands there, if that says anything."""
    texts = field.texts
    if field.number:
        lasers = len(texts) > 1 and all(map(_LASERS.fullmatch, texts))
        return "wavelength" if lasers and "wavelength" not in taken else "n"
    if field.date:
        return "timestamp"
    if _are_dyes(texts):
        return "dye"
    if all(map(_VARIANT.fullmatch, texts)):
        return "variant"
    if {text.lower() for text in texts} in ({"left", "right"}, {"l", "r"}):
        return "side"
    place = pieces.index(field)
    if all(len(text) == 1 and text.upper() in "ABCDEFGHIJKLMNOP" for text in texts):
        match pieces[place + 1 : place + 3]:
            case ["-" | "_" | " " | " - ", _Field(name="", number=True) as column]:
                column.name = _free("col", taken)
                taken.add(column.name)
                return "row"
    before = "".join(piece if isinstance(piece, str) else "0" for piece in pieces[:place])
    if any("/" in piece for piece in pieces[place:] if isinstance(piece, str)):
        return "folder"
    if not _WORD.search(before.rpartition("/")[2]):
        return "name"
    others = [one for one in _fields(pieces) if one is not field and not one.number]
    named = taken & {"channel", "wavelength", "camera", "dye"}
    alone = not named and all(one.name and not _is_sample(one.name) for one in others)
    return "dye" if alone and len(texts) <= _FEW else "sample"


def _is_sample(name: str) -> bool:
    """Whether a name, or its first of several, is that of a sample."""
    return VOCABULARY.get(name.rstrip("0123456789"), _AXIS).role == "sample"


def _token(field: _Field, files: int) -> Token:
    """Tell what a field means, by its name and its unit."""
    base = field.name if field.name in VOCABULARY else field.name.rstrip("0123456789")
    token = VOCABULARY.get(base, _AXIS)
    if field.name != base and token.role in ("channel", "label"):
        token = _AXIS
    if field.date:
        token = Token("clock")
    if base == "n" and not field.decimal and len(field.texts[0]) > 5:
        numbers = list(map(int, field.texts))
        if 2 * len(numbers) > files and max(numbers) - min(numbers) > 10 * len(numbers):
            token = Token("clock")  # long numbers that count nothing
    return replace(token, units=field.unit[1]) if field.unit else token


def _spec(field: _Field, pieces: _Pieces) -> str:
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
    if following and isinstance(following[0], str) and following[0].startswith(_GUID_MARK):
        return f":{narrow}d"  # a GUID may go on with digits
    padded = [text for text in texts if len(text) > 1 and text.lstrip("-").startswith("0")]
    if any(len(text) > narrow for text in padded):
        raise _UnclearError(
            f"numbers are padded in several ways: {min(texts, key=len)}, {max(padded, key=len)}"
        )
    return f":0{narrow}d" if padded else ":d"


# --- is it certain --------------------------------------------------------------------------


def _template(pieces: _Pieces, names: Sequence[str]) -> str:
    """Write the template; folders that begin the path and never change are left out."""
    written = ""
    for piece in pieces:
        if isinstance(piece, _Field):
            written += piece.name if piece.name == "{}" else f"{{{piece.name}{piece.spec}}}"
            continue
        first, *more = re.sub(r"[\[\]{}]", r"\g<0>\g<0>", piece).split(_GUID_MARK)
        written += first
        for text in more:
            count = written.count("{guid")
            written += f"{{guid{count + 1 if count else ''}}}{text}"
        if "{" not in written:
            written = written.rpartition("/")[2]
    endings = Counter(_ENDING.findall("\n".join(names)))
    # Without an ending, a template takes that of any TIFF.
    one = len({ending.lower() for ending in endings}) == 1
    return written + (endings.most_common(1)[0][0] if one else "")


def _check(pieces: _Pieces, names: Sequence[str]) -> None:
    """Refuse a template that does not read the names as they were cut, and dots that may be points.

    A dot between numbers without padding may be a decimal point.
    """
    template = _template(pieces, names)
    fits, columns = Pattern(template).parse_names(names)
    for one in _fields(pieces) if fits.all() else ():
        texts = [one.texts[code] for code in one.codes]
        if re.search(rf"[^\W\d_]-\{{{one.name}:f", template) and min(map(float, one.texts)) > 0:
            raise _UnclearError(f"{one.name}: '-' may be a minus, or part the number from the word")
        if one.number and one.spec != ":s":
            fits &= np.array(list(map(float, texts))) == columns[one.name]
        else:
            fits &= np.array(texts, object) == columns[one.name]
    if not fits.all():
        raise _UnclearError(f"no template reads the parts of these names; {template} does not")
    if re.search(
        r"(?<![0-9}.])(\{\w+:d\}|0|[1-9][0-9]*)\.\{\w+:0?[0-9]*d\}(?!\.[0-9{])", template
    ) or (re.search(r"(?<![0-9}.])\{\w+:d\}\.[0-9]+(?!\.[0-9{])", template)):
        raise _UnclearError(_DOT)


def _judged(
    names: Sequence[str],
    pieces: _Pieces,
    template: str,
    fits: np.ndarray,
    columns: Mapping[str, pd.Series | np.ndarray],
) -> Inference:
    """Give the reading of all names, if it is certain."""
    fields = _fields(pieces)
    reasons = []
    for one in fields:
        one.codes, values = pd.factorize(np.asarray(columns[one.name]))
        reasons.append(_reason(one, values))
    known = {one.name for one in fields}
    reasons += [f"{name}: a random identifier" for name in columns if name not in known]
    files = int(fits.sum())
    placing = [one for one in fields if one.token.role != "clock"]
    if not _told_apart(placing, files):
        placing = fields
        for one in fields:
            if one.token.role == "clock":
                one.token = replace(one.token, role="axis")
    kept = [names[row] for row in np.flatnonzero(fits).tolist()]
    strays = [names[row] for row in np.flatnonzero(~fits).tolist()]
    problem = _crowded(placing, kept) or _sparse(placing, files) or _belonging(strays, kept)
    if problem:
        raise _UnclearError(*problem.split("\n"), *reasons, candidates=[template])
    literal = " ".join(piece for piece in pieces if isinstance(piece, str))
    tokens = {one.name: one.token for one in fields}
    tokens |= {name: Token("random") for name in columns if name not in tokens}
    return Inference(
        template=template,
        tokens=MappingProxyType(
            {name: one for name, one in tokens.items() if one != VOCABULARY.get(name, _AXIS)}
        ),
        reasons=tuple(reasons),
        constants=tuple(word for word in _WORD.findall(literal) if re.search("[0-9]", word)),
        unmatched=tuple(strays),
    )


def _reason(field: _Field, values: np.ndarray) -> str:
    """Say in a line why a field is what it is."""
    if field.number:
        what = f"{len(values)} numbers, {values.min()} to {values.max()}"
    else:
        what = f"{len(values)} texts, {', '.join(sorted(values)[:_FIRST])}"
        what += ", ..." if len(values) > _FIRST else ""
    word = field.word if field.name in _MEANINGS.get(field.word.lower(), ("ch",)) else ""
    marker = field.before or word
    if marker:
        what += f", marked by {marker!r}" if field.marked else f", after {marker!r}"
    elif not field.after:
        what += ", no marker"
    return f"{field.name}: {what}" + (f", in {field.after!r}" if field.after else "")


def _cells(columns: Sequence[np.ndarray], files: int) -> np.ndarray:
    """Give a number, from zero on, to each different tuple of codes."""
    cells = np.zeros(files, np.int64)
    for codes in columns:
        cells = pd.factorize(cells * (int(codes.max()) + 1) + codes)[0]
    return cells


def _told_apart(fields: Sequence[_Field], files: int) -> bool:
    """Whether no two files agree in all fields."""
    return bool(_cells([one.codes for one in fields], files).max() + 1 == files)


def _crowded(fields: Sequence[_Field], names: Sequence[str]) -> str:
    """Say which files would stand in one cell, if any do."""
    cells = pd.Series(_cells([one.codes for one in fields], len(names)))
    again = np.flatnonzero(cells.duplicated(keep=False))
    if not len(again):
        return ""
    first = np.flatnonzero(cells == cells[again[0]])[:_FIRST]
    shown = "".join(f"\n  {names[row]}" for row in first)
    return f"{len(again)} files would stand in a cell that another file has, as{shown}"


def _sparse(fields: Sequence[_Field], files: int) -> str:
    """Say why the fields are hardly the dimensions of an array, if so."""
    dims = _dims(fields, files)
    cells = math.prod(int(codes.max()) + 1 for _, codes in dims)
    sizes = ", ".join(f"{one.name}: {int(codes.max()) + 1}" for one, codes in dims)
    if 2 * files < cells:
        return f"{files} files would stand in {cells} cells ({sizes}): most would be empty"
    if files < cells and sum(not one.marked for one, _ in dims) > 1:
        return f"numbers have no marker, and {cells - files} of {cells} cells ({sizes}) no file"
    return ""


def _dims(fields: Sequence[_Field], files: int) -> list[tuple[_Field, np.ndarray]]:
    """Find the fields that others do not determine; all that tell channels apart are one."""
    channel = [one for one in fields if one.token.role in ("channel", "label")]
    others = sorted((one for one in fields if one not in channel), key=lambda one: not one.marked)
    kept = [(one, one.codes) for one in others]
    if channel:
        kept.insert(0, (channel[0], _cells([one.codes for one in channel], files)))
    for dim in reversed(kept[:]):
        rest = [codes for one, codes in kept if one is not dim[0]]
        single = any(_determines(codes, dim[1]) for codes in rest)
        joint = not dim[0].marked and rest and _determines(_cells(rest, files), dim[1])
        if single or joint:
            kept = [other for other in kept if other[0] is not dim[0]]
    return kept


def _determines(cells: np.ndarray, codes: np.ndarray) -> bool:
    """Whether files that agree in `cells` agree in `codes`."""
    last = np.zeros(int(cells.max()) + 1, np.int64)
    last[cells] = codes
    return bool((last[cells] == codes).all())


def _belonging(strays: Sequence[str], names: Sequence[str]) -> str:
    """Say why the names that are left over may be part of the array after all, if so."""
    total = len(strays) + len(names)
    if len(strays) > (1 - _MOST) * total:
        return f"{len(strays)} of {total} names are made differently, as\n  {strays[0]}"
    letters = {_letters(name) for name in names[:: max(1, len(names) // _SAMPLE)]}
    for stray in strays:
        if _letters(stray) in letters:
            return f"{len(strays)} of {total} names have a part more or less, as\n  {stray}"
    return ""


def _letters(name: str) -> str:
    """Return the letters of a name."""
    return re.sub(r"[\W\d_]", "", _ENDING.sub("", name)).lower()
