"""Commands that lead back to TIFFs: restore, export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xarray_tiffstack.cli.exits import DIFFERENT, DONE, interruptible
from xarray_tiffstack.cli.options import add_source, add_work, look_at

if TYPE_CHECKING:
    import argparse

_RESTORE_CODES = """\
exit codes: 0 each file has the SHA-256 that it had; 1 refused; 2 wrong usage; 4 some files could
not be made again, and are not written; 130 interrupted. The same command resumes what was begun.
"""


def add_commands(commands: Any) -> None:
    """Add restore and export to the subparsers of ``tiffstack``."""
    _add_restore(commands)
    _add_export(commands)


def _add_restore(commands: Any) -> None:
    restore = commands.add_parser(
        "restore",
        help="write the files back that a store was made of",
        description="Write the files back that a store was made of with --restorable, each with "
        "the SHA-256 that it had.",
        epilog=_RESTORE_CODES,
    )
    option = restore.add_argument
    option("store", metavar="STORE", help="the store")
    option("folder", metavar="FOLDER", nargs="?", help="where to write the files")
    option("--sel", action="append", default=[], metavar="channel=560",
           help="only files with this label; several times for several labels")  # fmt: skip
    option("--check", action="store_true",
           help="write nothing: make the bytes of each file, compare their SHA-256")  # fmt: skip
    add_work(restore)
    restore.set_defaults(run=_restore)


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="write new TIFFs of a folder or a store",
        description="Write new TIFFs of a folder or a store, with labels and scale, for programs "
        "that read nothing else. `tiffstack restore` writes the files that a store was made of.",
    )
    add_source(export)
    option = export.add_argument
    option("folder", metavar="FOLDER", help="where to write the files")
    option("--names", metavar="TEMPLATE",
           help="names of the files, such as mouse_t{time:03d}_{channel}.tif")  # fmt: skip
    option("--kind", default="imagej", choices=("imagej", "ome"), help="whose metadata they have")
    option("--inside", default="z", metavar="z,channel,time",
           help="dimensions inside a file (default: z)")  # fmt: skip
    option("--existing", default="raise", choices=("raise", "skip"),
           help="what to do about files that are there already")  # fmt: skip
    add_work(export)
    export.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    inside = [name.strip() for name in args.inside.split(",") if name.strip()]
    with interruptible(
        f"finished files stay in {args.folder}, and --existing skip leaves them as they are"
    ):
        done = look_at(args).tiffstack.to_tiff(
            args.folder,
            args.names,
            kind=args.kind,
            inside=inside,
            existing=args.existing,
            workers=args.workers,
            progress=not args.quiet,
        )
    print(done)
    return DONE


def _restore(args: argparse.Namespace) -> int:
    from xarray_tiffstack.back import restore

    if args.folder is None and not args.check:
        raise ValueError("restore needs a folder to write to, or --check")
    with interruptible(f"finished files stay in {args.folder}, and the same command resumes"):
        done = restore(
            args.store,
            args.folder,
            sel=_selection(args.sel),
            check=args.check,
            workers=args.workers,
            progress=not args.quiet,
        )
    print(done)
    return DONE if done.ok else DIFFERENT


def _selection(texts: list[str]) -> dict[str, list[str]]:
    """Read ``channel=560``; a name that is given several times has several labels."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise ValueError(f"--sel takes a name and a label, such as channel=560, not {text!r}")
        found.setdefault(name.strip(), []).append(value.strip())
    return found
