"""What the headers of all files say, where one probe is not to be trusted for the rest."""

from __future__ import annotations

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from xarray_tiffstack import tiff
from xarray_tiffstack.messages import counted, first_lines
from xarray_tiffstack.storage import MOST_REQUESTS, is_url

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from xarray_tiffstack.table import FileTable
    from xarray_tiffstack.tiff import Layout, Metadata


@dataclass(frozen=True)
class Headers:
    """What the headers of all files say."""

    unreadable: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with the files that cannot be read, by path."""
    planes: Mapping[str, int] = field(default_factory=dict)
    """How many planes those files hold that end early, by path."""
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Which pages of files are left out or were not understood, by path."""
    layout: Layout | None = None
    """What a file holds, where all are alike."""
    said: Mapping[str, Metadata] = field(default_factory=dict)
    """What each file says of its scale and its channels, by path."""

    def differences(self, paths: Iterable[str], first: str) -> dict[str, dict[str, str]]:
        """Say what files say otherwise than the first, whose word counts for all of them."""
        if first not in self.said:
            return {}
        found = {
            path: tiff.differences(self.said[path], self.said[first])
            for path in paths
            if path in self.said
        }
        return {path: each for path, each in found.items() if each}


def read_headers(
    table: FileTable, pages: str | None, loose: Collection[str] = ()
) -> tuple[FileTable, Headers]:
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
    table
        The table; where files differ in shape or dtype it has a column ``layout``.
    headers
        What the headers say.

    Raises
    ------
    OSError
        No file can be read.
    """
    paths = table.rows["path"].tolist()
    layouts: list[Layout | str] = []
    said: dict[str, Metadata] = {}
    with ThreadPoolExecutor(_threads(paths)) as pool:
        for path, (found, scale) in zip(
            paths, pool.map(lambda path: _probe(path, pages), paths), strict=True
        ):
            layouts.append(_without(found, loose))
            if scale is not None:
                said[path] = scale
            _show_progress(len(layouts), len(paths))
    broken = {
        path: found for path, found in zip(paths, layouts, strict=True) if isinstance(found, str)
    }
    counts = Counter(found for found in layouts if not isinstance(found, str))
    if not counts:
        raise OSError(
            f"none of {counted(len(broken), 'file')} can be read:\n{first_lines(broken.values())}"
        )
    whole = max(counts, key=lambda layout: (counts[layout], layout.shape))
    planes = [None if isinstance(found, str) else _planes(found, whole) for found in layouts]
    names = [
        str(whole if isinstance(found, str) or held is not None else found)
        for found, held in zip(layouts, planes, strict=True)
    ]
    alike = len(set(names)) == 1
    headers = Headers(
        unreadable=broken,
        planes={path: n for path, n in zip(paths, planes, strict=True) if n is not None},
        notes={
            path: found.notes
            for path, found in zip(paths, layouts, strict=True)
            if not isinstance(found, str) and found.notes
        },
        layout=whole if alike and not loose else None,
        said=said,
    )
    return (table if alike else table.having(table.rows.assign(layout=names))), headers


def _threads(paths: Sequence[str]) -> int:
    """How many headers are read at once: of URLs more, since each waits for its server."""
    at_url = bool(paths) and is_url(paths[0])
    return MOST_REQUESTS if at_url else min(32, 4 * (os.cpu_count() or 1))


def _probe(path: str, pages: str | None) -> tuple[Layout | str, Metadata | None]:
    """Layout of a file, or what is wrong with it; and what it says of its scale."""
    try:
        return tiff.survey(path, pages=pages)
    except (OSError, ValueError) as error:
        return str(error), None


def _without(found: Layout | str, loose: Collection[str]) -> Layout | str:
    """Forget the lengths along some axes."""
    if isinstance(found, str) or not loose:
        return found
    lengths = zip(found.axes, found.shape, strict=True)
    return replace(found, shape=tuple(0 if axis in loose else n for axis, n in lengths))


def _planes(layout: Layout, whole: Layout) -> int | None:
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
