"""How a command says what to open: the keywords of `xarray.open_dataset` as options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    import xarray as xr


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the source, and the keywords that say how it is read and placed."""
    option = parser.add_argument
    option("source", metavar="SOURCE", help="a folder, a glob or a TIFF")
    option("--pattern", help="template, regular expression or name of a convention")
    option("--group", metavar="NAME", help="which sample, where names or folders tell of several")
    option("--duplicates", default="raise", choices=("raise", "first", "last", "position"),
           help="what to do about two files for the same labels")  # fmt: skip
    option("--pages", metavar="NAME", help="what the pages of a file are (default: z)")
    option("--mosaic", nargs="?", const=True, default=False, type=pairs(str),
           metavar="x=TOKEN,y=TOKEN", help="put tiles together")  # fmt: skip
    option("--overlap", default=0, type=pairs(float, alone=True), metavar="x=PIXELS,y=PIXELS",
           help="what neighbouring tiles share, in pixels, or below 1 as a fraction")  # fmt: skip
    option("--validate", choices=("headers",), help="read the header of every file first")


def open_source(
    args: argparse.Namespace, unmatched: Literal["warn", "ignore"] = "warn"
) -> xr.Dataset:
    """Open what the command names."""
    import xarray as xr

    return xr.open_dataset(
        args.source,
        engine="tiffstack",
        pattern=args.pattern,
        group=args.group,
        duplicates=args.duplicates,
        pages=args.pages,
        mosaic=args.mosaic,
        overlap=args.overlap,
        validate=args.validate,
        unmatched=unmatched,
    )


def pairs(kind: Callable[[str], float | str], *, alone: bool = False) -> Callable[[str], object]:
    """Make a reader of ``z=1,y=2``, of "auto", and of one value `alone`."""

    def read(text: str) -> object:
        if text == "auto":
            return text
        if alone and "=" not in text:
            return kind(text)
        split = (pair.split("=") for pair in text.split(","))
        return {axis.strip(): kind(value) for axis, value in split}

    return read
