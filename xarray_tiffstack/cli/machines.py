"""Options for work on many machines: a scheduler of dask, or a part of the work."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def add_machines(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the work is done."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDRESS",
                       help="have the workers of a dask scheduler do it: its address, such as "
                       "tcp://node1:8786, or its scheduler file")  # fmt: skip
    where.add_argument("--part", metavar="3/32",
                       help="do a part, such as number 3 of 32; each is a command of its own, and "
                       "the one that ends last completes the store")  # fmt: skip


@contextmanager
def elsewhere(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Give the keywords that say where the work is done, and be connected meanwhile."""
    if args.scheduler is None:
        yield {"part": args.part}
        return
    if find_spec("distributed") is None:
        raise ImportError('--scheduler needs distributed: pip install "xarray-tiffstack[cluster]"')
    from distributed import Client

    file = {"scheduler_file": args.scheduler} if os.path.isfile(args.scheduler) else {}
    connect: Any = Client
    with connect(None if file else args.scheduler, set_as_default=False, **file) as client:
        yield {"executor": client}
