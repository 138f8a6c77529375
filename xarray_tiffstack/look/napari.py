"""The reader that napari finds: a folder of TIFFs, or a store made of one, as layers.

``napari.yaml`` beside this file tells napari of `get_reader`; napari is imported to `start` it
alone. It is given xarray's arrays, of which it reads the planes that it shows, and not their dask
arrays, of whose chunks it would read all.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr

from xarray_tiffstack.look.facts import SPACE, clock, voxel
from xarray_tiffstack.look.image import image_of, source_of
from xarray_tiffstack.look.planes import channels_of, limits, read, select
from xarray_tiffstack.look.skew import affine
from xarray_tiffstack.look.store import open_store
from xarray_tiffstack.messages import one_of
from xarray_tiffstack.storage import is_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from xarray_tiffstack.ome_zarr.skew import Direction

INSTALL = 'pip install "napari[all]"'

Layer: TypeAlias = tuple[xr.DataArray, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[Any], list[Layer]] | None:
    """Say whether this reads a folder: where names of its files are understood, in one sample.

    Parameters
    ----------
    path
        What was dropped on napari; only folders are read.

    Returns
    -------
    callable or None
        Takes the path, and gives the layers.
    """
    if not isinstance(path, str) or not os.path.isdir(path):
        return None
    try:
        ds = _opened(path)
    except (OSError, ValueError):
        return None
    return lambda _: layers(ds)


def _opened(path: str) -> xr.Dataset:
    if is_store(path):
        return open_store(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # napari asks many readers about a folder
        return xr.open_dataset(path, engine="tiffstack")


def start(ds: xr.Dataset, layout: str = "xy", *, direction: Direction | None = None) -> None:
    """Show a Dataset in napari as its reader would, until the window is closed.

    Parameters
    ----------
    ds
        The Dataset.
    layout
        "xy" shows planes, "3d" renders the volume.
    direction
        As in `layers`.

    Raises
    ------
    ImportError
        napari, or what it draws windows with, is not installed.
    ValueError
        napari has no such layout.
    """
    one_of("layout", layout, ("xy", "3d"))
    try:
        import napari
        from qtpy import API_NAME  # noqa: F401 - napari itself fails without one only at the end
    except ImportError as error:
        raise ImportError(f"this needs napari with its window: {INSTALL} ({error})") from error
    found = layers(ds, direction=direction)
    viewer = napari.Viewer(title=f"napari: {source_of(ds)}", ndisplay=3 if layout == "3d" else 2)
    for data, about, _ in found:
        viewer.add_image(data, **about)
    napari.run()


def layers(ds: xr.Dataset, *, direction: Direction | None = None) -> list[Layer]:
    """Make a layer of each channel, with its name, colour, contrast, scale and units.

    Costs the reading of three planes of each channel, for the contrast.

    Parameters
    ----------
    ds
        The Dataset.
    direction
        Way of the stage, 1 or -1, of volumes that it moved through a tilted light sheet: they are
        shown upright. By default as they are in the files.

    Returns
    -------
    list
        For each channel its pixels, the keywords of ``viewer.add_image``, and "image".

    Examples
    --------
    >>> import numpy as np, tifffile, xarray as xr
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> for t in (0, 1, 2):
    ...     path = Path(folder.name, f"cell_t{t}.tif")
    ...     tifffile.imwrite(path, np.arange(64, dtype="uint16").reshape(8, 8))
    >>> ds = xr.open_dataset(folder.name, engine="tiffstack", voxel_size=0.1,
    ...                      pattern="cell_t{t:d}.tif")
    >>> ((data, about, kind),) = layers(ds)
    >>> kind, data.shape, about["scale"], about["axis_labels"]
    ('image', (3, 8, 8), (1.0, 0.1, 0.1), ('t', 'y', 'x'))
    >>> folder.cleanup()
    """
    image, chosen = image_of(ds), select(ds, count=3)
    pictures = read(ds, chosen)
    dim = chosen.channel_dim
    dims = [str(d) for d in image.dims if d != dim]
    steps = {d: (size, "micrometer") for d, (size, _) in voxel(ds).items()}
    if (times := clock(ds)) is not None and times.interval > 0:
        steps[times.dim] = times.interval, "second"
    found: list[Layer] = []
    for i, (channel, row) in enumerate(zip(channels_of(ds), pictures, strict=False)):
        data = image.isel({dim: i}) if dim is not None else image
        about = {
            "name": channel.name or "image",
            "colormap": f"#{channel.colour}",
            "blending": "additive",
            "contrast_limits": _two(limits(row, "auto")),
            "scale": tuple(round(steps.get(d, (1.0, ""))[0], 9) for d in dims),
            "units": tuple(steps.get(d, (1.0, "pixel"))[1] for d in dims),
            "axis_labels": tuple(dims),
            "metadata": {"source": ds.attrs.get("source", "")},
        }
        if direction is not None:
            about["affine"] = _affine(ds, dims, direction)
        found.append((data.transpose(*dims), about, "image"))
    return found


def _affine(ds: xr.Dataset, dims: Sequence[str], direction: Direction) -> np.ndarray:
    """Put the matrix of z, y and x among the other dimensions."""
    at = [*(dims.index(d) for d in SPACE), len(dims)]
    matrix = np.eye(len(dims) + 1)
    matrix[np.ix_(at, at)] = affine(ds, direction)
    return matrix


def _two(contrast: tuple[float, float]) -> tuple[float, float]:
    low, high = contrast
    return (low, high) if high > low else (low, low + 1)
