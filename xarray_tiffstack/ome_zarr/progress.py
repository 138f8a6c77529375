"""How far a long run is: a bar of tqdm on a terminal and in a notebook, or nothing."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Shown: TypeAlias = bool | Literal["auto"]

LINE_EVERY = 10.0  # seconds between lines in what is no terminal


@contextmanager
def bar(action: str, total: int, shown: Shown = "auto") -> Iterator[Callable[[int], Any]]:
    """Show a run over `total` bytes on standard error; call what is yielded with bytes done.

    "auto" is a bar on a terminal and in a notebook, and nothing elsewhere, or without tqdm.
    """
    seen = sys.stderr.isatty() or _in_notebook()
    if shown is False or (shown == "auto" and not seen):
        yield lambda nbytes: None
    elif find_spec("tqdm") is None:
        print(
            f"{action}: a bar needs tqdm (pip install tqdm); {total / 1e9:.2f} GB", file=sys.stderr
        )
        yield lambda nbytes: None
    else:
        from tqdm.auto import tqdm

        every = 0.1 if seen else LINE_EVERY
        with tqdm(
            total=total, desc=action, unit="B", unit_scale=True, mininterval=every
        ) as shown_bar:
            yield shown_bar.update


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this program."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None
