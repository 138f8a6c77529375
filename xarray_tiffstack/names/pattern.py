r"""Knows how a pattern is written, and how it takes a file name apart and puts one together.

A pattern is a template, ``cell_ch{ch:d}_stack{stack:04d}.tif``, or a regular expression with
named groups, ``ch(?P<ch>\d+)``. Its fields are called tokens. What a token *means* is not known
here; names are only taken apart into numbers and text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from xarray_tiffstack.names.template import (
    ENDING,
    Node,
    all_fields,
    invalid,
    nodes_regex,
    read_template,
    template_regex,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Value: TypeAlias = int | float | str | None

# Whole columns are checked in one call; NUL cannot occur in a file name, so it separates values.
# More than 18 digits do not fit an int64 and are an identifier, not a count.
_INTEGER = r"[-+]?[0-9]{1,18}"
_DECIMAL = r"[-+]?[0-9]{1,18}(?:\.[0-9]+)?(?:[eE][-+][0-9]{1,3})?"
_INTEGERS = re.compile(rf"{_INTEGER}(?:\0{_INTEGER})*+")
_DECIMALS = re.compile(rf"{_DECIMAL}(?:\0{_DECIMAL})*+")

# Names taken apart at once.
_BLOCK = 256


@dataclass(frozen=True)
class Pattern:
    r"""How file names are written: a template, or a regular expression with named groups.

    A *template* is a format string. ``{token}`` takes any text but "/" (the shortest that fits);
    its type is decided by all names together: integer where every value is one, float where every
    value is a decimal number, else text. ``{t:d}`` is a signed integer, ``{t:04d}`` has at least
    4 digits, ``{t:4d}`` exactly 4 (for glued fields), ``{v:f}`` is a signed decimal number (with
    "." or, as ``0p25`` and ``0,25`` have it, "p" or ","; perhaps with an exponent, as ``1e-3``),
    ``{n:s}`` text whatever it looks like, ``{w:l}`` letters, ``{w:w}`` letters and digits, and
    ``{}`` anything, kept nowhere. ``[...]`` is an optional part (a token in it is missing where
    the part is), and ``{{ }} [[ ]]`` are the characters themselves (``]]`` closes two parts where
    two are open). Literal text is taken exactly, the extension in upper or lower case, and a
    template without an extension takes that of any TIFF. A template with k slashes is compared
    with the last k + 1 parts of a path.

    A text with ``(?P<`` in it is a *regular expression*, searched for in the path relative to the
    source; its named groups are the tokens, typed as ``{token}`` is.

    Values of more than 18 digits, or with an exponent without a sign (``1E05``), stay text.

    Parameters
    ----------
    text : str
        The template or regular expression.

    Attributes
    ----------
    tokens : tuple of str
        Names of the tokens, in the order in which they are in the pattern.
    is_template : bool
        Whether `text` is a template, and so can `compose`.

    Raises
    ------
    ValueError
        Where `text` is neither; the message points at the place.

    Notes
    -----
    A pattern is immutable and compares, hashes and pickles by its text. No method does any IO.

    Examples
    --------
    >>> pattern = Pattern("{name}_ch{ch:d}_stack{stack:04d}[_{variant}].tif")
    >>> pattern.parse("raw/cell_ch0_stack0012.tif")
    {'name': 'cell', 'ch': 0, 'stack': 12, 'variant': None}
    >>> pattern.compose(name="cell", ch=0, stack=12, variant="decon")
    'cell_ch0_stack0012_decon.tif'
    """

    text: str
    tokens: tuple[str, ...] = field(init=False, compare=False, repr=False)
    is_template: bool = field(init=False, compare=False, repr=False)
    _kinds: Mapping[str, str] = field(init=False, compare=False, repr=False)
    _places: tuple[int, ...] = field(init=False, compare=False, repr=False)
    _nodes: tuple[Node, ...] = field(init=False, compare=False, repr=False)
    _find: Callable[[str], re.Match[str] | None] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Compile the text, once."""
        is_template = "(?P<" not in self.text
        nodes: tuple[Node, ...] = ()
        kinds: dict[str, str] = {}
        if is_template:
            nodes = read_template(self.text)
            kinds = {node.name: node.kind for node in all_fields(nodes)}
            regex = re.compile(template_regex(nodes))
        else:
            try:
                regex = re.compile(self.text)
            except re.error as error:
                problem = f"not a regular expression: {error.msg}"
                how = "a token is written (?P<token>...)"
                raise invalid(self.text, error.pos or 0, problem, how) from None
        attributes = {
            "tokens": tuple(regex.groupindex),
            "is_template": is_template,
            "_kinds": kinds,
            "_nodes": nodes,
            "_places": tuple(place - 1 for place in regex.groupindex.values()),
            "_find": regex.search,
        }
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[type[Pattern], tuple[str]]:
        """Pickle the text only."""
        return Pattern, (self.text,)

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def parse(self, name: str) -> dict[str, Value] | None:
        """Take one name apart.

        Parameters
        ----------
        name : str
            A path relative to the source, with "/" between its parts.

        Returns
        -------
        dict of str to int, float, str or None, or None
            The value of each token, None for one in an optional part that is absent; None in all
            where the name does not fit.

        Examples
        --------
        >>> Pattern("{well:l}{col:02d}_z{z:f}").parse("plate/B03_z-1.5.ome.tif")
        {'well': 'B', 'col': 3, 'z': -1.5}
        """
        found = self._find(name)
        if found is None:
            return None
        return {
            token: _typed([text], self._kinds.get(token, "")).tolist()[0] if text else None
            for token, text in found.groupdict().items()
        }

    def parse_names(
        self, names: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, pd.Series | np.ndarray]]:
        """Take many names apart, and decide the type of each token from all of them.

        Parameters
        ----------
        names : sequence of str, length n
            Paths relative to the source, with "/" between their parts.

        Returns
        -------
        fits : ndarray of bool, shape (n,)
            Which names fit the pattern.
        columns : dict of str to array-like of shape (number that fit,)
            One column a token: int64, float64 or object (text). A token that is missing in some
            names gives a nullable "Int64" or "Float64" Series, or an object array with None.

        Examples
        --------
        >>> fits, columns = Pattern("{name}_{z}.tif").parse_names(["a_1.tif", "log", "b_02.tif"])
        >>> fits.tolist(), columns["name"].tolist(), columns["z"].tolist()
        ([True, False, True], ['a', 'b'], [1, 2])
        """
        columns = [_Column(self._kinds.get(token, "")) for token in self.tokens]
        fits = np.zeros(len(names), bool)
        # A block at a time, so that the texts of one are gone before the next ones are made.
        for start in range(0, len(names), _BLOCK):
            block = slice(start, start + _BLOCK)
            found = [
                one.groups() if (one := self._find(name)) is not None else None
                for name in names[block]
            ]
            fits[block] = [groups is not None for groups in found]
            texts = list(zip(*[groups for groups in found if groups is not None], strict=True))
            if texts:
                for column, place in zip(columns, self._places, strict=True):
                    column.add(texts[place])
        return fits, {
            token: column.values() for token, column in zip(self.tokens, columns, strict=True)
        }

    def accounts_for(self, name: str, free: Iterable[str] = ()) -> int | None:
        """Count the characters of a name that the pattern fixes or takes for a token.

        Parameters
        ----------
        name : str
            A path relative to the source, with "/" between its parts.
        free : iterable of str, optional
            Tokens that take any text, and so account for nothing.

        Returns
        -------
        int or None
            None where the name does not fit.

        Examples
        --------
        >>> Pattern("{name}_z{z:d}.tif").accounts_for("raw/cell_z01.tif", free=["name"])
        8
        """
        found = self._find(name)
        if found is None:
            return None
        return len(found[0]) - sum(len(found[token] or "") for token in free)

    def folder(self, name: str) -> str:
        """Return the folder of a file that fits, as far as the pattern does not read it.

        Parameters
        ----------
        name : str
            A path relative to the source, with "/" between its parts.

        Returns
        -------
        str
            Empty where the pattern reads all of the path, or the name does not fit.

        Examples
        --------
        >>> Pattern("[Pos{position:d}/]{name}_z{z:d}").folder("day1/run2/Pos3/cell_z01.tif")
        'day1/run2'
        """
        found = self._find(name)
        return name[: found.start()].rpartition("/")[0] if found else ""

    def compose(self, **values: object) -> str:
        """Write the name of a file, such that `parse` gives the values back.

        Parameters
        ----------
        **values : int, float, str or None
            The value of each token. An optional part is left out where one of its tokens is None,
            NaN or absent.

        Returns
        -------
        str
            The name, with ".tif" where the template has no extension.

        Raises
        ------
        ValueError
            For a regular expression or a template with ``{}``, which cannot be written; for an
            unknown or missing token; for a value that would not come back.

        Examples
        --------
        >>> Pattern("{well}/z{z:03d}[_t{t:d}]").compose(well="A1", z=7)
        'A1/z007.tif'
        """
        if not self.is_template:
            raise ValueError(f"a regular expression cannot compose names: {self.text}")
        given = {token: value for token, value in values.items() if not pd.isna(value)}  # type: ignore[call-overload]
        if unknown := sorted(given.keys() - set(self.tokens)):
            raise ValueError(f"no such token in {self.text}: {', '.join(unknown)}")
        name = write(self._nodes, given, self.text)
        if not ENDING.search(self.text):
            name += ".tif"
        parsed = self.parse(name) or {}
        if lost := [token for token, value in given.items() if parsed.get(token) != value]:
            shown = ", ".join(f"{token}={given[token]!r}" for token in lost[:5])
            raise ValueError(
                f"{self.text} would write {name!r}, from which {shown} cannot be read back; "
                "{token:s} keeps text that looks like a number, and a part is written only with "
                "all of its tokens"
            )
        return name

    def explain(self, name: str) -> str:
        """Show how far the pattern and a name agree, and where they part.

        Parameters
        ----------
        name : str
            A path relative to the source, with "/" between its parts.

        Returns
        -------
        str
            Name and pattern below each other, a caret under the place where each stops to fit.

        Examples
        --------
        >>> print(Pattern("{name}_ch{ch:d}_z{z:d}").explain("cell_ch0_t4.tif"))
        cell_ch0_t4.tif
                 ^ does not fit
        {name}_ch{ch:d}_z{z:d}
                        ^ z{z:d}
        """
        if self.parse(name) is not None:
            return f"{name}\nfits {self.text}"
        if self.is_template:
            name = "/".join(name.split("/")[-1 - self.text.count("/") :])
        agreed, end = next(
            (length, found.end())
            for length in range(len(self.text), -1, -1)
            if (found := self._begins(length, name))
        )
        wanted = self.text[agreed:] or "the end of the name"
        lines = [name, " " * end + "^ does not fit", self.text, " " * agreed + f"^ {wanted}"]
        regex = template_regex(self._nodes) if self.is_template else self.text
        if re.compile(regex, re.IGNORECASE).search(name):
            lines.append("They differ in upper and lower case only.")
        return "\n".join(lines)

    def _begins(self, length: int, name: str) -> re.Match[str] | None:
        """Compare a name with the first `length` characters of the pattern, if they are one."""
        part = self.text[:length]
        try:
            if self.is_template:
                return re.match(nodes_regex(read_template(part, partial=True)), name)
            return re.search(part, name)
        except (ValueError, re.error):
            return None


def _typed(texts: Sequence[str], kind: str) -> np.ndarray:
    """Turn the texts of one token into int64, float64 or object, whichever all of them are."""
    if kind not in ("s", "l", "w"):
        joined = "\0".join(texts)
        if kind == "f":  # 0p25 and 0,25 are written where a dot would be in the way
            joined = joined.replace("p", ".").replace(",", ".")
        elif _INTEGERS.fullmatch(joined):
            return np.array(list(map(int, texts)), np.int64)
        if _DECIMALS.fullmatch(joined):
            return np.array(list(map(float, joined.split("\0"))), np.float64)
    return np.array(texts, dtype=object)


class _Column:
    """The texts of one token as they come in: each is kept once, and numbered."""

    def __init__(self, kind: str) -> None:
        """Begin with no text."""
        self.kind = kind
        self.numbers: defaultdict[str | None, int] = defaultdict(count().__next__)
        self.rows: list[np.ndarray] = []

    def add(self, texts: tuple[str | None, ...]) -> None:
        """Take in the texts of some more names."""
        if texts.count(texts[0]) == len(texts):  # most tokens seldom change from name to name
            self.rows.append(np.full(len(texts), self.numbers[texts[0]]))
        else:
            self.rows.append(np.fromiter(map(self.numbers.__getitem__, texts), int, len(texts)))

    def values(self) -> pd.Series | np.ndarray:
        """Decide the type, and give one value a name."""
        rows = np.concatenate(self.rows) if self.rows else np.empty(0, int)
        # An empty text, which only a regular expression can give, is as good as none.
        known = [text for text in self.numbers if text]
        gaps = np.array([not text for text in self.numbers], bool)
        typed = _typed(known, self.kind)
        values = np.full(len(gaps), None if typed.dtype == object else 0, typed.dtype)
        values[~gaps] = typed
        column: np.ndarray = values[rows]
        if typed.dtype == object or not gaps.any():
            return column
        array = pd.arrays.IntegerArray if typed.dtype == np.int64 else pd.arrays.FloatingArray
        series: pd.Series = pd.Series(array(column, gaps[rows]))
        return series
