"""What the headers of all files say, where one probe is not to be trusted for the rest."""

from __future__ import annotations

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from xarray_tiffstack.messages import first_lines
from xarray_tiffstack.tiff import reading as _tiff

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas as pd


def read_headers(table: pd.DataFrame, pages: str, loose: Collection[str] = ()) -> pd.DataFrame:
    """Read the header of every file, in parallel, and sort the files by what they hold.

    Opens every file of the table once. Where standard error is a terminal it shows how far it is.

    Parameters
    ----------
    table
        The file table.
    pages
        What the pages of a file are, where it does not say.
    loose
        Axes along which files may differ in length, because they are tiles of a mosaic.

    Returns
    -------
    pandas.DataFrame
        The table; its ``attrs["unreadable"]`` says by path what is wrong with the files that
        cannot be read, ``attrs["planes"]`` how many planes those hold that end early. Files of
        yet another shape or dtype are told apart by a column ``layout``.

    Raises
    ------
    OSError
        No file can be read.
    """
    paths = table["path"].tolist()
    layouts: list[_tiff.Layout | str] = []
    with ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        for found in pool.map(lambda path: _probe(path, pages), paths):
            layouts.append(_without(found, loose))
            _show_progress(len(layouts), len(paths))
    broken = {
        path: found for path, found in zip(paths, layouts, strict=True) if isinstance(found, str)
    }
    counts = Counter(found for found in layouts if not isinstance(found, str))
    if not counts:
        raise OSError(f"none of {len(broken)} files can be read:\n{first_lines(broken.values())}")
    whole = max(counts, key=lambda layout: (counts[layout], layout.shape))
    planes = [None if isinstance(found, str) else _planes(found, whole) for found in layouts]
    names = [
        str(whole if isinstance(found, str) or held is not None else found)
        for found, held in zip(layouts, planes, strict=True)
    ]
    attrs = {
        **table.attrs,
        "unreadable": broken,
        "planes": {path: n for path, n in zip(paths, planes, strict=True) if n is not None},
    }
    if len(set(names)) == 1 and not loose:
        attrs["whole"] = whole
    elif len(set(names)) > 1:
        table = table.assign(layout=names)
    table.attrs = attrs
    return table


def _probe(path: str, pages: str) -> _tiff.Layout | str:
    """Layout of a file, or what is wrong with it."""
    try:
        return _tiff.probe(path, pages=pages)
    except (OSError, ValueError) as error:
        return str(error)


def _without(found: _tiff.Layout | str, loose: Collection[str]) -> _tiff.Layout | str:
    """Forget the lengths along some axes."""
    if isinstance(found, str) or not loose:
        return found
    lengths = zip(found.axes, found.shape, strict=True)
    return replace(found, shape=tuple(0 if axis in loose else n for axis, n in lengths))


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
