"""How to read names that nobody described: a reading that is certain, or the reasons why none is.

Names are cut into words; what changes in them is named by its marker, or keeps its own word; all
else stays literal. Where that does not give one reading that puts every file in a slot of its own,
nothing is chosen.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from dataclasses import field as with_default
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from xarray_tiffstack.names.dependencies import combined, determines, distinct
from xarray_tiffstack.names.fields import (
    MOST,
    Field,
    Pieces,
    SeveralMakesError,
    UnclearError,
    fields_of,
)
from xarray_tiffstack.names.meaning import name_fields
from xarray_tiffstack.names.pattern import Pattern
from xarray_tiffstack.names.punctuation import (
    ENDING,
    GUID_MARK,
    may_be_decimals,
    protected,
    sorts_as_text,
    with_points,
)
from xarray_tiffstack.names.vocabulary import MARKERS, VOCABULARY, Token, unit_of
from xarray_tiffstack.names.words import cut_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Names that are cut; the others are compared with what these give.
_SAMPLE = 2000
# Values that a message shows.
_FIRST = 5
# Part of the slots that may be empty where two numbers have no marker.
_HOLES = 0.2
_DOT = "a dot between two digits may be a decimal point, or part two numbers"
_AXIS = Token("axis")


Columns: TypeAlias = "Mapping[str, pd.Series | np.ndarray]"
Parsed: TypeAlias = "tuple[np.ndarray, Columns]"


@dataclass(frozen=True)
class Inference:
    """How names can be read, and why; what is not certain is not chosen."""

    template: str | None = None
    """The template that reads them, or None where no reading is certain."""
    tokens: Mapping[str, Token] = with_default(default_factory=dict)
    """Meaning of the tokens that mean something else than their names do in `VOCABULARY`."""
    reasons: tuple[str, ...] = ()
    """Why each token is what it is, or why nothing was chosen, a line each."""
    unmatched: tuple[str, ...] = ()
    """Names that are made differently from the others, and are not read."""
    candidates: tuple[str, ...] = ()
    """Templates to choose from, where none was chosen."""
    parsed: Parsed | None = with_default(default=None, repr=False, compare=False)
    """The names taken apart by the template: which fit, and the columns."""

    @property
    def pattern(self) -> Pattern | None:
        """The template, compiled."""
        return None if self.template is None else Pattern(self.template)


def units_beside(pattern: Pattern) -> dict[str, str]:
    """Find the units behind the tokens of a template.

    Examples
    --------
    >>> units_beside(Pattern("a_{time:d}msec_{power:d}mW_t{t:d}s{site:d}.tif"))
    {'time': 'millisecond', 'power': 'milliwatt'}
    """
    beside = re.findall(r"\{(\w+)(?::\w*)?\}([A-Za-zµμ]++)(?!\{)", pattern.text)
    return {token: unit.unit for token, letters in beside if (unit := unit_of(letters))}


def infer(names: Sequence[str]) -> Inference:
    r"""Find out how names that follow no known convention are read.

    Parameters
    ----------
    names : sequence of str
        Paths relative to the source, with "/" between their parts.

    Returns
    -------
    Inference
        Its `template` is None where names are of several makes, where two files would be in
        one slot, where most slots would be empty, or where dots may be points or punctuation.

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
    except SeveralMakesError as error:
        parts = [infer(alike).template for alike in error.alike if len(alike) > 1]
        return Inference(reasons=error.args, candidates=tuple(filter(None, parts)))
    except UnclearError as error:
        return Inference(reasons=error.args, candidates=error.templates)


def _infer(names: list[str]) -> Inference:
    """Cut a sample of the names, and with it those that its template does not read."""
    if not names:
        raise UnclearError("there are no names")
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


def _cut(names: Sequence[str]) -> Pieces:
    """Cut names into literal text and named fields, whichever way their dots are meant."""
    joined = "\n".join(names)
    if joined.count("\n") != len(names) - 1:
        raise UnclearError("names have line breaks")
    stems = protected(ENDING.sub("", joined))
    if not may_be_decimals(stems):
        return _named(names, stems)
    pieces = _named(names, with_points(stems))
    if all(piece.marked or not piece.decimal for piece in fields_of(pieces)):
        return pieces
    raise UnclearError(_DOT, templates=[_template(pieces, names)])


def _named(names: Sequence[str], stems: str) -> Pieces:
    """Cut names, given without endings and a line each, and name what changes in them."""
    pieces, rows = cut_words(stems, names)
    name_fields(pieces, len(rows))
    _check(pieces, [names[row] for row in rows])
    return pieces


# --- is it certain --------------------------------------------------------------------------


def _template(pieces: Pieces, names: Sequence[str]) -> str:
    """Write the template; folders that begin the path and never change are left out."""
    written = ""
    for piece in pieces:
        if isinstance(piece, Field):
            written += piece.name if piece.name == "{}" else f"{{{piece.name}{piece.spec}}}"
            continue
        first, *more = re.sub(r"[\[\]{}]", r"\g<0>\g<0>", piece).split(GUID_MARK)
        written += first
        for text in more:
            count = written.count("{guid")
            written += f"{{guid{count + 1 if count else ''}}}{text}"
        if "{" not in written:
            written = written.rpartition("/")[2]
    endings = Counter(ENDING.findall("\n".join(names)))
    # Without an ending, a template takes that of any TIFF.
    one = len({ending.lower() for ending in endings}) == 1
    return written + (endings.most_common(1)[0][0] if one else "")


def _check(pieces: Pieces, names: Sequence[str]) -> None:
    """Refuse a template that does not read the names as they were cut, and dots that may be points.

    A dot between numbers without padding may be a decimal point.
    """
    template = _template(pieces, names)
    fits, columns = Pattern(template).parse_names(names)
    for one in fields_of(pieces) if fits.all() else ():
        texts = [one.texts[code] for code in one.codes]
        if re.search(rf"[^\W\d_]-\{{{one.name}:f", template) and min(one.values) > 0:
            raise UnclearError(f"{one.name}: '-' may be a minus, or part the number from the word")
        if one.number and one.spec != ":s":
            fits &= np.array(one.values)[one.codes] == columns[one.name]
        else:
            fits &= np.array(texts, object) == columns[one.name]
    if not fits.all():
        raise UnclearError(f"no template reads the parts of these names; {template} does not")
    if re.search(
        r"(?<![0-9}.])(\{\w+:d\}|0|[1-9][0-9]*)\.\{(?!wavelength)\w+:0?[0-9]*d\}(?!\.[0-9{])",
        template,
    ) or (re.search(r"(?<![0-9}.])\{\w+:d\}\.[0-9]+(?!\.[0-9{])", template)):
        raise UnclearError(_DOT)


def _judged(
    names: Sequence[str],
    pieces: Pieces,
    template: str,
    fits: np.ndarray,
    columns: Columns,
) -> Inference:
    """Give the reading of all names, if it is certain."""
    fields = fields_of(pieces)
    reasons = []
    for one in fields:
        one.codes, values = pd.factorize(np.asarray(columns[one.name]))
        reasons.append(_reason(one, values))
    known = {one.name for one in fields}
    reasons += [f"{name}: a random identifier" for name in columns if name not in known]
    files = int(fits.sum())
    _set_running_numbers_aside(fields, files)
    placing = [one for one in fields if one.token.role != "clock"]
    if not distinct([one.codes for one in placing], files):
        placing = fields
        for one in fields:
            if one.token.role == "clock":
                one.token = replace(one.token, role="axis")
    kept = [names[row] for row in np.flatnonzero(fits).tolist()]
    strays = [names[row] for row in np.flatnonzero(~fits).tolist()]
    problem = (
        _disordered(placing, files)
        or _crowded(placing, kept)
        or _sparse(placing, files)
        or _belonging(strays, kept)
    )
    if problem:
        raise UnclearError(*problem.split("\n"), *reasons, templates=[template])
    tokens = {one.name: one.token for one in fields}
    tokens |= {name: Token("random") for name in columns if name not in tokens}
    return Inference(
        template=template,
        tokens=MappingProxyType(
            {name: one for name, one in tokens.items() if one != VOCABULARY.get(name, _AXIS)}
        ),
        reasons=tuple(reasons),
        unmatched=tuple(strays),
        parsed=(fits, columns),
    )


def _set_running_numbers_aside(fields: Sequence[Field], files: int) -> None:
    """Make numbers that are another one in each file coordinates, where others place the files."""
    axes = [one for one in fields if one.token.role != "clock"]
    running = [one for one in axes if int(one.codes.max(initial=0)) + 1 == files > 1]
    others = [one for one in axes if one not in running]
    if running and distinct([one.codes for one in others], files):
        for one in running:
            one.token = replace(one.token, role="clock")


def _reason(field: Field, values: np.ndarray) -> str:
    """Say in a line why a field is what it is."""
    if field.number:
        what = f"{len(values)} numbers, {values.min()} to {values.max()}"
    else:
        what = f"{len(values)} texts, {', '.join(sorted(values)[:_FIRST])}"
        what += ", ..." if len(values) > _FIRST else ""
    word = field.word if field.name in (MARKERS.get(field.word.lower(), field.word), "ch") else ""
    marker = field.before or word
    if marker:
        what += f", marked by {marker!r}" if field.marked else f", after {marker!r}"
    elif not field.after:
        what += ", no marker"
    return f"{field.name}: {what}" + (f", in {field.after!r}" if field.after else "")


def _crowded(fields: Sequence[Field], names: Sequence[str]) -> str:
    """Say which files would be in one slot, if any are."""
    slots = pd.Series(combined([one.codes for one in fields], len(names)))
    again = np.flatnonzero(slots.duplicated(keep=False))
    if not len(again):
        return ""
    first = np.flatnonzero(slots == slots[again[0]])[:_FIRST]
    shown = "".join(f"\n  {names[row]}" for row in first)
    return f"{len(again)} files would be in a slot that another file has, as{shown}"


def _disordered(fields: Sequence[Field], files: int) -> str:
    """Say which dates would be dimensions though they do not sort as text, if any."""
    for one, _ in _dims(fields, files):
        if one.moment and not sorts_as_text(one.texts):
            return f"{one.name}: dates such as {one.texts[0]} do not sort as text"
    return ""


def _sparse(fields: Sequence[Field], files: int) -> str:
    """Say why the fields are hardly the dimensions of an array, if so."""
    dims = _dims(fields, files)
    slots = math.prod(int(codes.max()) + 1 for _, codes in dims)
    sizes = ", ".join(f"{one.name}: {int(codes.max()) + 1}" for one, codes in dims)
    if 2 * files < slots:
        return f"{files} files would be in {slots} slots ({sizes}): most would be empty"
    unnamed = sum(not one.marked for one, _ in dims) > 1
    if unnamed and slots - files > _HOLES * slots:
        return (
            f"numbers have no marker, and {slots - files} of {slots} slots ({sizes}) would be empty"
        )
    return ""


def _dims(fields: Sequence[Field], files: int) -> list[tuple[Field, np.ndarray]]:
    """Find the fields that others do not determine; all that make up a channel are one."""
    channel = [one for one in fields if one.token.role in ("channel", "label")]
    others = sorted((one for one in fields if one not in channel), key=lambda one: not one.marked)
    kept = [(one, one.codes) for one in others]
    if channel:
        kept.insert(0, (channel[0], combined([one.codes for one in channel], files)))
    for dim in reversed(kept[:]):
        rest = [codes for one, codes in kept if one is not dim[0]]
        single = any(determines([codes], dim[1]) for codes in rest)
        joint = not dim[0].marked and rest and determines(rest, dim[1])
        if single or joint:
            kept = [other for other in kept if other[0] is not dim[0]]
    return kept


def _belonging(strays: Sequence[str], names: Sequence[str]) -> str:
    """Say why the names that are left over may be part of the array after all, if so."""
    total = len(strays) + len(names)
    if len(strays) > (1 - MOST) * total:
        return f"{len(strays)} of {total} names are made differently, as\n  {strays[0]}"
    if alike := made_alike(strays, names):
        return f"{len(strays)} of {total} names have a part more or less, as\n  {alike}"
    return ""


def made_alike(strays: Sequence[str], names: Sequence[str]) -> str:
    """Return the first of some names that has the letters of another name; "" where none has."""
    letters = {_letters(name) for name in names[:: max(1, len(names) // _SAMPLE)]}
    return next((stray for stray in strays if _letters(stray) in letters), "")


def _letters(name: str) -> str:
    """Return the letters of a name."""
    return re.sub(r"[\W\d_]", "", ENDING.sub("", name)).lower()
