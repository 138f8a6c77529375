"""The commands ``tiffstack convert`` and ``tiffstack verify``: their options and exit codes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from xarray_tiffstack.cli_source import add_source, open_source, pairs

if TYPE_CHECKING:
    import argparse

    from xarray_tiffstack.ome_zarr.convert import Summary

BROKEN, DIFFERENT, INTERRUPTED = 3, 4, 130

EPILOG = """\
exit codes: 0 done (cells without a file are no failure); 1 refused, or the store cannot be
written; 2 wrong usage; 3 files could not be read, and are filled; 4 the store does not hold the
pixels of its source; 130 interrupted. The same command goes on with what was begun.
"""


def add_commands(commands: Any) -> None:
    """Add both commands to the subparsers of ``tiffstack``."""
    convert = commands.add_parser(
        "convert",
        help="write an OME-Zarr store",
        description="Write an OME-Zarr store that viewers open, and xarray with every label.",
        epilog=EPILOG,
    )
    add_source(convert)
    _add_store(convert)
    option = convert.add_argument
    option("--levels", type=_levels, default="auto", metavar="N",
           help="resolution levels; 1 is full resolution alone (default: until a plane is at "
           "most 256 pixels wide)")  # fmt: skip
    option("--chunks", type=pairs(int), default="auto", metavar="z=64,y=256,x=256",
           help="length of chunks along dimensions, in pixels")  # fmt: skip
    option("--shards", type=pairs(int), metavar="z=128,...",
           help="length of shards along dimensions, or auto: one file a volume")  # fmt: skip
    option("--compressors", default="auto", metavar="NAME[:LEVEL]",
           help="lz4 or zstd (in Blosc, with bitshuffle), or none (default: lz4:5)")  # fmt: skip
    option("--ngff-version", choices=("0.5", "0.4"), default="0.5",
           help="0.5 is Zarr 3; 0.4 is Zarr 2, for older viewers")  # fmt: skip
    option("--voxel-size", type=pairs(float), metavar="z=0.5,y=0.1,x=0.1",
           help="distance of pixels along axes, in micrometers")  # fmt: skip
    option(
        "--overwrite",
        action="store_true",
        help="replace a store that is complete, or of another source or other settings",
    )
    option("--verify", action="store_true", help="read the store back and compare every pixel")
    option("--strict", action="store_true", help="stop at the first file that cannot be read")
    option(
        "--follow",
        action="store_true",
        help="the microscope is still writing: take files as they are whole, until a signal",
    )
    option("--until-idle", type=float, metavar="SECONDS",
           help="with --follow: end when nothing came for so long")  # fmt: skip
    option("--expect", type=int, metavar="FILES",
           help="with --follow: end when so many files are whole")  # fmt: skip
    convert.set_defaults(run=run_convert)
    verify = commands.add_parser(
        "verify",
        help="compare a store with its source",
        description="Compare every pixel of a store with its source, and say where they differ.",
        epilog=EPILOG,
    )
    add_source(verify)
    _add_store(verify)
    verify.set_defaults(run=run_verify)


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="the store")
    parser.add_argument("--workers", type=int, metavar="N", help="threads (default: processors)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run_convert(args: argparse.Namespace) -> int:
    """Convert; returns the exit code."""
    from xarray_tiffstack.ome_zarr.convert import to_ome_zarr

    placed = args.group or args.mosaic or args.validate or args.duplicates != "raise"
    if args.follow and (placed or args.pages):
        raise ValueError(
            "--follow takes files as they come, and no option of the source but --pattern"
        )
    if not args.follow and (args.until_idle is not None or args.expect is not None):
        raise ValueError("--until-idle and --expect say when to end with --follow: add it")
    options: dict[str, Any] = {
        "levels": args.levels,
        "chunks": args.chunks,
        "shards": args.shards,
        "compressors": _codec(args.compressors, args.ngff_version),
        "ngff_version": args.ngff_version,
        "voxel_size": args.voxel_size,
        "workers": args.workers,
        "overwrite": args.overwrite,
        "verify": args.verify,
        "strict": args.strict,
        "progress": not args.quiet,
    }
    try:
        if args.follow:
            summary = _follow(args, options)
        else:
            summary = to_ome_zarr(open_source(args), args.store, **options)
    except KeyboardInterrupt:
        print(
            f"interrupted; what is whole stays in {args.store}, and the same command goes on",
            file=sys.stderr,
        )
        return INTERRUPTED
    print(summary)
    if summary.verified is not None and not summary.verified.ok:
        return DIFFERENT
    return BROKEN if summary.failed else 0


def _follow(args: argparse.Namespace, options: dict[str, Any]) -> Summary:
    """Follow until the first signal; a second one interrupts."""
    import signal
    import threading

    from xarray_tiffstack.follow import follow

    stop = threading.Event()

    def end(number: int, frame: object) -> None:
        stop.set()
        for each, before in handlers.items():
            signal.signal(each, before)

    handlers = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    return follow(
        args.source,
        args.store,
        pattern=args.pattern,
        until_idle=args.until_idle,
        expected=args.expect,
        stop=stop,
        **options,
    )


def run_verify(args: argparse.Namespace) -> int:
    """Compare a store with its source; returns the exit code."""
    from xarray_tiffstack.ome_zarr.convert import verify

    result = verify(open_source(args), args.store, workers=args.workers, progress=not args.quiet)
    print(result)
    return 0 if result.ok else DIFFERENT


def _levels(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _codec(text: str, version: str) -> Any:
    """Codec of a name and a level."""
    from xarray_tiffstack.ome_zarr.plan import blosc

    name, _, level = text.partition(":")
    if name == "auto":
        return name
    if name == "none":
        return None
    if name not in ("lz4", "zstd") or (level and not level.isdecimal()):
        raise ValueError(f"--compressors {text} is none of lz4, zstd, lz4:LEVEL, zstd:LEVEL, none")
    return blosc(name, int(level or {"lz4": 5, "zstd": 1}[name]), version)
