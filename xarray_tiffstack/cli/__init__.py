"""The command ``tiffstack``: what a shell can ask of the library; a module a group of commands."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from xarray_tiffstack import __version__
from xarray_tiffstack.cli import about, back, indexing, looking, saving
from xarray_tiffstack.cli.exits import DONE, INTERRUPTED, REFUSED
from xarray_tiffstack.cli.spelling import Parser, as_options

if TYPE_CHECKING:
    from collections.abc import Sequence


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
        except KeyboardInterrupt as interrupt:
            print("; ".join(map(str, ("interrupted", *interrupt.args))), file=sys.stderr)
            return INTERRUPTED
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


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command and its subcommands."""
    parser = Parser(
        prog="tiffstack",
        description="Open a folder of microscopy TIFFs by the names of its files.",
    )
    _add_log(parser, 0)
    parser.add_argument("--version", action="version", version=f"tiffstack {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for group in (about, looking, saving, indexing, back):
        group.add_commands(commands)
    for command in commands.choices.values():
        _add_log(command, argparse.SUPPRESS)
    return parser


def _add_log(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument("-v", dest="log", action="count", default=default,
                        help="tell what is done and how long it took; -vv: each block")  # fmt: skip
