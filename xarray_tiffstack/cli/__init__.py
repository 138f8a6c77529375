"""The command ``tiffstack``: what a shell can ask of the library; a module a group of commands."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import warnings
from typing import TYPE_CHECKING, Any

from xarray_tiffstack import __version__
from xarray_tiffstack.cli import about, back, indexing, looking, saving
from xarray_tiffstack.cli.exits import DONE, REFUSED

if TYPE_CHECKING:
    from collections.abc import Sequence

# Keywords of the library that its messages name, and that are options here.
_KEYWORDS = (
    "pattern|group|missing|duplicates|unmatched|pages|mosaic|overlap|validate|voxel_size|levels|"
    "chunks|shards|compressors|ngff_version|workers|overwrite|strict|verify|part|"
    "restorable|keep_whole|sel|check|kind|inside|existing|storage_options"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = make_parser().parse_args(argv)
    _log(args.log)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return int(args.run(args))
        except BrokenPipeError:  # as of `| head`: who read has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except (OSError, ValueError, ImportError) as error:
            print(f"tiffstack: {as_options(str(error))}", file=sys.stderr)
            return REFUSED


def _log(level: int) -> None:
    """Tell on standard error what is done, to which files, and how long it took."""
    log = logging.getLogger("xarray_tiffstack")
    log.setLevel({0: logging.WARNING, 1: logging.INFO}.get(level, logging.DEBUG))
    if level and not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)


def _show_warning(message: object, *where: Any, **more: Any) -> None:
    """Print a warning as errors are printed: its place in the code says nothing here."""
    print(f"tiffstack: {as_options(str(message))}", file=sys.stderr)


def as_options(message: str) -> str:
    """Spell the keywords that a message names as options of the command.

    Examples
    --------
    >>> as_options('Choose with duplicates="first", or pass overwrite=True.')
    'Choose with --duplicates "first", or pass --overwrite.'
    """

    def option(found: re.Match[str]) -> str:
        name, value = f"--{found[1].replace('_', '-')}", found[2] or ""
        return name if value in ("", "True") else f"{name} {value}"

    return re.sub(rf"\b({_KEYWORDS})=(\"[^\"\n]*\"|'[^'\n]*'|True)?", option, message)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command and its subcommands."""
    parser = argparse.ArgumentParser(
        prog="tiffstack",
        description="Open a folder of microscopy TIFFs by the names of its files.",
    )
    parser.add_argument("-v", dest="log", action="count", default=0,
                        help="tell what is done and how long it took; -vv: each block")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"tiffstack {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (about, looking, saving, indexing, back):
        group.add_commands(commands)
    return parser
