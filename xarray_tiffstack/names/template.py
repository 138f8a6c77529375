"""Knows the template language: its fields, optional parts and types, read and written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a TIFF file's name may end in, and so what a template may leave off.
_TIFF_ENDING = r"(?:\.ome)?\.(?:tiff?|btf|tf8|tf2)"
ENDING = re.compile(rf"(?:{_TIFF_ENDING}|\.lsm|\.stk)\Z", re.IGNORECASE)

_PIECE = re.compile(
    r"(?P<literal>[^\[\]{}]+)|(?P<brace>\{\{|\}\})|(?P<field>\{[^{}]*\})"
    r"|(?P<opening>\[+)|(?P<closing>\]+)|(?P<stray>[{}])"
)
_FIELD = re.compile(r"(?P<name>[^:]*)(?::(?:(?P<pad>0?)(?P<width>[1-9][0-9]*))?(?P<kind>[dfslw]))?")
HOW = (
    "write {token}, {token:d} (integer), {token:04d} (zero padded), {token:4d} (4 digits), "
    "{token:f} (decimal), {token:s} (text), {token:l} (letters), {token:w} (letters and digits) "
    "or {} (anything, not kept); [...] is an optional part; {{ }} [[ ]] are the characters"
)


@dataclass(frozen=True)
class Field:
    """One ``{token:spec}`` of a template; `name` is empty for ``{}``."""

    name: str
    kind: str = ""
    width: int = 0
    padded: bool = False

    @property
    def regex(self) -> str:
        """The regular expression of the texts this field takes, named after its token."""
        if not self.name:
            return "[^/]*?"
        match self.kind, self.width:
            case "d", 0:
                taken = "[-+]?[0-9]+"
            case "d", 1 if not self.padded:
                taken = "[0-9]"
            case "d", width:
                # Zero padding counts the sign: -1 as 03d is -01.
                more = "," if self.padded else ""
                taken = f"[0-9]{{{width}{more}}}|[-+][0-9]{{{max(width - 1, 1)}{more}}}"
            case "f", _:
                taken = "[-+]?[0-9]+(?:[.,p][0-9]+)?(?:[eE][-+][0-9]{1,3})?"
            case "l", _:
                taken = r"[^\W\d_]+"
            case "w", _:
                taken = r"[^\W_]+"
            case _:
                taken = "[^/]+?"
        return f"(?P<{self.name}>{taken})"

    @property
    def loose(self) -> bool:
        """Whether it takes any text."""
        return self.kind not in ("d", "f", "l", "w")

    def write(self, value: object) -> str:
        """Spell `value` as this field does."""
        if self.kind == "d":
            if int(value) != value:  # type: ignore[call-overload]
                raise ValueError(f"{self.name}={value!r} is not an integer")
            return format(int(value), f"0{self.width}d")  # type: ignore[call-overload]
        if isinstance(value, float | np.floating):
            return format(Decimal(repr(float(value))), "f")
        return str(value)


# A template is a sequence of literal text, fields and optional parts (themselves sequences).
Node: TypeAlias = "str | Field | tuple[Node, ...]"


def invalid(text: str, place: int, problem: str, how: str = HOW) -> ValueError:
    """Point at the place where a pattern goes wrong, and say how it is written."""
    return ValueError(f"{problem}\n  {text}\n  {' ' * place}^\n{how}")


def read_template(text: str, *, partial: bool = False) -> tuple[Node, ...]:
    """Read a template; in a `partial` one, optional parts may still be open."""
    parts: list[list[Node]] = [[]]
    opened: list[int] = []
    seen: set[str] = set()
    for piece in _PIECE.finditer(text):
        run, place = piece.group(), piece.start()
        match piece.lastgroup:
            case "literal":
                parts[-1].append(run)
            case "brace":
                parts[-1].append(run[0])
            case "field":
                token = _read_field(text, place, run[1:-1])
                if token.name in seen:
                    raise invalid(text, place, f"token {token.name!r} is there twice")
                seen |= {token.name} - {""}
                parts[-1].append(token)
            case "opening":
                if len(run) % 2:
                    parts.append([])
                    opened.append(place)
                parts[-1].append("[" * (len(run) // 2))
            case "closing":
                left = len(run)
                while left:
                    if left > 1 and len(opened) < 2:
                        parts[-1].append("]")
                        left -= 2
                    elif opened:
                        opened.pop()
                        closed = tuple(parts.pop())
                        parts[-1].append(closed)
                        left -= 1
                    else:
                        raise invalid(text, place, 'this "]" closes nothing')
            case _:
                raise invalid(text, place, f'unbalanced "{run}"')
    if opened and not partial:
        raise invalid(text, opened[-1], 'this "[" is never closed')
    return tuple(node for part in parts for node in part if node != "")


def _read_field(text: str, place: int, inside: str) -> Field:
    """Read what is between the braces of a field."""
    spec = _FIELD.fullmatch(inside)
    if not inside:
        return Field("")
    if spec is None or (spec["width"] and spec["kind"] != "d"):
        raise invalid(text, place, f"no such type of token: {{{inside}}}")
    if not spec["name"].isidentifier():
        raise invalid(text, place, f"{spec['name']!r} cannot be the name of a token")
    return Field(spec["name"], spec["kind"] or "", int(spec["width"] or 0), bool(spec["pad"]))


def all_fields(nodes: tuple[Node, ...]) -> list[Field]:
    """All fields of a template, optional ones too."""
    found: list[Field] = []
    for node in nodes:
        if isinstance(node, Field):
            found.append(node)
        elif isinstance(node, tuple):
            found.extend(all_fields(node))
    return found


def nodes_regex(nodes: tuple[Node, ...]) -> str:
    """Write a template's nodes as a regular expression, its ending and folders left alone."""
    written = ["" for _ in nodes]
    for place, node in enumerate(nodes):
        match node:
            case str():
                written[place] = re.escape(node)
            case Field():
                written[place] = node.regex
            case _:
                written[place] = f"(?:{nodes_regex(node)})?"
    # What a field of any text gives up, the next such field takes: the first place where all up to
    # there fits is right, and no other is tried. Else a long name would be tried in many ways.
    loose = [place for place, node in enumerate(nodes) if isinstance(node, Field) and node.loose]
    for start, stop in pairwise(loose):
        if all(_ends_in_one_place(nodes, place) for place in range(start + 1, stop)):
            written[start] = "(?>" + written[start]
            written[stop - 1] += ")"
    return "".join(written)


def _ends_in_one_place(nodes: tuple[Node, ...], place: int) -> bool:
    """Whether a node can end in one place only, once it is known where it begins."""
    node, following = nodes[place], nodes[place + 1]
    if isinstance(node, str):
        return True
    if isinstance(node, tuple) or node.loose:
        return False
    if node.kind == "d" and node.width and not node.padded:
        return True
    first = following[0] if isinstance(following, str) else "0"
    return not (first.isalnum() or (node.kind == "f" and first in ".,"))


def template_regex(nodes: tuple[Node, ...]) -> str:
    """Write a template as the regular expression that a path must match."""
    last = nodes[-1] if nodes else ""
    ending = ENDING.search(last) if isinstance(last, str) else None
    if ending is None:
        body, suffix = nodes_regex(nodes), _TIFF_ENDING
    else:
        body = nodes_regex((*nodes[:-1], ending.string[: ending.start()]))
        suffix = re.escape(ending.group())
    # Searched for, from the start of any folder: the leftmost match has all optional folders.
    return rf"(?<![^/]){body}(?i:{suffix})\Z"


def write(nodes: tuple[Node, ...], values: Mapping[str, object], text: str) -> str:
    """Write a sequence of nodes; every token directly in it must have a value."""
    own = [node for node in nodes if isinstance(node, Field)]
    if any(not node.name for node in own):
        raise ValueError(f"{{}} keeps nothing, so this pattern cannot compose names: {text}")
    if lacking := [node.name for node in own if node.name not in values]:
        raise ValueError(f"{text} also needs a value for: {', '.join(lacking)}")
    written = []
    for node in nodes:
        match node:
            case str():
                written.append(node)
            case Field():
                written.append(node.write(values[node.name]))
            case _ if _is_given(node, values):
                written.append(write(node, values, text))
    return "".join(written)


def _is_given(part: tuple[Node, ...], values: Mapping[str, object]) -> bool:
    """Whether an optional part has all it says: its own tokens, or those of a part in it."""
    own = [node.name in values for node in part if isinstance(node, Field)]
    if own:
        return all(own)
    return any(_is_given(node, values) for node in part if isinstance(node, tuple))
