"""What OME-NGFF asks of a store: its axes, resolution levels, display settings and collections.

Nothing here reads or writes; everything follows from a Dataset's labels. Two versions of the
format are known, 0.5 (Zarr 3) and 0.4 (Zarr 2): https://ngff.openmicroscopy.org/0.5/. A collection
of images says itself once more in OME-XML: https://docs.openmicroscopy.org/ome-model/latest/.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr

    NgffVersion = Literal["0.5", "0.4"]

SPACE = ("z", "y", "x")
TIME = ("time", "stack", "iter", "t", "frame")  # what counts time, the first of them that varies
SMALL_PLANE = 256  # the coarsest level's planes fit a square of this side
SHORT_AXIS = 64  # an axis of z at most this long is not halved: it is thin already
UNITS = ("nanometer", "micrometer", "millimeter", "millisecond", "second", "minute", "hour")
OME_XML = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
OME_LENGTHS = {"nanometer": "nm", "micrometer": "µm", "millimeter": "mm"}
OME_PIXELS = {f"{kind}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32)}
OME_PIXELS |= {"bool": "bit", "float32": "float", "float64": "double"}


# --- axes and images ------------------------------------------------------------------------


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


def images(ds: xr.Dataset) -> list[Image]:
    """List the images of a store, in the order of the labels.

    One image lies at the root; several lie in numbered groups (the layout of bioformats2raw);
    those of wells in ``row/column/field`` (an HCS plate).
    """
    kinds = axes(ds)
    dims = [str(d) for d in ds["image"].dims if d not in kinds]
    every = [dict(zip(dims, at, strict=True)) for at in np.ndindex(*(ds.sizes[d] for d in dims))]
    if "well" in dims:
        fields: Counter[tuple[str, str]] = Counter()
        paths = []
        for at in every:
            row, column = row_and_column(str(label(ds, "well", at["well"])))
            paths.append(f"{row}/{column}/{fields[row, column]}")
            fields[row, column] += 1
    else:
        paths = [str(i) for i in range(len(every))] if dims else [""]
    return [
        Image(path, at, ", ".join(f"{d}={label(ds, d, i)}" for d, i in at.items()) or "image")
        for path, at in zip(paths, every, strict=True)
    ]


def label(ds: xr.Dataset, dim: str, position: int) -> Any:
    """Label at a position of a dimension; the position itself where there are none."""
    return ds[dim].values[position] if dim in ds.coords else position


def row_and_column(well: str) -> tuple[str, str]:
    """Read the name of a well: ``"B03"`` is row ``"B"``, column ``"03"``."""
    found = re.fullmatch(r"([A-Za-z]+)[-_]?(\d+)", well)
    if found is None:
        raise ValueError(f"well {well!r} is not a letter and a number, such as B03")
    return found[1], found[2]


def collections(ds: xr.Dataset, version: NgffVersion) -> dict[str, dict[str, Any]]:
    """Attributes of the groups that hold several images: the path of each group -> attributes."""
    held = images(ds)
    if held[0].path == "":
        return {}
    if "well" not in held[0].at:
        series = [image.path for image in held]
        return {
            "": attributes(version, {"bioformats2raw.layout": 3}),
            "OME": attributes(version, {"series": series}),
        }
    wells: dict[str, list[dict[str, Any]]] = {}
    for image in held:
        well, _, field = image.path.rpartition("/")
        wells.setdefault(well, []).append({"path": field})
    rows, columns = (sorted({well.split("/")[i] for well in wells}) for i in (0, 1))
    plate = {
        "name": "plate",
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "field_count": max(map(len, wells.values())),
        "wells": [
            {
                "path": well,
                "rowIndex": rows.index(well.split("/")[0]),
                "columnIndex": columns.index(well.split("/")[1]),
            }
            for well in wells
        ],
    }
    # A plate says its version itself, in 0.5 too.
    groups = {"": attributes(version, {"plate": {**plate, "version": version}})}
    groups |= {row: {} for row in rows}
    for well, fields in wells.items():
        groups[well] = attributes(version, {"well": {"images": fields, **_own_version(version)}})
    return groups


def ome_xml(ds: xr.Dataset) -> bytes | None:
    """Describe a collection of images in OME-XML; None for other stores.

    Readers that know the layout of bioformats2raw look there for the images. What counts time is
    T, whatever its name. OME-XML has no 64-bit integers, say, and pixels that it lacks give None.
    """
    held, kinds = images(ds), axes(ds)
    kind = OME_PIXELS.get(str(ds["image"].dtype))
    if held[0].path == "" or "well" in held[0].at or kind is None:
        return None
    names = {"time": "T", "channel": "C"}
    sizes = dict.fromkeys("XYZCT", 1) | {
        names.get(axis, d.upper()): ds.sizes[d] for d, axis in kinds.items()
    }
    root = ElementTree.Element("OME", xmlns=OME_XML, Creator="xarray-tiffstack")
    for i, image in enumerate(held):
        part = labels_of(ds, image)
        about = {"ID": f"Pixels:{i}", "DimensionOrder": "XYZCT", "Type": kind}
        about |= {f"Size{axis}": str(size) for axis, size in sizes.items()}
        for axis, size in spacing(part).items():
            if unit := OME_LENGTHS.get(_spacing(part, axis)[2] or ""):
                about |= {
                    f"PhysicalSize{axis.upper()}": str(size),
                    f"PhysicalSize{axis.upper()}Unit": unit,
                }
        element = ElementTree.SubElement(root, "Image", ID=f"Image:{image.path}", Name=image.name)
        pixels = ElementTree.SubElement(element, "Pixels", about)
        for c, channel in enumerate(_omero(ds, part, "0.5", {})["channels"]):
            about = {"ID": f"Channel:{i}:{c}", "Name": channel["label"], "SamplesPerPixel": "1"}
            ElementTree.SubElement(pixels, "Channel", about)
        ElementTree.SubElement(pixels, "MetadataOnly")
    ElementTree.indent(root)
    described: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return described


def attributes(version: NgffVersion, block: Mapping[str, Any]) -> dict[str, Any]:
    """Put a block of metadata where the version has it: under ``ome``, or bare before 0.5."""
    return {"ome": {"version": version, **block}} if version == "0.5" else dict(block)


def _own_version(version: NgffVersion) -> dict[str, str]:
    """Before 0.5 each block says its version itself."""
    return {} if version == "0.5" else {"version": version}


# --- levels ---------------------------------------------------------------------------------


def level_factors(
    sizes: Mapping[str, int], spacing: Mapping[str, float], levels: int | Literal["auto"]
) -> list[dict[str, int]]:
    """Choose by how much each level is coarser than full resolution, per axis of space.

    Each level halves the one above: y and x always, z where that brings the voxel closer to a
    cube. Where the spacing is not known, voxels are taken for cubes. A z of at most 64 planes is
    not halved. By default levels end when a plane is at most 256 pixels wide and high.

    Parameters
    ----------
    sizes
        Length of each axis of space at full resolution.
    spacing
        Distance of pixels along the axes, where it is known.
    levels
        Number of levels, full resolution included, or "auto".

    Raises
    ------
    ValueError
        Fewer than one level, or more than the image has pixels to halve.

    Examples
    --------
    >>> level_factors({"z": 50, "y": 1024, "x": 768}, {"z": 0.5, "y": 0.1, "x": 0.1}, "auto")
    [{'z': 1, 'y': 1, 'x': 1}, {'z': 1, 'y': 2, 'x': 2}, {'z': 1, 'y': 4, 'x': 4}]
    >>> level_factors({"z": 200, "y": 512, "x": 512}, {}, 2)
    [{'z': 1, 'y': 1, 'x': 1}, {'z': 2, 'y': 2, 'x': 2}]
    """
    if levels != "auto" and (not isinstance(levels, int) or levels < 1):
        raise ValueError(f"levels={levels!r} is neither a number from 1 nor 'auto'")
    factors = [dict.fromkeys(sizes, 1)]
    while levels == "auto" or len(factors) < levels:
        now = {axis: n // factors[-1][axis] for axis, n in sizes.items()}
        if levels == "auto" and max(now["y"], now["x"]) <= SMALL_PLANE:
            break
        step = {axis: spacing.get(axis, 1.0) * factors[-1][axis] for axis in sizes}
        halved = {axis for axis in ("y", "x") if now[axis] > 1}
        finest = min(step["y"], step["x"])
        if now.get("z", 0) > SHORT_AXIS and step["z"] < math.sqrt(2) * finest:
            halved.add("z")
        if not halved:
            raise ValueError(f"levels={levels}: after {len(factors)} nothing is left to halve")
        factors.append({axis: f * (2 if axis in halved else 1) for axis, f in factors[-1].items()})
    return factors


def level_labels(labels: xr.Dataset, factors: Mapping[str, int]) -> xr.Dataset:
    """Coordinates of a level, from those of one image: positions are averaged as the pixels are.

    Other coordinates that have a coarser axis (the path of each plane's file) have no meaning
    there and stay with full resolution.
    """
    coarser = {d for d, f in factors.items() if f > 1}
    if not coarser:
        return labels
    labels = labels.drop_vars(
        [n for n, v in labels.coords.items() if coarser & set(v.dims) and n not in coarser]
    )
    windows = {d: factors[d] for d in coarser if d in labels.coords}
    for d, window in windows.items():
        mean = labels[d].coarsen({d: window}, boundary="trim").mean(keep_attrs=True)
        labels = labels.drop_vars(d).assign_coords({d: mean.variable})
    return labels


# --- metadata of one image --------------------------------------------------------------------


def image_attributes(
    ds: xr.Dataset,
    image: Image,
    factors: Sequence[Mapping[str, int]],
    version: NgffVersion,
    limits: Mapping[int, tuple[float, float]],
) -> dict[str, Any]:
    """Attributes of the group of one image: its multiscales, and how to display it.

    Parameters
    ----------
    ds
        All of the data.
    image
        Which part of it.
    factors
        As from `level_factors`.
    version
        NGFF version.
    limits
        Position of a channel -> the intensities to display from black to full colour.
    """
    kinds = axes(ds)
    part = labels_of(ds, image)
    step, start, unit = zip(
        *((1.0, 0.0, None) if t == "channel" else _spacing(part, d) for d, t in kinds.items()),
        strict=True,
    )
    datasets = []
    for level, factor in enumerate(factors):
        by = [factor.get(dim, 1) for dim in kinds]
        scale = [s * f for s, f in zip(step, by, strict=True)]
        # The first pixel of a level is centred on the mean of those that it averages.
        origin = [a + s * (f - 1) / 2 for a, s, f in zip(start, step, by, strict=True)]
        datasets.append(
            {
                "path": f"{level}/image",
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    {"type": "translation", "translation": origin},
                ],
            }
        )
    multiscale: dict[str, Any] = {
        **_own_version(version),
        "name": image.name,
        "axes": [
            {"name": dim, "type": kind, **({"unit": u} if u else {})}
            for (dim, kind), u in zip(kinds.items(), unit, strict=True)
        ],
        "datasets": datasets,
    }
    if len(factors) > 1:
        multiscale["type"] = "mean"
        multiscale["metadata"] = {
            "description": "each level averages pairs of pixels of the level above",
            "method": "xarray.DataArray.coarsen",
            "kwargs": {
                "windows": [
                    {axis: f // before[axis] for axis, f in factor.items()}
                    for before, factor in pairwise(factors)
                ],
                "boundary": "trim",
            },
        }
    block = {"multiscales": [multiscale], "omero": _omero(ds, part, version, limits)}
    return attributes(version, block)


def spacing(ds: xr.Dataset) -> dict[str, float]:
    """Distance of pixels along the axes of space that have positions."""
    return {d: _spacing(ds, d)[0] for d in SPACE if d in ds.indexes and ds.sizes[d] > 1}


def _spacing(ds: xr.Dataset, dim: str) -> tuple[float, float, str | None]:
    """Step, start and unit of an axis of time or space; 1, 0 and None where nothing says.

    Of times, which may differ from channel to channel, the step is the mean over the series.
    """
    name = dim if dim in SPACE else "time"
    if name not in ds.coords or dim not in ds[name].dims or ds[name].dtype.kind not in "iuf":
        return 1.0, 0.0, None
    values = ds[name].transpose(dim, ...).values
    earliest = np.fmin.reduce(values.reshape(len(values), -1).astype(float), axis=1)
    known = np.flatnonzero(np.isfinite(earliest))  # cells without a file have no time
    unit = ds[name].attrs.get("units")
    unit = unit if unit in UNITS else None
    if not len(known):
        return 1.0, 0.0, None
    first, last = int(known[0]), int(known[-1])
    step = float(earliest[last] - earliest[first]) / max(last - first, 1)
    if step <= 0:  # one label, or a clock that stood still
        return 1.0, float(earliest[first]), unit
    return step, float(earliest[first]) - step * first, unit


# Wavelength in nanometers -> red, green, blue; linear in between. After D. Bruton,
# "Approximate RGB values for visible wavelengths" (1996).
_SPECTRUM = {
    380: (0.5, 0, 1), 440: (0, 0, 1), 490: (0, 1, 1), 510: (0, 1, 0), 580: (1, 1, 0),
    645: (1, 0, 0),
}  # fmt: skip
_PALETTE = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")


def colour(wavelength: float) -> str:
    """Colour of light, as ``RRGGBB``.

    Examples
    --------
    >>> colour(488), colour(642)
    ('00F5FF', 'FF0C00')
    """
    bands = zip(*_SPECTRUM.values(), strict=True)
    rgb = (round(255 * float(np.interp(wavelength, list(_SPECTRUM), band))) for band in bands)
    return "".join(f"{c:02X}" for c in rgb)


def labels_of(ds: xr.Dataset, image: Image) -> xr.Dataset:
    """Coordinates of one image."""
    return ds.drop_vars("image").isel(image.at)


def _omero(
    ds: xr.Dataset,
    part: xr.Dataset,
    version: NgffVersion,
    limits: Mapping[int, tuple[float, float]],
) -> dict[str, Any]:
    """Channel names, colours and contrast limits of the image that has the labels of a part."""
    dtype = ds["image"].dtype
    dim = next((d for d, kind in axes(ds).items() if kind == "channel"), None)
    count = ds.sizes[dim] if dim else 1
    low, high = (0.0, 1.0)
    if dtype.kind in "iu":
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    known = part[[c for c in (dim, "wavelength") if c in part.coords]]
    channels = []
    for i in range(count):
        here = known.isel({dim: i}, missing_dims="ignore") if dim else known
        name = here[dim].item() if dim in here.coords else i
        waves = [here[c] for c in (dim, "wavelength") if c in here.coords and not here[c].dims]
        wave = next(
            (float(w) for w in waves if w.attrs.get("units") == "nanometer" and w > 0), math.nan
        )
        start, end = limits.get(i, (low, high))
        many = count > 1
        channels.append(
            {
                "label": f"{name} nm" if name == wave else str(name),
                "color": colour(wave)
                if wave == wave and many
                else (_PALETTE[i % len(_PALETTE)] if many else "FFFFFF"),
                "active": True,
                "coefficient": 1.0,
                "family": "linear",
                "inverted": False,
                "window": {
                    "min": min(low, start),
                    "max": max(high, end),
                    "start": start,
                    "end": end,
                },
            }
        )
    return {**_own_version(version), "channels": channels, "rdefs": {"model": "color"}}
