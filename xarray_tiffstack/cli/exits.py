"""Exit codes of the command ``tiffstack``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE, REFUSED, BROKEN, DIFFERENT, INTERRUPTED = 0, 1, 3, 4, 130

EXIT_CODES = """\
exit codes: 0 done (missing files are no failure); 1 refused, or the store cannot be written;
2 wrong usage; 3 some files could not be read, their slots are filled; 4 the store does not hold the
pixels of its source; 130 interrupted. The same command resumes what was begun.
"""


@contextmanager
def interruptible(stays: str) -> Iterator[None]:
    """Let Ctrl-C be told together with what `stays`."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(stays) from None
