"""How far a long run is: a bar on a terminal, plain lines elsewhere, silence on request."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINE_EVERY = 10.0  # seconds between plain lines


@contextmanager
def progress(
    action: str, total: int, shown: bool | str = "auto"
) -> Iterator[Callable[[int], None]]:
    """Show a run over `total` bytes; call what is yielded with the bytes done since.

    Writes to standard error. The bar needs rich; without it, or where standard error is no
    terminal, a line is printed every ten seconds and at the end.

    Parameters
    ----------
    action
        What is done, as one word.
    total
        Bytes in all.
    shown
        True for plain lines at least, False for silence; "auto" is True on a terminal only.
    """
    terminal = sys.stderr.isatty()
    if shown is False or (shown == "auto" and not terminal):
        yield lambda nbytes: None
    elif terminal and find_spec("rich") is not None:
        with _bar(action, total) as advance:
            yield advance
    else:
        lines = _Lines(action, total)
        yield lines.advance
        lines.print()


@contextmanager
def _bar(action: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(action, total=total)
        yield lambda nbytes: bar.advance(task, nbytes)


class _Lines:
    """Plain lines, one every few seconds."""

    def __init__(self, action: str, total: int) -> None:
        self.action, self.total, self.done = action, total, 0
        self.started = self.printed = time.monotonic()

    def advance(self, nbytes: int) -> None:
        """Count bytes, and print where the last line is old."""
        self.done += nbytes
        if time.monotonic() - self.printed > LINE_EVERY:
            self.print()

    def print(self) -> None:
        """Print how much is done, how fast, and how long the rest takes at that rate."""
        self.printed = time.monotonic()
        rate = self.done / max(self.printed - self.started, 1e-3)
        left = (self.total - self.done) / rate if rate else 0.0
        print(
            f"{self.action} {self.done / 1e9:.2f} of {self.total / 1e9:.2f} GB, "
            f"{rate / 1e6:.0f} MB/s, {left / 60:.1f} min left",
            file=sys.stderr,
            flush=True,
        )
