"""Commands that say what a folder holds, and what this program can: info, conventions, demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xarray_tiffstack.cli.exits import DONE, REFUSED
from xarray_tiffstack.cli.options import add_source, keywords_of, look_at, source_of

if TYPE_CHECKING:
    import argparse


def add_commands(commands: Any) -> None:
    """Add info, conventions and demo to the subparsers of ``tiffstack``."""
    for add in (_add_info, _add_conventions, _add_demo):
        add(commands)


def _add_info(commands: Any) -> None:
    info = commands.add_parser(
        "info",
        help="say what a folder holds",
        description="Say what a folder holds; opens one file.",
    )
    add_source(info)
    info.add_argument("--json", action="store_true", help="print JSON")
    info.add_argument(
        "--suggest", action="store_true", help="print how the names could be read, as templates"
    )
    info.add_argument("--verbose", action="store_true", help="list all names, and cut no line")
    info.set_defaults(run=_info)


def _add_conventions(commands: Any) -> None:
    conventions = commands.add_parser(
        "conventions",
        help="list the naming conventions that are known",
        description="List the naming conventions that are known, each with an example.",
    )
    conventions.set_defaults(run=_conventions)


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="a small acquisition, from names to Zarr and to pictures",
        description="Write a small acquisition, open it, select from it, save, verify and see it.",
    )
    demo.add_argument("--dir", help="folder to write into (default: tiffstack-demo)")
    demo.set_defaults(run=_demo)


def _info(args: argparse.Namespace) -> int:
    from xarray_tiffstack.look.commands import show_info, show_json

    if args.suggest:
        return _suggest(args)
    ds = look_at(args)  # the report lists what does not fit
    if args.json:
        show_json(ds)
        return DONE
    show_info(ds, verbose=args.verbose, keywords=keywords_of(args))
    return DONE


def _suggest(args: argparse.Namespace) -> int:
    """Print what recognition and inference make of the names; opens no file."""
    from xarray_tiffstack.storage import Access
    from xarray_tiffstack.table import suggest

    lines, known = suggest(source_of(args), Access(args.storage_options))
    print("\n".join(lines))
    return DONE if known else REFUSED


def _conventions(args: argparse.Namespace) -> int:
    from xarray_tiffstack import conventions

    for name, convention in conventions().items():
        print(f"{name}: {convention.title}")
        print(f"    {convention.examples[0].name}")
    return DONE


def _demo(args: argparse.Namespace) -> int:
    from xarray_tiffstack.demo import demo

    demo(args.dir)
    return DONE
