"""Which images a Dataset becomes: the axes of each, its place in the store, and its files."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xarray_tiffstack.positions import evenly_spaced
from xarray_tiffstack.wells import letters, row_and_column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr

Slot: TypeAlias = tuple[int, ...]

SPACE = ("z", "y", "x")
TIME = ("time", "stack", "iter", "t", "frame")  # what counts time, the first of them that varies
PLATE = ("row", "col")  # dimensions that place a well, where no name says which


@dataclass(frozen=True)
class Image:
    """One NGFF image of a store."""

    path: str
    """Where it is in the store; empty where the store is one image."""
    at: Mapping[str, int]
    """Positions along the dimensions that are not its axes."""
    name: str
    """Its labels in words."""

    def group(self, level: int) -> str:
        """Path of the group of one of its levels."""
        return f"{self.path}/{level}".lstrip("/")


@dataclass(frozen=True, eq=False)
class Collection:
    """A Dataset as NGFF sees it: its images, their axes, and the files that they come from."""

    ds: xr.Dataset
    """Dimensions in NGFF's order, positions in micrometers, text that UTF-8 can spell."""
    axes: Mapping[str, str]
    """Name of each axis of one image -> its NGFF type."""
    images: tuple[Image, ...]
    """In the order of the labels."""
    plate: bool
    """Whether the images are the fields of wells."""
    slot_dims: tuple[str, ...]
    """Dimensions along which there is a file at each position."""
    paths: np.ndarray | None
    """Path of the file of each slot, as the file system knows it; of several, along a last axis."""
    source: str
    """Folder that the paths begin at."""
    dims: tuple[str, ...]
    """Dimensions in the order of the Dataset that was given."""
    origins: tuple[str, ...]
    """Where the Dataset was read from, as far as it says."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.ds["image"].dtype

    @property
    def channel(self) -> str | None:
        """Name of the axis of channels."""
        return next((d for d, kind in self.axes.items() if kind == "channel"), None)

    @property
    def time(self) -> str | None:
        """Name of the axis of time."""
        return next((d for d, kind in self.axes.items() if kind == "time"), None)

    def labels(self, image: Image) -> xr.Dataset:
        """Coordinates of one image."""
        return self.ds.drop_vars("image").isel(image.at, missing_dims="ignore")


def collect(ds: xr.Dataset, voxel_size: Mapping[str, float] | None = None) -> Collection:
    """Find the images of a Dataset; nothing is read."""
    if "image" not in ds.data_vars or len(ds.data_vars) > 1:
        raise ValueError(
            "to_ome_zarr writes a Dataset whose one variable is 'image'; this one has "
            f"{', '.join(map(repr, ds.data_vars)) or 'none'}: take ds[['image']]"
        )
    source = str(ds.attrs.get("source", ""))
    path: Any = ds.get("path")
    given = tuple(map(str, ds["image"].dims))
    origins = tuple(
        str(about["source"]) for about in (ds.encoding, ds["image"].encoding) if "source" in about
    )
    ds = ds.assign_coords({n: c.compute() for n, c in ds.coords.items() if c.chunks})
    ds = _spelled(_in_micrometers(_native(ds.drop_encoding()), voxel_size))
    kinds = axes(ds)
    ds = ds.transpose(*(d for d in ds["image"].dims if d not in kinds), *kinds, ...)
    dims = [str(d) for d in ds["image"].dims if d not in kinds]
    slot_dims: tuple[str, ...] = ()
    if path is not None:
        slot_dims = tuple(str(d) for d in ds["path"].dims if d in ds["image"].dims)
        # Where a volume is in several files, they are along the last dimension.
        path = path.transpose(*slot_dims, ...).values
    plate = _is_plate(ds, dims)
    images = _images(ds, dims, plate)
    return Collection(ds, kinds, images, plate, slot_dims, path, source, given, origins)


def _native(ds: xr.Dataset) -> xr.Dataset:
    """Have pixels in the byte order of this machine: a store's type says none."""
    image = ds["image"]
    if image.dtype.isnative:
        return ds
    return ds.assign(image=image.astype(image.dtype.newbyteorder("=")))


def _in_micrometers(ds: xr.Dataset, voxel_size: Mapping[str, float] | None) -> xr.Dataset:
    """Set the positions of pixels from their distances."""
    for axis, size in (voxel_size or {}).items():
        if axis not in SPACE or axis not in ds.dims or not size > 0:
            raise ValueError(
                f"voxel_size takes positive micrometers for the axes of space, not {axis}={size}"
            )
        position = evenly_spaced(ds.sizes[axis], float(size))
        ds = ds.assign_coords({axis: (axis, position, {"units": "micrometer"})})
    return ds


def _spelled(ds: xr.Dataset) -> xr.Dataset:
    """Escape the bytes of file names that are no UTF-8, which a store could not hold."""
    spell = np.vectorize(_spell, otypes=[object])
    text = {
        name: values.copy(data=spell(values.values))
        for name, values in ds.coords.items()
        if values.dtype.kind in "OTU" and any(_spell(v) != v for v in values.values.flat)
    }
    attrs = {key: _spell(value) for key, value in ds.attrs.items()}
    return ds.assign_coords(text).assign_attrs(attrs)


def _spell(value: Any) -> Any:
    if isinstance(value, list):
        return [_spell(item) for item in value]
    if not isinstance(value, str):
        return value
    return os.fsencode(value).decode("utf-8", "backslashreplace") if _lone(value) else value


def _lone(text: str) -> bool:
    """Whether a text holds bytes that are no UTF-8."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def axes(ds: xr.Dataset) -> dict[str, str]:
    """NGFF type of those dimensions of ``ds.image`` that are axes of one image, in NGFF's order.

    At most five: one of time, one of channels, three of space. Every other dimension (position,
    angle, well) has one image for each of its labels.
    """
    dims = [str(d) for d in ds["image"].dims]
    channel = next((d for d in ("channel", "sample") if d in dims), None)
    clocked = [d for d in ds["time"].dims if d not in (*SPACE, channel)] if "time" in ds else []
    time = next((d for d in (*TIME, *clocked) if d in dims), None)
    space = {d: "space" for d in SPACE if d in dims}
    if len(space) < 2:
        raise ValueError(f"an OME-Zarr image has y and x; this Dataset has {', '.join(dims)}")
    return {d: kind for d, kind in ((time, "time"), (channel, "channel")) if d} | space


def label(ds: xr.Dataset, dim: str, position: int) -> Any:
    """Label at a position of a dimension; the position itself where there are none."""
    return ds[dim].values[position] if dim in ds.coords else position


def _images(ds: xr.Dataset, dims: Sequence[str], plate: bool) -> tuple[Image, ...]:
    """List the images of a store, in the order of the labels.

    One image lies at the root; several lie in numbered groups (the layout of bioformats2raw);
    those of wells in ``row/column/field`` (an HCS plate).
    """
    every = [dict(zip(dims, at, strict=True)) for at in np.ndindex(*(ds.sizes[d] for d in dims))]
    paths = [str(i) for i in range(len(every))] if dims else [""]
    if plate:
        fields: Counter[str] = Counter()
        wells = ["/".join(_well(ds, at)) for at in every]
        for i, well in enumerate(wells):
            paths[i] = f"{well}/{fields[well]}"
            fields[well] += 1
    names = (", ".join(f"{d}={label(ds, d, i)}" for d, i in at.items()) for at in every)
    return tuple(
        Image(path, at, name or "image") for path, at, name in zip(paths, every, names, strict=True)
    )


# --- plates -----------------------------------------------------------------------------------


def _is_plate(ds: xr.Dataset, dims: Sequence[str]) -> bool:
    """Whether dimensions place wells: by their name, or by row and column of the plate.

    The rows and columns of a mosaic are numbers; those of a plate are letters, or are said to be.
    """
    if "well" in dims:
        return True
    if not set(PLATE) <= set(ds.coords) or not set(PLATE) & set(dims):
        return False
    if not all(set(ds[name].dims) <= set(dims) for name in PLATE):
        return False
    lettered = all(str(row).isalpha() for row in np.ravel(ds["row"].values))
    return lettered or any("plate" in str(ds[d].attrs.get("long_name", "")) for d in PLATE)


def _well(ds: xr.Dataset, at: Mapping[str, int]) -> tuple[str, str]:
    """Row and column of the well of an image."""
    if "well" in at:
        return row_and_column(label(ds, "well", at["well"]))
    row, column = (ds[name].isel(at, missing_dims="ignore").item() for name in PLATE)
    return (str(row) if str(row).isalpha() else letters(int(row) - 1)), str(column)


def natural(name: str) -> tuple[int, int, str]:
    """Key that sorts 2 before 10, and Z before AA."""
    return (int(name), 0, name) if name.isdecimal() else (-1, len(name), name)
