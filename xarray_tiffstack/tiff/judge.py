"""tifffile, asked with care: what it makes of pages, without its guesses, hangs and hunger.

Whatever it stumbles over is an error that names the file; nothing that a file says of itself
makes it open other files, take all memory, or go in circles.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import tifffile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xarray_tiffstack.tiff.file import Tiff

_MOST_PAGES = 10**7  # that metadata may announce: tifffile keeps a list of them


class _Hush(logging.Filter):
    """Drops what tifffile logs while it is asked here; what matters is raised instead."""

    asking = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self.asking, "now", False)


logging.getLogger("tifffile").addFilter(_Hush())


@contextmanager
def asking(file: Tiff, *, ends: bool = False) -> Iterator[tifffile.TiffFile]:
    """Open in tifffile; whatever it stumbles over is raised as an error that names the file.

    Where the chain of directories is not known to end, LSM files are not known as such: of them
    tifffile follows it at once. Of ScanImage's it would guess where pages are.
    """
    _Hush.asking.now = True
    try:
        lsm = None if ends else False
        with tifffile.TiffFile(file, offset=0, is_lsm=lsm, is_scanimage=False) as tif:
            del tif.is_scanimage  # it matters only for opening
            yield tif
        if file.failed is not None:  # tifffile goes on without what it could not read
            raise file.failed
    except Exception as error:  # damaged files raise anything in parsers and codecs
        if file.path in str(error):
            raise
        raise OSError(f"{file.path} cannot be read: {error}") from error
    finally:
        _Hush.asking.now = False


def page_at(tif: tifffile.TiffFile, ifd: int, number: int = 0) -> tifffile.TiffPage:
    """Read one page, wherever its directory is."""
    tif.filehandle.seek(ifd)
    page = tifffile.TiffPage(tif, index=number)
    sizes = all(isinstance(n, int) and n > 0 for n in page.shaped)
    if page.dtype is None or not sizes or page.planarconfig not in (1, 2):
        raise ValueError(f"page {number + 1} holds no pixels of a known type")
    return page


def series_of(tif: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Return what tifffile makes of the pages; nothing where it fails."""
    if is_unsafe(tif.pages.first.description):
        tif.is_ome = False
    for _ in range(2):
        try:
            if _frames(tif) > _MOST_PAGES:
                tif.is_mmstack = False
            return list(tif.series)
        except Exception:  # damaged files raise anything
            # Metadata that only the other files of a set would explain: the pages alone count.
            tif.is_ome = tif.is_mmstack = False
    return []


def is_unsafe(xml: str) -> bool:
    """Whether XML may take all memory, or read other files: by entities, or by its numbers."""
    numbers = [
        math.prod(map(int, re.findall(r'\b(?:Size[ZCT]|PlaneCount|NumPlanes)="(\d+)"', tag)))
        for tag in re.findall(r"<[^>]*", xml)
    ]
    return max(numbers, default=0) > _MOST_PAGES or "<!DOCTYPE" in xml or "<!ENTITY" in xml


def _frames(tif: tifffile.TiffFile) -> int:
    """Count the frames that the metadata of Micro-Manager announce."""
    said = (tif.micromanager_metadata if tif.is_micromanager else None) or {}
    found, summary = said.get("IndexMap"), said.get("Summary", {})
    most = [0, 0, 0, 0] if found is None or not len(found) else found[:, :4].max(axis=0).tolist()
    said = [summary.get(key) for key in ("Channels", "Slices", "Frames", "Positions")]
    return math.prod(
        max(last + 1, n if isinstance(n, int) else 1) for last, n in zip(most, said, strict=True)
    )
