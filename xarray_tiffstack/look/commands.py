"""What the commands that look at a source do, once their options are read."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import xarray as xr


def show_preview(
    ds: xr.Dataset,
    out: str | None = None,
    *,
    open_it: bool = False,
    keywords: Mapping[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write the preview of a Dataset, and print its verdict and where it is.

    Parameters
    ----------
    ds
        What was opened.
    out
        File to write; by default ``NAME_preview.html`` in the current folder.
    open_it
        Open it in a browser, where there is one to open.
    keywords
        What `ds` was opened with.
    options
        Those of ``ds.tiffstack.preview``.
    """
    from xarray_tiffstack.look.preview import preview

    shown = preview(ds, keywords=keywords, **options)
    path = Path(out if out is not None else f"{Path(shown.title).stem}_preview.html")
    shown.save(path)
    for line in shown.verdict:
        print(line)
    print(path)
    if open_it:
        open_in_browser(path.resolve().as_uri())
    return path


def open_in_browser(address: str) -> bool:
    """Open an address where the user sees it: not over ssh, and not in a text browser."""
    import webbrowser

    has_screen = sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return has_screen and "SSH_CONNECTION" not in os.environ and webbrowser.open(address)


def show_info(
    ds: xr.Dataset, *, verbose: bool = False, keywords: Mapping[str, Any] | None = None
) -> None:
    """Print what a Dataset is and what is not as it should be, cut at the terminal's width."""
    from xarray_tiffstack.look.report import make_report

    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else None
    colour = on_terminal and "NO_COLOR" not in os.environ
    print(make_report(ds, keywords).text(width=width, verbose=verbose, colour=colour))


def read_plane(text: str) -> int | str:
    """Read the option ``--plane``: a number or a word."""
    return int(text) if text.lstrip("-").isdecimal() else text


def read_contrast(text: str) -> tuple[float, float] | str:
    """Read the option ``--contrast``: "100,4000" or a word."""
    if "," not in text:
        return text
    low, high = map(float, text.split(","))
    return low, high


def open_source_or_store(source: str, open_source: Callable[[], xr.Dataset]) -> xr.Dataset:
    """Open a store where `source` is one, else what `open_source` opens."""
    from xarray_tiffstack.look.store import is_store, open_store

    return open_store(source) if is_store(source) else open_source()
