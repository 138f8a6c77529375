"""Commands that write a store, and prove what it holds: convert and verify."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from xarray_tiffstack.cli.exits import (
    BROKEN,
    DIFFERENT,
    DONE,
    EXIT_CODES,
    REFUSED,
    interruptible,
)
from xarray_tiffstack.cli.following import add_follow, check_follow, until
from xarray_tiffstack.cli.machines import add_machines, elsewhere
from xarray_tiffstack.cli.options import (
    add_source,
    add_store,
    open_source,
    pairs,
    source_of,
    voxel_axes,
)
from xarray_tiffstack.cli.spelling import as_options

if TYPE_CHECKING:
    from xarray_tiffstack import Summary


def add_commands(commands: Any) -> None:
    """Add convert and verify to the subparsers of ``tiffstack``."""
    for add in (_add_convert, _add_verify):
        add(commands)


def _add_convert(commands: Any) -> None:
    convert = commands.add_parser(
        "convert",
        help="write an OME-Zarr store",
        description="Write an OME-Zarr store that viewers open, and xarray with every label.",
        epilog=EXIT_CODES,
    )
    add_source(convert)
    add_store(convert)
    add_machines(convert)
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
    option("--ngff-version", choices=("0.6", "0.5", "0.4"), default="0.5",
           help="0.5 is Zarr 3; 0.4 is Zarr 2, for older viewers; 0.6 has coordinate "
           "systems, which few programs read yet")  # fmt: skip
    option("--method", choices=("mean", "nearest", "mode"), default="mean",
           help="how coarser levels are made; nearest or mode for label images")  # fmt: skip
    option("--overwrite", action="store_true",
           help="replace a store that is complete, or of other sources or settings")  # fmt: skip
    option("--dry-run", action="store_true",
           help="say what would be written where, and whether it fits; write nothing")  # fmt: skip
    option("--verify", action="store_true", help="read the store back and compare every pixel")
    option("--strict", action="store_true", help="stop at the first file that cannot be read")
    option("--restorable", action="store_true",
           help="keep also what is not pixels, so that `tiffstack restore` writes the files "
           "back bit by bit")  # fmt: skip
    option("--keep-whole", action="store_true",
           help="with --restorable: keep entirely, however large, files that pixels do not give "
           "back, and others of the folder")  # fmt: skip
    add_follow(convert)
    convert.set_defaults(run=_convert)


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser(
        "verify",
        help="compare a store with its source",
        description="Compare every pixel of a store with its source, and say where they differ.",
        epilog=EXIT_CODES,
    )
    add_source(verify)
    add_store(verify)
    verify.add_argument(
        "--restorable", action="store_true",
        help="also make each file of the folder again from the store, and say whether the folder "
        "can be deleted",
    )  # fmt: skip
    add_machines(verify)
    verify.set_defaults(run=_verify)


def _levels(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"takes a number, or auto; not {text!r}")
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
    check_follow(args)
    if not args.follow:
        options |= {"restorable": args.restorable, "keep_whole": args.keep_whole}
    elif args.restorable or args.keep_whole:
        raise ValueError(
            "--restorable needs all files: convert again without --follow when it ends"
        )
    if args.follow and (args.scheduler or args.part):
        raise ValueError("--follow takes files as they come, on this machine alone")
    if args.dry_run:
        return _forecast(args, options)
    with interruptible(f"finished blocks stay in {args.store}, and the same command resumes"):
        summary = _follow(args, options) if args.follow else _convert_once(args, options)
    print(summary)
    if summary.verified is not None and not summary.verified.ok:
        return DIFFERENT
    return BROKEN if summary.failed else DONE


def _convert_once(args: argparse.Namespace, options: dict[str, Any]) -> Summary:
    """Convert what is there now."""
    ds = open_source(args)
    size = voxel_axes(args.voxel_size, ds)
    with elsewhere(args) as machines:
        done: Summary = ds.tiffstack.to_ome_zarr(args.store, voxel_size=size, **options, **machines)
    return done


def _forecast(args: argparse.Namespace, options: dict[str, Any]) -> int:
    """Say what a conversion would do."""
    from xarray_tiffstack.accessor.saving import keeper_of
    from xarray_tiffstack.ome_zarr.forecast import forecast
    from xarray_tiffstack.ome_zarr.settings import Options

    if args.follow:
        raise ValueError("--dry-run looks at files that are there: leave --follow out")
    ds = open_source(args)
    given: dict[str, Any] = {field.name: options.get(field.name) for field in fields(Options)}
    given["voxel_size"] = voxel_axes(args.voxel_size, ds)
    found = forecast(
        ds, args.store, Options(**given), overwrite=args.overwrite, part=args.part,
        keeper=keeper_of(ds, args.restorable, args.keep_whole),
    )  # fmt: skip
    print(as_options(str(found)))
    return REFUSED if found.outcome == "refuse" else DONE


def _follow(args: argparse.Namespace, options: dict[str, Any]) -> Summary:
    """Follow until the first signal; a second one interrupts."""
    from xarray_tiffstack.watch import follow

    return follow(
        source_of(args),
        args.store,
        voxel_size=args.voxel_size,
        storage_options=args.storage_options,
        **until(args),
        **options,
    )


def _verify(args: argparse.Namespace) -> int:
    ds = open_source(args)
    with elsewhere(args) as machines:
        result = ds.tiffstack.verify(
            args.store, workers=args.workers, restorable=args.restorable,
            progress=not args.quiet, **machines,
        )  # fmt: skip
    print(result)
    back = result.restorable is None or result.restorable.ok
    return DONE if result.ok and back else DIFFERENT
