"""The command ``tiffstack``: what a shell can ask of the library, and with which exit codes."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, Literal

from xarray_tiffstack import __version__
from xarray_tiffstack.look.commands import add_commands

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import xarray as xr

    from xarray_tiffstack import Summary

DONE, REFUSED, BROKEN, DIFFERENT, INTERRUPTED = 0, 1, 3, 4, 130

EXIT_CODES = """\
exit codes: 0 done (missing files are no failure); 1 refused, or the store cannot be written;
2 wrong usage; 3 some files could not be read, their slots are filled; 4 the store does not hold the
pixels of its source; 130 interrupted. The same command resumes what was begun.
"""

# Keywords of the library that its messages name, and that are options here.
_KEYWORDS = (
    "pattern|group|missing|duplicates|unmatched|pages|mosaic|overlap|validate|voxel_size|levels|"
    "chunks|shards|compressors|ngff_version|workers|overwrite|strict|verify"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = make_parser().parse_args(argv)
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


# --- what may be asked ----------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command and its subcommands."""
    parser = argparse.ArgumentParser(
        prog="tiffstack",
        description="Open a folder of microscopy TIFFs by the names of its files.",
    )
    parser.add_argument("--version", action="version", version=f"tiffstack {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_info(commands)
    add_commands(commands, _add_source, _look_at, _keywords)
    for add in (_add_convert, _add_verify, _add_conventions, _add_demo):
        add(commands)
    return parser


def _add_info(commands: Any) -> None:
    info = commands.add_parser(
        "info",
        help="say what a folder holds",
        description="Say what a folder holds; opens one file.",
    )
    _add_source(info)
    info.add_argument("--json", action="store_true", help="print JSON")
    info.add_argument(
        "--suggest", action="store_true", help="print how the names could be read, as templates"
    )
    info.add_argument("--verbose", action="store_true", help="list all names, and cut no line")
    info.set_defaults(run=_info)


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert",
        help="write an OME-Zarr store",
        description="Write an OME-Zarr store that viewers open, and xarray with every label.",
        epilog=EXIT_CODES,
    )
    _add_source(convert)
    _add_store(convert)
    option = convert.add_argument
    option("--levels", type=_levels, default="auto", metavar="N",
           help="resolution levels; 1 is full resolution alone (default: until a plane is at "
           "most 256 pixels wide)")  # fmt: skip
    option("--chunks", type=_pairs(int), default="auto", metavar="z=64,y=256,x=256",
           help="length of chunks along dimensions, in pixels")  # fmt: skip
    option("--shards", type=_pairs(int), metavar="z=128,...",
           help="length of shards along dimensions, or auto: one file a volume")  # fmt: skip
    option("--compressors", default="auto", metavar="NAME[:LEVEL]",
           help="lz4 or zstd (in Blosc, with bitshuffle), or none (default: lz4:5)")  # fmt: skip
    option("--ngff-version", choices=("0.5", "0.4"), default="0.5",
           help="0.5 is Zarr 3; 0.4 is Zarr 2, for older viewers")  # fmt: skip
    option("--method", choices=("mean", "nearest", "mode"), default="mean",
           help="how coarser levels are made; nearest or mode for label images")  # fmt: skip
    option("--overwrite", action="store_true",
           help="replace a store that is complete, or of other sources or settings")  # fmt: skip
    option("--verify", action="store_true", help="read the store back and compare every pixel")
    option("--strict", action="store_true", help="stop at the first file that cannot be read")
    option("--follow", action="store_true",
           help="the microscope is still writing: take files as they are finished, until a "
           "signal (Ctrl-C)")  # fmt: skip
    option("--until-idle", type=float, metavar="SECONDS",
           help="with --follow: end when no file came for so long")  # fmt: skip
    option("--expect", type=int, metavar="FILES",
           help="with --follow: end when so many files are finished")  # fmt: skip
    convert.set_defaults(run=_convert)


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser(
        "verify",
        help="compare a store with its source",
        description="Compare every pixel of a store with its source, and say where they differ.",
        epilog=EXIT_CODES,
    )
    _add_source(verify)
    _add_store(verify)
    verify.set_defaults(run=_verify)


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


def _add_source(parser: argparse.ArgumentParser, nargs: str | None = "+") -> None:
    """Add the source, and the keywords of `xarray.open_dataset` that say how it is read."""
    option = parser.add_argument
    option("source", metavar="SOURCE", nargs=nargs, help="a folder, a glob, or TIFFs")
    option("--pattern", help="template, regular expression or name of a convention")
    option("--group", metavar="NAME", help="which sample, where names or folders give several")
    option("--missing", default="fill", choices=("fill", "raise"),
           help="what to do about slots without a file (default: fill with zeros)")  # fmt: skip
    option("--duplicates", default="raise", choices=("raise", "first", "last", "position"),
           help="what to do about two files for the same labels")  # fmt: skip
    option("--unmatched", default="warn", choices=("warn", "ignore", "raise"),
           help="what to do about names that do not fit the pattern")  # fmt: skip
    option("--pages", metavar="NAME", help="what the pages of a file are, such as z or time")
    option("--mosaic", nargs="?", const=True, default=False, type=_pairs(str),
           metavar="x=TOKEN,y=TOKEN", help="put tiles together")  # fmt: skip
    option("--overlap", default=0, type=_pairs(float, alone=True), metavar="x=PIXELS,y=PIXELS",
           help="what neighbouring tiles share, in pixels, or below 1 as a fraction")  # fmt: skip
    option("--voxel-size", type=_pairs(float, alone=True), metavar="z=0.5,y=0.1,x=0.1",
           help="distance of voxels along z, y and x in micrometers; or one number")  # fmt: skip
    option("--validate", choices=("headers",), help="read the header of every file first")


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="the store")
    parser.add_argument("--workers", type=int, metavar="N", help="threads (default: processors)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _pairs(kind: Callable[[str], float | str], *, alone: bool = False) -> Callable[[str], object]:
    """Make a reader of ``z=1,y=2``, of "auto", and of one value `alone`."""

    def read(text: str) -> object:
        if text == "auto":
            return text
        if alone and "=" not in text:
            return kind(text)
        split = (pair.split("=") for pair in text.split(","))
        return {axis.strip(): kind(value) for axis, value in split}

    return read


def _levels(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _codec(text: str, version: str) -> Any:
    """Codec of a name and a level."""
    from xarray_tiffstack.ome_zarr.settings import blosc

    name, _, level = text.partition(":")
    if name == "auto":
        return name
    if name == "none":
        return None
    if name not in ("lz4", "zstd") or (level and not level.isdecimal()):
        raise ValueError(
            f"--compressors must be lz4, zstd, lz4:LEVEL, zstd:LEVEL or none, not {text}"
        )
    return blosc(name, int(level or {"lz4": 5, "zstd": 1}[name]), version)


# --- what is done ---------------------------------------------------------------------------


def _open(args: argparse.Namespace, unmatched: Literal["ignore"] | None = None) -> xr.Dataset:
    """Open what the command names; a conversion keeps the voxel size in its store."""
    import xarray as xr

    return xr.open_dataset(
        _source(args),
        engine="tiffstack",
        pattern=args.pattern,
        group=args.group,
        missing=args.missing,
        duplicates=args.duplicates,
        unmatched=unmatched or args.unmatched,
        voxel_size=None if "store" in args else args.voxel_size,
        pages=args.pages,
        mosaic=args.mosaic,
        overlap=args.overlap,
        validate=args.validate,
    )


def _source(args: argparse.Namespace) -> Any:
    """Return one source, or the files that the shell made of a glob."""
    source = [args.source] if isinstance(args.source, str) else args.source
    return source[0] if len(source) == 1 else source


def _info(args: argparse.Namespace) -> int:
    from xarray_tiffstack.look.commands import show_info, show_json

    if args.suggest:
        return _suggest(_source(args))
    ds = _look_at(args)  # the report lists what does not fit
    if args.json:
        show_json(ds)
        return DONE
    show_info(ds, verbose=args.verbose, keywords=_keywords(args))
    return DONE


def _look_at(args: argparse.Namespace) -> xr.Dataset:
    """Open a folder, or a store that was made of one; a page or a report lists what is left out."""
    from xarray_tiffstack.look.store import is_store, open_store

    source = _source(args)
    if isinstance(source, str) and is_store(source):
        return open_store(source)
    return _open(args, "ignore" if args.unmatched == "warn" else None)


def _keywords(args: argparse.Namespace) -> dict[str, Any]:
    """Give the options of the source that are not the usual ones, as keywords."""
    usual = argparse.ArgumentParser()
    _add_source(usual)
    names = ("pattern", "group", "missing", "duplicates", "pages", "mosaic", "overlap",
             "voxel_size", "validate")  # fmt: skip
    return {n: v for n in names if (v := getattr(args, n)) != usual.get_default(n)}


def _suggest(source: Any) -> int:
    """Print what recognition and inference make of the names; opens no file."""
    from xarray_tiffstack.table import suggest

    lines, known = suggest(source)
    print("\n".join(lines))
    return DONE if known else REFUSED


def _convert(args: argparse.Namespace) -> int:
    options: dict[str, Any] = {
        "levels": args.levels,
        "chunks": args.chunks,
        "shards": args.shards,
        "compressors": _codec(args.compressors, args.ngff_version),
        "ngff_version": args.ngff_version,
        "method": args.method,
        "workers": args.workers,
        "overwrite": args.overwrite,
        "verify": args.verify,
        "strict": args.strict,
        "progress": not args.quiet,
    }
    if not args.follow and (args.until_idle is not None or args.expect is not None):
        raise ValueError("--until-idle and --expect say when to end with --follow: add it")
    try:
        if args.follow:
            summary = _follow(args, options)
        else:
            ds = _open(args)
            size = _voxel_size(args.voxel_size, ds)
            summary = ds.tiffstack.to_ome_zarr(args.store, voxel_size=size, **options)
    except KeyboardInterrupt:
        print(
            f"interrupted; finished blocks stay in {args.store}, and the same command resumes",
            file=sys.stderr,
        )
        return INTERRUPTED
    print(summary)
    if summary.verified is not None and not summary.verified.ok:
        return DIFFERENT
    return BROKEN if summary.failed else DONE


def _voxel_size(given: Any, ds: xr.Dataset) -> Any:
    """Give one number for every axis of space that there is."""
    return {a: given for a in "zyx" if a in ds.dims} if isinstance(given, float) else given


def _follow(args: argparse.Namespace, options: dict[str, Any]) -> Summary:
    """Follow until the first signal; a second one interrupts."""
    from xarray_tiffstack.watch import follow

    placed = args.group or args.mosaic or args.validate or args.duplicates != "raise"
    if placed or args.pages:
        raise ValueError(
            "--follow takes files as they come, and no option of the source but --pattern"
        )
    if isinstance(args.voxel_size, float):
        raise ValueError("--follow needs the axes of --voxel-size, such as z=0.5,y=0.1,x=0.1")
    stop = threading.Event()

    def end(number: int, frame: object) -> None:
        stop.set()
        for each, before in handlers.items():
            signal.signal(each, before)

    handlers = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    return follow(
        _source(args),
        args.store,
        pattern=args.pattern,
        until_idle=args.until_idle,
        expected=args.expect,
        stop=stop,
        voxel_size=args.voxel_size,
        **options,
    )


def _verify(args: argparse.Namespace) -> int:
    result = _open(args).tiffstack.verify(args.store, workers=args.workers, progress=not args.quiet)
    print(result)
    return DONE if result.ok else DIFFERENT


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
