"""How options are spelled: in messages of the library, and where one is mistyped."""

from __future__ import annotations

import argparse
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

# Keywords of the library that its messages name, and that are options here.
_KEYWORDS = (
    "pattern|group|missing|duplicates|unmatched|pages|mosaic|overlap|validate|voxel_size|levels|"
    "chunks|shards|compressors|ngff_version|workers|overwrite|strict|verify|part|"
    "restorable|keep_whole|sel|check|kind|inside|existing|storage_options"
)


def as_options(message: str) -> str:
    """Spell the keywords that a message names as options of the command.

    Examples
    --------
    >>> as_options('Choose with duplicates="first", or pass overwrite=True.')
    'Choose with --duplicates "first", or pass --overwrite.'
    >>> as_options("index with levels=1")
    'index with --levels 1'
    """

    def option(found: re.Match[str]) -> str:
        name, value = f"--{found[1].replace('_', '-')}", found[2] or ""
        return name if value in ("", "True") else f"{name} {value}"

    return re.sub(rf"\b({_KEYWORDS})=(\"[^\"\n]*\"|'[^'\n]*'|True|\d+)?", option, message)


class Parser(argparse.ArgumentParser):
    """A parser that says which option, command or value was probably meant.

    The class of argparse tells the options that a subcommand does not know from its parent, with
    the parent's usage; here the subcommand refuses them itself. Options are spelled out: a short
    form in a script would break when another option begins alike.
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(allow_abbrev=False, **keywords)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse the options that are not known, each with those that are spelled alike."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            alike = [_meant(word.split("=")[0], known) for word in unknown if word[:1] == "-"]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{''.join(alike)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the `message`, and leave with exit code 2."""
        choice = re.search(r"invalid choice: '([^']*)' \(choose from ([^)]*)\)", message)
        more = _meant(choice[1], re.findall(r"[\w.-]+", choice[2])) if choice else ""
        super().error(message + more)


def _meant(word: str, known: Sequence[str]) -> str:
    """Ask whether the nearest of the `known` words was meant.

    Examples
    --------
    >>> _meant("--chanks", ["--chunks", "--shards"])
    '; did you mean --chunks?'
    """
    alike = get_close_matches(word, known, 1)
    return f"; did you mean {alike[0]}?" if alike else ""
