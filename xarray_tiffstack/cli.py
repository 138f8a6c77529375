"""The command ``tiffstack``: what a shell can ask of the library."""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from typing import TYPE_CHECKING, Any

from xarray_tiffstack import __version__
from xarray_tiffstack.cli_convert import add_commands
from xarray_tiffstack.cli_source import add_source, open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0: done, 1: refused, 2: wrong usage)."""
    parser = _parser()
    args = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return int(args.run(args))
        except (OSError, ValueError) as error:
            print(f"tiffstack: {error}", file=sys.stderr)
            return 1


def _show_warning(message: object, *where: Any, **more: Any) -> None:
    """Print a warning as the errors are: where in the code it arose says nothing here."""
    print(f"tiffstack: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tiffstack",
        description="Open a folder of microscopy TIFFs by the names of its files.",
    )
    parser.add_argument("--version", action="version", version=f"tiffstack {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
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
    info.set_defaults(run=_info)
    conventions = commands.add_parser(
        "conventions",
        help="list the naming conventions that are known",
        description="List the naming conventions that are known, each with an example.",
    )
    conventions.set_defaults(run=_conventions)
    add_commands(commands)
    demo = commands.add_parser(
        "demo",
        help="a small acquisition, from names to Zarr",
        description="Write a small acquisition, open it, select from it, save it and verify it.",
    )
    demo.add_argument(
        "--dir", help="folder to write into, kept afterwards (default: a temporary one)"
    )
    demo.set_defaults(run=_demo)
    return parser


def _info(args: argparse.Namespace) -> int:
    if args.suggest:
        return _suggest(args.source)
    ds = open_source(args, unmatched="ignore")  # the report lists them
    facts = describe(ds)
    report = ds.tiffstack.report()
    if args.json:
        print(json.dumps({**facts, "report": report.as_dict()}, indent=2, default=str))
        return 0
    print(f"{'dimensions':>17}  " + ", ".join(f"{d}: {n}" for d, n in facts["sizes"].items()))
    for name, labels in facts["labels"].items():
        print(f"{name:>17}  {_short(labels)}")
    chunk, count = facts["chunk"], facts["chunks"]
    print(f"{'pixels':>17}  {facts['dtype']}, {_bytes(facts['bytes'])}")
    print(f"{'chunks':>17}  {count} of {tuple(chunk)}, {_bytes(facts['chunk_bytes'])}")
    if facts["time"] is not None:
        start, stop, units = facts["time"]
        print(f"{'time':>17}  {start} to {stop} {units}")
    print(report)
    return 0


def describe(ds: xr.Dataset) -> dict[str, Any]:
    """Facts about an opened Dataset, as JSON takes them."""
    image = ds["image"]
    time = None
    if "time" in ds.coords and ds["time"].dtype.kind in "iuf":
        units = ds["time"].attrs.get("units", "")
        time = [ds["time"].min().item(), ds["time"].max().item(), units]
    chunk = image.data.chunksize
    return {
        "sizes": {str(d): n for d, n in image.sizes.items()},
        "labels": {str(d): image[d].values.tolist() for d in image.dims if d in image.coords},
        "dtype": str(image.dtype),
        "bytes": image.nbytes,
        "chunk": list(chunk),
        "chunks": image.data.npartitions,
        "chunk_bytes": image.dtype.itemsize * math.prod(chunk),
        "time": time,
    }


def _suggest(source: str) -> int:
    """Print what recognition and inference make of the names; opens no file."""
    from xarray_tiffstack.names.infer import infer
    from xarray_tiffstack.names.recognise import recognise
    from xarray_tiffstack.source import list_files

    _, names = list_files(source)
    known, found = recognise(names), infer(names)
    for reason in known.reasons:
        print(f"convention  {reason}")
    for template in [found.template] if found.template else found.candidates:
        print(f"template    {template}")
    for reason in found.reasons:
        print(f"            {reason}")
    return 0 if known.pattern or found.pattern else 1


def _conventions(args: argparse.Namespace) -> int:
    from xarray_tiffstack.names.conventions import conventions

    for name, convention in conventions().items():
        print(f"{name}: {convention.title}")
        print(f"    {convention.examples[0].name}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from xarray_tiffstack.demo import demo

    demo(args.dir)
    return 0


def _short(labels: list[Any]) -> str:
    shown = labels if len(labels) <= 8 else [*labels[:4], "...", *labels[-2:]]
    return ", ".join(f"{n:.6g}" if isinstance(n, float) else str(n) for n in shown)


def _bytes(size: float) -> str:
    """Size in decimal units: 188.74 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g} {unit}" if unit == "bytes" else f"{size:.2f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"
