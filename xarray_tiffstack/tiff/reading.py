"""One TIFF file: which array it holds, and how a region of that array is read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.tiff.pages import Table, table_of
from xarray_tiffstack.tiff.region import Index, Region, positions
from xarray_tiffstack.tiff.remote import with_file
from xarray_tiffstack.tiff.scale import Metadata, metadata_of, same_names

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from xarray_tiffstack.storage import Access
    from xarray_tiffstack.tiff.file import Tiff


@dataclass(frozen=True)
class Layout:
    """The array that one TIFF file holds.

    Files of equal layout fit into one array, whatever their compression, their byte order, or
    the order of their pages.
    """

    axes: tuple[str, ...]
    """Names of the dimensions, outermost first, such as ``("z", "y", "x")``."""
    shape: tuple[int, ...]
    """Length of each dimension."""
    dtype: np.dtype[Any]
    """Type of the pixels, in native byte order."""
    channels: tuple[str, ...] = field(default=(), compare=False)
    """Names of the channels, where the file has several; files that name others are not read."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What of the file is not in the array, or was not believed; a sentence each."""

    @property
    def nbytes(self) -> int:
        """Size of the decoded array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        """Dimensions, lengths and type in one line, for messages."""
        sizes = ", ".join(f"{a}: {n}" for a, n in zip(self.axes, self.shape, strict=True))
        return f"({sizes}) {self.dtype}"


def probe(path: str | os.PathLike[str], *, pages: str | None = None) -> Layout:
    """Tell which array a TIFF file holds, without reading its pixels.

    That are all pages of the shape and type that most pages have, in full resolution. Lower
    levels of a pyramid do not count, nor what lies in the other files of a set (OME-TIFF,
    Micro-Manager, NDTiff).

    Parameters
    ----------
    path
        The file.
    pages
        Name for the axis along the pages, where the file does not tell what it is; "page" if
        that is not known either.

    Returns
    -------
    Layout
        Dimension names, shape and data type; its `notes` say which pages were left out, and
        where the file says of itself what is not so.

    Raises
    ------
    OSError
        If the file cannot be opened or understood, is empty, or is cut short.
    ValueError
        If it is no TIFF, or holds no image.

    Notes
    -----
    Opens the file once, and reads its directories and descriptions (kilobytes).

    Examples
    --------
    >>> import numpy as np, tempfile, tifffile
    >>> path = f"{tempfile.mkdtemp()}/stack.tif"
    >>> tifffile.imwrite(path, np.zeros((5, 32, 48), "uint16"), metadata=None)
    >>> print(probe(path))
    (page: 5, y: 32, x: 48) uint16
    >>> probe(path, pages="z").axes
    ('z', 'y', 'x')
    """
    return with_file(path, lambda file: _layout(file, pages))


def survey(path: str | os.PathLike[str], *, pages: str | None = None) -> tuple[Layout, Metadata]:
    """Tell which array a TIFF file holds, and what it says of its scale, in one opening.

    Parameters, errors and IO are those of `probe` and of `metadata`.
    """
    return with_file(path, lambda file: (_layout(file, pages), metadata_of(file)))


def _layout(file: Tiff, pages: str | None) -> Layout:
    """Layout of a file that holds all that it announces."""
    found = _checked(file).meaning
    # By name: tifffile has 8-byte integers of C's "long long", which Zarr does not know.
    dtype = np.dtype(found.dtype.name)
    axes = _named(found.axes, pages or "page")
    return Layout(axes, found.shape, dtype, found.channels, found.notes)


def _checked(file: Tiff) -> Table:
    """Page table of a file that holds all that it announces."""
    table = table_of(file)
    if table.broken:
        raise OSError(f"{file.path} is cut short after page {table.broken}")
    table.check(file)
    return table


def read(
    path: str | os.PathLike[str],
    layout: Layout,
    selection: Sequence[Index],
    out: np.ndarray | None = None,
    access: Access | None = None,
) -> np.ndarray:
    """Read a region of a TIFF file that has the given layout.

    Parameters
    ----------
    path
        The file.
    layout
        What it must hold, from `probe` of this file or of one like it.
    selection
        One entry per axis: an integer (drops the axis), a slice of any step, or a 1-d integer
        array. Each array selects along its own axis (orthogonal indexing).
    out
        Array to read into, of the shape of the result and the type of the layout. Memory that
        is contiguous is read into directly.
    access
        How a URL is reached; by default as when its source was opened.

    Returns
    -------
    numpy.ndarray
        The region, in native byte order; `out` where that was given. Pages that an OME-TIFF
        announces and does not hold are 0, and tiles that are not stored.

    Raises
    ------
    OSError
        If the file cannot be opened or decoded, or is cut short.
    ValueError
        If the file does not hold what `layout` says, names its channels otherwise, or `out` does
        not fit.
    IndexError
        If the selection lies outside of the layout.

    Notes
    -----
    Reads the directories of the file (once, while it is among the last 64 that were read), then
    the pages that are named: of an uncompressed page from the first to the last row that is
    named, of another only the strips or tiles that hold any of them.

    Examples
    --------
    >>> import numpy as np, tempfile, tifffile
    >>> path = f"{tempfile.mkdtemp()}/stack.tif"
    >>> tifffile.imwrite(path, np.arange(24, dtype="uint8").reshape(2, 3, 4))
    >>> read(path, probe(path), (1, slice(None, None, -2), np.array([3, 0])))
    array([[23, 20],
           [15, 12]], dtype=uint8)
    """
    picks = [positions(index, n) for index, n in zip(selection, layout.shape, strict=True)]
    kept = [not isinstance(index, int | np.integer) for index in selection]
    shape = tuple(len(pick) for pick, keep in zip(picks, kept, strict=True) if keep)
    if out is not None and (out.shape != shape or out.dtype != layout.dtype):
        raise ValueError(f"out is {out.shape} {out.dtype}, not {shape} {layout.dtype}")

    def fill(file: Tiff) -> np.ndarray:
        table, found = fitting_table(file, layout), out
        if found is None:
            if math.prod(shape) * layout.dtype.itemsize > file.size:
                table.check(file)  # before memory is taken that it cannot fill
            found = np.empty(shape, layout.dtype)
        if found.size:
            all_axes = tuple(slice(None) if keep else None for keep in kept)
            Region(file, table, layout, picks).read(found[all_axes])
        return found

    return with_file(path, fill, access)


def fitting_table(file: Tiff, layout: Layout) -> Table:
    """Page table of a file that must hold `layout`; axes of length 1 do not matter."""
    table = table_of(file)
    found = table.meaning
    held, wanted = ([n for n in shape if n > 1] for shape in (found.shape, layout.shape))
    dtype = found.dtype.newbyteorder("=")
    if held == wanted and dtype == layout.dtype and _in_order(found.axes, layout.axes):
        if layout.channels and found.channels and not same_names(found.channels, layout.channels):
            raise ValueError(
                f"{file.path} says that its channels are {', '.join(found.channels)}, and other "
                f"files that they are {', '.join(layout.channels)}; with "
                'validate="headers" they are opened without names'
            )
        return table
    own = Layout(_named(found.axes, "page"), found.shape, dtype)
    message = f"{file.path} holds {own}, not {layout}"
    if table.broken:
        raise OSError(f"{message}: it is cut short after page {table.broken}")
    raise ValueError(message)


def _in_order(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether the axes that two files both have follow each other in the same order."""
    return some == others or [a for a in some if a in others] == [a for a in others if a in some]


def _named(axes: tuple[str, ...], pages: str) -> tuple[str, ...]:
    """Give names to the dimensions that have none: the innermost of them is `pages`."""
    names = list(axes)
    fresh = iter([pages, *(f"page_{i}" for i in range(len(axes)))])
    for i in reversed(range(len(names))):
        if not names[i] or names[i] in names[:i]:
            names[i] = next(name for name in fresh if name not in names)
    return tuple(names)
