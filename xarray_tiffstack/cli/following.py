"""Options of the commands that follow a microscope, and the signal that ends them."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_follow(parser: argparse.ArgumentParser) -> None:
    """Add --follow, and when it ends."""
    option = parser.add_argument
    option("--follow", action="store_true",
           help="the microscope is still writing: take files as they are finished, until a "
           "signal (Ctrl-C)")  # fmt: skip
    option("--until-idle", type=float, metavar="SECONDS",
           help="with --follow: end when no file came for so long")  # fmt: skip
    option("--expect", type=int, metavar="FILES",
           help="with --follow: end when so many files are finished")  # fmt: skip


def check_follow(args: argparse.Namespace) -> None:
    """Refuse options that do not belong together."""
    if not args.follow:
        if args.until_idle is not None or args.expect is not None:
            raise ValueError("--until-idle and --expect say when to end with --follow: add it")
        return
    placed = args.group or args.mosaic or args.validate or args.duplicates != "raise"
    if placed or args.pages:
        raise ValueError(
            "--follow takes files as they come, and no option of the source but --pattern"
        )
    if isinstance(args.voxel_size, float):
        raise ValueError("--follow needs the axes of --voxel-size, such as z=0.5,y=0.1,x=0.1")


def until(args: argparse.Namespace) -> dict[str, Any]:
    """Give the keywords that say what is taken, and when it ends: by the first signal, too."""
    stop = threading.Event()

    def end(number: int, frame: object) -> None:
        stop.set()
        for each, before in handlers.items():
            signal.signal(each, before)

    handlers = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
    return {
        "pattern": args.pattern,
        "until_idle": args.until_idle,
        "expected": args.expect,
        "stop": stop,
    }
