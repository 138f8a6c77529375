"""The command that makes a virtual Zarr of files, and looks whether they changed: index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xarray_tiffstack.cli.exits import DIFFERENT, DONE, EXIT_CODES, interruptible
from xarray_tiffstack.cli.following import add_follow, check_follow, until
from xarray_tiffstack.cli.options import add_source, add_store, open_source, source_of, voxel_axes

if TYPE_CHECKING:
    import argparse

    from xarray_tiffstack import Indexed


def add_commands(commands: Any) -> None:
    """Add index to the subparsers of ``tiffstack``."""
    index = commands.add_parser(
        "index",
        help="write a virtual OME-Zarr, whose pixels stay in the files",
        description="Write an index: an OME-Zarr with every label, whose pixels stay in the TIFFs. "
        "It ends with .icechunk, or with .json or .parq for references of kerchunk.",
        epilog=EXIT_CODES,
    )
    add_source(index)
    add_store(index)
    option = index.add_argument
    option("--levels", type=int, default=1, metavar="N",
           help="resolution levels; those below full resolution are stored, and all files are read "
           "for them (default: 1)")  # fmt: skip
    option("--copy", choices=("auto", "all", "none"), default="auto",
           help="whether pixels that cannot be referred to may be copied (default: auto, which is "
           "up to 64 MiB or a tenth)")  # fmt: skip
    option("--method", choices=("mean", "nearest", "mode"), default="mean",
           help="how coarser levels are made; nearest or mode for label images")  # fmt: skip
    option("--overwrite", action="store_true",
           help="replace an index; one of icechunk keeps its earlier states")  # fmt: skip
    option("--check", action="store_true",
           help="write nothing; say which files of SOURCE changed since it was made")  # fmt: skip
    option("--renew", action="store_true",
           help="SOURCE is a copy of the files, with other times: compare the bytes with what the "
           "index remembers of them, and have it refer to SOURCE")  # fmt: skip
    option("--hashes", action="store_true",
           help="read all files, and remember the SHA-256 of each, not only samples")  # fmt: skip
    option("--irregular", action="store_true",
           help="refer to short last strips, too, which only programs with zarr 3.2 or newer can "
           "read")  # fmt: skip
    add_follow(index)
    index.set_defaults(run=_index)


def _index(args: argparse.Namespace) -> int:
    if args.check or args.renew:
        return _check(args) if args.check else _renew(args)
    check_follow(args)
    options: dict[str, Any] = {
        "levels": args.levels,
        "copy": {"auto": "auto", "all": True, "none": False}[args.copy],
        "method": args.method,
        "workers": args.workers,
        "overwrite": args.overwrite,
        "hashes": args.hashes,
        "irregular": args.irregular,
        "progress": not args.quiet,
    }
    with interruptible("an index that was there is as it was"):
        print(_follow(args, options) if args.follow else _index_once(args, options))
    return DONE


def _index_once(args: argparse.Namespace, options: dict[str, Any]) -> Indexed:
    """Index what is there now."""
    ds = open_source(args)
    size = voxel_axes(args.voxel_size, ds)
    done: Indexed = ds.tiffstack.to_virtual(args.store, voxel_size=size, **options)
    return done


def _follow(args: argparse.Namespace, options: dict[str, Any]) -> Indexed:
    """Follow until the first signal; a second one interrupts."""
    from xarray_tiffstack.watch import follow_index

    options |= {"voxel_size": args.voxel_size, "storage_options": args.storage_options}
    return follow_index(source_of(args), args.store, **until(args), **options)


def _check(args: argparse.Namespace) -> int:
    from xarray_tiffstack.index import check_index
    from xarray_tiffstack.messages import first_lines

    source, options = _folder(args, "--check"), args.storage_options
    changed = check_index(args.store, source, storage_options=options)
    if not changed:
        print(f"{args.store}: no file changed")
        return DONE
    print(f"{args.store}: {len(changed)} changed since\n{first_lines(changed)}")
    return DIFFERENT


def _renew(args: argparse.Namespace) -> int:
    from xarray_tiffstack.index import renew_index

    source = _folder(args, "--renew")
    print(renew_index(args.store, source, storage_options=args.storage_options))
    return DONE


def _folder(args: argparse.Namespace, option: str) -> str:
    source = source_of(args)
    if not isinstance(source, str):
        raise ValueError(f"{option} takes the folder of the files, and not their names")
    return source
