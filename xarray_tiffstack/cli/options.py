"""Options that several commands have: a source and how it is read, and a store."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr


def add_source(parser: argparse.ArgumentParser, nargs: str | None = "+") -> None:
    """Add the source, and the keywords of `xarray.open_dataset` that say how it is read."""
    option = parser.add_argument
    option(
        "source", metavar="SOURCE", nargs=nargs, help="a folder, a glob, or TIFFs; or URLs of them"
    )
    option("--pattern", help="template, regular expression or name of a convention")
    option("--group", metavar="NAME", help="which sample, where names or folders give several")
    option("--missing", default="fill", choices=("fill", "raise"),
           help="what to do about slots without a file (default: fill with zeros)")  # fmt: skip
    option("--duplicates", default="raise", choices=("raise", "first", "last", "position"),
           help="what to do about two files for the same labels")  # fmt: skip
    option("--unmatched", default="warn", choices=("warn", "ignore", "raise"),
           help="what to do about names that do not fit the pattern")  # fmt: skip
    option("--pages", metavar="NAME", help="what the pages of a file are, such as z or time")
    option("--mosaic", nargs="?", const=True, default=False, type=pairs(str),
           metavar="x=TOKEN,y=TOKEN", help="put tiles together")  # fmt: skip
    option("--overlap", default=0, type=pairs(float, alone=True), metavar="x=PIXELS,y=PIXELS",
           help="what neighbouring tiles share, in pixels, or below 1 as a fraction")  # fmt: skip
    option("--voxel-size", type=pairs(float, alone=True), metavar="z=0.5,y=0.1,x=0.1",
           help="distance of voxels along z, y and x in micrometers; or one number")  # fmt: skip
    option("--validate", choices=("headers",), help="read the header of every file first")
    option("--storage-options", type=named, metavar="NAME=VALUE,...",
           help="how a URL is reached, such as anon=true; not for secrets")  # fmt: skip


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the store, and how it is worked on."""
    parser.add_argument("store", metavar="STORE", help="the store")
    add_work(parser)


def add_work(parser: argparse.ArgumentParser) -> None:
    """Add how many threads work, and whether it is shown."""
    parser.add_argument("--workers", type=int, metavar="N", help="threads (default: processors)")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def pairs(kind: Callable[[str], float | str], *, alone: bool = False) -> Callable[[str], object]:
    """Make a reader of ``z=1,y=2``, of "auto", and of one value `alone`."""

    def read(text: str) -> object:
        if text == "auto":
            return text
        try:
            if alone and "=" not in text:
                return kind(text)
            split = (pair.split("=") for pair in text.split(","))
            return {axis.strip(): kind(value) for axis, value in split}
        except ValueError:
            one = ", or one value" if alone else ""
            raise argparse.ArgumentTypeError(
                f"takes a value an axis, such as z=1,y=2{one}; not {text!r}"
            ) from None

    return read


def named(text: str) -> dict[str, str | bool]:
    """Read ``name=value,name=value``.

    Examples
    --------
    >>> named("anon=true,endpoint_url=http://localhost:9000/?a=b")
    {'anon': True, 'endpoint_url': 'http://localhost:9000/?a=b'}
    """
    words = {"true": True, "false": False}
    split = [pair.partition("=") for pair in text.split(",")]
    if not all(name.strip() and equals for name, equals, _ in split):
        raise argparse.ArgumentTypeError(f"takes NAME=VALUE, such as anon=true; not {text!r}")
    return {name.strip(): words.get(value.lower(), value) for name, _, value in split}


def open_source(args: argparse.Namespace, unmatched: Literal["ignore"] | None = None) -> xr.Dataset:
    """Open what the command names; a conversion keeps the voxel size in its store."""
    import xarray as xr

    return xr.open_dataset(
        source_of(args),
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
        storage_options=args.storage_options,
    )


def voxel_axes(size: Any, ds: xr.Dataset) -> Any:
    """Give one number for every axis of space that there is."""
    return {axis: size for axis in "zyx" if axis in ds.dims} if isinstance(size, float) else size


def source_of(args: argparse.Namespace) -> Any:
    """Return one source, or the files that the shell made of a glob."""
    source = [args.source] if isinstance(args.source, str) else args.source
    return source[0] if len(source) == 1 else source


def look_at(args: argparse.Namespace) -> xr.Dataset:
    """Open a folder, or a store that was made of one; a page or a report lists what is left out."""
    from xarray_tiffstack.look.store import open_store
    from xarray_tiffstack.storage import is_store

    source = source_of(args)
    if isinstance(source, str) and is_store(source):
        return open_store(source, args.storage_options)
    return open_source(args, "ignore" if args.unmatched == "warn" else None)


def keywords_of(args: argparse.Namespace) -> dict[str, Any]:
    """Give the options of the source that are not the usual ones, as keywords."""
    usual = argparse.ArgumentParser()
    add_source(usual)
    names = ("pattern", "group", "missing", "duplicates", "pages", "mosaic", "overlap",
             "voxel_size", "validate")  # fmt: skip
    return {n: v for n in names if (v := getattr(args, n)) != usual.get_default(n)}
