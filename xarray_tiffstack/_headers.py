"""What the headers of all files say, where one probe is not to be trusted for the rest."""

from __future__ import annotations

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from xarray_tiffstack import _tiff

if TYPE_CHECKING:
    import pandas as pd


def read_headers(table: pd.DataFrame, pages: str) -> pd.DataFrame:
    """Read the header of every file, in parallel, and sort the files by what they hold.

    Opens every file of the table once. Where standard error is a terminal it shows how far it is.

    Returns
    -------
    pandas.DataFrame
        The table without the files that cannot be read, which its ``attrs["unreadable"]`` lists.
        Files that hold fewer planes than most stay, ``attrs["planes"]`` says how many by path;
        files of yet another shape or dtype stay too, told apart by a column ``layout``.
    """
    paths = table["path"].tolist()
    layouts: list[_tiff.Layout | None] = []
    unreadable = []
    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        for found in pool.map(lambda path: _probe(path, pages), paths):
            layouts.append(found if isinstance(found, _tiff.Layout) else None)
            if isinstance(found, str):
                unreadable.append(found)
            _show_progress(len(layouts), len(paths))
    attrs = {**table.attrs, "unreadable": unreadable}
    readable = [layout is not None for layout in layouts]
    counts = Counter(layout for layout in layouts if layout is not None)
    if counts:
        whole = max(counts, key=lambda layout: (counts[layout], layout.shape))
        planes = [None if layout is None else _planes(layout, whole) for layout in layouts]
        attrs["planes"] = {path: n for path, n in zip(paths, planes, strict=True) if n is not None}
        names = [
            str(whole if layout is None or n is not None else layout)
            for layout, n in zip(layouts, planes, strict=True)
        ]
        if len(set(names)) == 1:
            attrs["whole"] = whole
        else:
            table = table.assign(layout=names)
    table = table[readable]
    table.attrs = attrs
    return table


def _probe(path: str, pages: str) -> _tiff.Layout | str:
    """Layout of a file, or what is wrong with it."""
    try:
        return _tiff.probe(path, pages=pages)
    except (OSError, ValueError) as error:
        return str(error)


def _planes(layout: _tiff.Layout, whole: _tiff.Layout) -> int | None:
    """Count the planes of a file that is like the others but ends early; None for any other."""
    if layout.axes == whole.axes[1:]:  # one plane of several has no axis for them
        layout = replace(layout, axes=whole.axes, shape=(1, *layout.shape))
    held = layout.shape[0]
    like_it = layout == replace(whole, shape=(held, *whole.shape[1:]))
    return held if like_it and len(whole.shape) > 2 and held < whole.shape[0] else None


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty() and (done % 256 == 0 or done == total):
        end = "\n" if done == total else ""
        print(f"\rheaders: {done} of {total}", end=end, file=sys.stderr, flush=True)
