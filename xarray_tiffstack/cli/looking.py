"""Commands that show a source: preview, view and serve."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any

from xarray_tiffstack.cli.options import add_source, keywords_of, look_at
from xarray_tiffstack.look.commands import (
    serve_until_interrupted,
    show_in_napari,
    show_preview,
    view_until_interrupted,
)

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_commands(commands: Any) -> None:
    """Add preview, view and serve to the subparsers of ``tiffstack``."""
    for add in (_add_preview, _add_view, _add_serve):
        add(commands)


def _add_preview(commands: Any) -> None:
    preview = commands.add_parser(
        "preview",
        help="show a folder or a store on one page",
        description="Show a folder or a store on one page: planes of each channel, a map of the "
        "files, brightness, and what is not like the others. Reads the planes that it shows.",
    )
    add_source(preview, nargs=None)
    option = preview.add_argument
    option("out", metavar="OUT", nargs="?",
           help="file to write, .html or .png (default: NAME_preview.html)")  # fmt: skip
    option("--plane", type=_plane, default="middle", metavar="middle|max|N",
           help="which plane along z (default: middle)")  # fmt: skip
    option("--along", metavar="NAME", help="dimension of the columns (default: the longest)")
    option("--count", type=int, metavar="N", help="planes of each channel (default: 8)")
    option("--contrast", type=_contrast, default="auto", metavar="auto|each|LOW,HIGH",
           help="auto: the same for a channel; each: for every plane its own")  # fmt: skip
    option("--open", action="store_true", help="open the page in a browser")

    def run_preview(args: Namespace) -> int:
        show_preview(
            look_at(args), args.out, open_it=args.open, keywords=keywords_of(args),
            plane=args.plane, along=args.along, count=args.count, contrast=args.contrast,
        )  # fmt: skip
        return 0

    preview.set_defaults(run=run_preview, duplicates="first")  # the page lists the others


def _add_view(commands: Any) -> None:
    view = commands.add_parser(
        "view",
        help="look at a folder in a browser, or in napari",
        description="Look at a folder or a store: with neuroglancer, in a browser, until Ctrl-C; "
        "or with napari, in its window.",
    )
    add_source(view)
    _add_address(view)
    view.add_argument("--with", dest="viewer", choices=("neuroglancer", "napari"),
                      default="neuroglancer", help="default: neuroglancer")  # fmt: skip
    view.add_argument("--layout", choices=("xy", "4panel", "3d"), default="xy",
                      help="planes, planes from three sides, or the volume; napari has no "
                      "4panel")  # fmt: skip
    view.add_argument("--direction", type=int, choices=(1, -1),
                      help="show a skewed volume upright: which way the stage moved")  # fmt: skip
    view.add_argument("--no-browser", dest="browser", action="store_false",
                      help="print the address, and open no browser")  # fmt: skip

    def run_view(args: Namespace) -> int:
        if args.viewer == "napari":
            show_in_napari(look_at(args), args.layout, args.direction)
            return 0
        options = {"host": args.host, "port": args.port, "direction": args.direction}
        view_until_interrupted(look_at(args), args.layout, args.browser, **options)
        return 0

    view.set_defaults(run=run_view)


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve a folder as OME-Zarr, for viewers",
        description="Serve a folder as OME-Zarr over HTTP, for neuroglancer, vizarr, napari, Fiji "
        "and others, until Ctrl-C. Nothing is converted, and nothing is written.",
    )
    add_source(serve)
    _add_address(serve)

    def run_serve(args: Namespace) -> int:
        serve_until_interrupted(look_at(args), args.source, args.host, args.port)
        return 0

    serve.set_defaults(run=run_serve)


def _add_address(parser: ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1",
                        help="address to listen at (default: this computer alone)")  # fmt: skip
    parser.add_argument("--port", type=int, default=0, help="port (default: a free one)")


def _plane(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def _contrast(text: str) -> tuple[float, ...] | str:
    try:
        return tuple(map(float, text.split(","))) if "," in text else text
    except ValueError:
        raise ArgumentTypeError(f"takes two numbers, such as 100,900; not {text!r}") from None
