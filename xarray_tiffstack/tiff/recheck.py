"""A second way to read a TIFF, to verify the first: tifffile alone, one page after the other.

Shares nothing with the page table, so that what is wrong there is found here.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from xarray_tiffstack.tiff.remote import stream

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from xarray_tiffstack.tiff.reading import Layout


def recheck(
    path: str | os.PathLike[str], layout: Layout, sample: int = 2, seed: int = 0
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Count the pages of a file, and read some of them, in another way than `read` does.

    Parameters
    ----------
    path
        The file.
    layout
        What it was said to hold.
    sample
        How many of its pages to read, chosen at random.
    seed
        Of the choice; another seed gives other pages.

    Yields
    ------
    index : tuple of int
        Where a page is along the leading axes of the layout.
    pixels : numpy.ndarray
        What the page holds, of the shape of the other axes and in native byte order.

    Raises
    ------
    ValueError
        If the file holds more or fewer pages than the layout.
    OSError
        If tifffile cannot read it.

    Notes
    -----
    Reads all directories of the file, and the pages of the sample entirely.

    Examples
    --------
    >>> import tempfile
    >>> from xarray_tiffstack.tiff import probe
    >>> path = f"{tempfile.mkdtemp()}/stack.tif"
    >>> tifffile.imwrite(path, np.arange(20, dtype="uint8").reshape(2, 2, 5))
    >>> for index, pixels in recheck(path, probe(path), sample=2):
    ...     print(index, pixels.tolist())
    (0,) [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    (1,) [[10, 11, 12, 13, 14], [15, 16, 17, 18, 19]]
    """
    try:
        with stream(path) as source, tifffile.TiffFile(source) as tif:
            yield from _sampled(tif, layout, sample, random.Random(f"{seed}/{path}"))
    except Exception as error:  # damaged files raise anything
        if str(path) in str(error):
            raise
        raise OSError(f"{path} cannot be read a second way: {error}") from error


def _sampled(
    tif: tifffile.TiffFile, layout: Layout, sample: int, rng: random.Random
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Read some pages of an open file."""
    pages = _in_order(tif, layout)
    first = pages[0] if pages else tif.pages.first
    size, held = math.prod(layout.shape), len(pages)
    count = size // max(1, first.size)
    if held == 1 < count and first.is_contiguous:  # without further directories
        start, nbytes = first.dataoffsets[0], first.nbytes
        held = max(1, min(count, (tif.filehandle.size - start) // nbytes))
    elif held * first.size != size and tif.series[0].size == size:  # not one plane a page
        yield (), np.asarray(tif.series[0].asarray(maxworkers=1)).reshape(layout.shape)
        return
    if held != count:
        path = tif.filehandle.path
        raise ValueError(f"{path} has {held} pages of this shape and type, {count} were opened")
    ndim = next(n for n in range(len(layout.shape)) if math.prod(layout.shape[:n]) == count)
    for k in sorted(rng.sample(range(count), min(sample, count))):
        if len(pages) == count:
            pixels = pages[k].asarray(maxworkers=1)
        else:
            tif.filehandle.seek(start + k * nbytes)
            dtype = layout.dtype.newbyteorder(tif.byteorder)
            pixels = np.frombuffer(tif.filehandle.read(nbytes), dtype).astype(layout.dtype)
        index = tuple(map(int, np.unravel_index(k, layout.shape[:ndim]))) if ndim else ()
        yield index, pixels.reshape(layout.shape[ndim:])


def _in_order(tif: tifffile.TiffFile, layout: Layout) -> list[tifffile.TiffPage]:
    """Pages that may make the array, in the order that tifffile gives them where it fits."""
    chain: dict[int, tifffile.TiffPage] = {}
    number = 0
    while True:
        try:
            page: Any = tif.pages.get(number)
        except IndexError:
            break
        if page.offset in chain:  # it goes in a circle
            break
        chain[page.offset] = page
        number += 1
    tail = [n for n in layout.shape if n > 1]
    like = {
        offset: page
        for offset, page in chain.items()
        if page.dtype == layout.dtype
        and [n for n in page.shape if n > 1] == tail[len(tail) - sum(n > 1 for n in page.shape) :]
    }
    for series in tif.series if len(like) > 1 else ():
        offsets = [getattr(page, "offset", 0) for page in series]
        if len(offsets) == len(like) and like.keys() == set(offsets):
            return [like[offset] for offset in offsets]
    return list(like.values())
