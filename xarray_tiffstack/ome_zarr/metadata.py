"""What OME-NGFF asks of a store's metadata: axes, scales, display settings, collections, plates.

Nothing here reads or writes; everything follows from a Dataset's labels. Three versions of the
format are known, 0.4 (Zarr 2), 0.5 and 0.6 (Zarr 3): https://ngff.openmicroscopy.org/0.5/. What
0.6 says of coordinate systems is in ``index.md`` and ``schemas/`` of
https://github.com/ome/ngff-spec. A collection of images says itself once more in OME-XML:
https://docs.openmicroscopy.org/ome-model/latest/.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from xml.etree import ElementTree

import numpy as np

from xarray_tiffstack.ome_zarr.images import SPACE, natural
from xarray_tiffstack.ome_zarr.skew import ANGLE, matrix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr

    from xarray_tiffstack.ome_zarr.images import Collection, Image
    from xarray_tiffstack.ome_zarr.levels import Method

NgffVersion: TypeAlias = Literal["0.6", "0.5", "0.4"]

VERSIONS = ("0.6", "0.5", "0.4")
PHYSICAL, UPRIGHT = "physical", "upright"  # what the coordinate systems of 0.6 are called
UNITS = ("nanometer", "micrometer", "millimeter", "millisecond", "second", "minute", "hour")
OME_XML = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
OME_LENGTHS = {"nanometer": "nm", "micrometer": "µm", "millimeter": "mm"}
OME_PIXELS = {f"{kind}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32)}
OME_PIXELS |= {"bool": "bit", "float32": "float", "float64": "double"}
DESCRIPTIONS = {
    "mean": "each level averages pairs of pixels of the level above",
    "nearest": "each level takes the first of each pair of pixels of the level above",
    "mode": "each level takes the most frequent of the pixels of the level above that it covers",
}
RGB = {"red": "FF0000", "green": "00FF00", "blue": "0000FF", "alpha": "FFFFFF"}


def zarr_format(version: str) -> Literal[2, 3]:
    """Which format of Zarr a version is written in."""
    return 2 if version == "0.4" else 3


# --- collections ------------------------------------------------------------------------------


def collections(collection: Collection, version: NgffVersion) -> dict[str, dict[str, Any]]:
    """Attributes of the groups that hold several images: the path of each group -> attributes."""
    held = collection.images
    if held[0].path == "":
        return {}
    if not collection.plate:
        series = [image.path for image in held]
        return {
            "": attributes(version, {"bioformats2raw.layout": 3}),
            "OME": attributes(version, {"series": series}),
        }
    wells: dict[str, list[dict[str, Any]]] = {}
    for image in held:
        well, _, field = image.path.rpartition("/")
        wells.setdefault(well, []).append({"path": field})
    groups = {"": attributes(version, {"plate": _plate(wells, version)})}
    groups |= {well.split("/")[0]: {} for well in wells}
    for well, fields in wells.items():
        groups[well] = attributes(version, {"well": {"images": fields, **_own_version(version)}})
    return groups


def _plate(
    wells: Mapping[str, Sequence[Mapping[str, Any]]], version: NgffVersion
) -> dict[str, Any]:
    """Describe a plate: its rows and columns in natural order, and its wells."""
    names = [well.split("/") for well in wells]
    rows, columns = (sorted({name[i] for name in names}, key=natural) for i in (0, 1))
    return {
        "name": "plate",
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "field_count": max(map(len, wells.values())),
        "wells": [
            {
                "path": f"{row}/{column}",
                "rowIndex": rows.index(row),
                "columnIndex": columns.index(column),
            }
            for row, column in names
        ],
        # A plate says its version itself, in 0.5 too.
        **({} if version == "0.6" else {"version": version}),
    }


def ome_xml(collection: Collection) -> bytes | None:
    """Describe a collection of images in OME-XML; None for other stores.

    Readers that know the layout of bioformats2raw look there for the images. What counts time is
    T, whatever its name. OME-XML has no 64-bit integers, say, and pixels that it lacks give None.
    """
    held, kinds, ds = collection.images, collection.axes, collection.ds
    kind = OME_PIXELS.get(str(collection.dtype))
    if held[0].path == "" or collection.plate or kind is None:
        return None
    names = {"time": "T", "channel": "C"}
    sizes = dict.fromkeys("XYZCT", 1) | {
        names.get(axis, d.upper()): ds.sizes[d] for d, axis in kinds.items()
    }
    root = ElementTree.Element("OME", xmlns=OME_XML, Creator="xarray-tiffstack")
    for i, image in enumerate(held):
        part = collection.labels(image)
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
        for c, channel in enumerate(_omero(collection, part, "0.5", {})["channels"]):
            about = {"ID": f"Channel:{i}:{c}", "Name": channel["label"], "SamplesPerPixel": "1"}
            ElementTree.SubElement(pixels, "Channel", about)
        ElementTree.SubElement(pixels, "MetadataOnly")
    ElementTree.indent(root)
    described: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return described


def attributes(version: NgffVersion, block: Mapping[str, Any]) -> dict[str, Any]:
    """Put a block of metadata where the version has it: under ``ome``, or bare before 0.5."""
    return dict(block) if version == "0.4" else {"ome": {"version": version, **block}}


def _own_version(version: NgffVersion) -> dict[str, str]:
    """Before 0.5 each block says its version itself."""
    return {"version": version} if version == "0.4" else {}


# --- one image --------------------------------------------------------------------------------


def image_attributes(
    collection: Collection,
    image: Image,
    factors: Sequence[Mapping[str, int]],
    version: NgffVersion,
    limits: Mapping[int, tuple[float, float]],
    method: Method = "mean",
) -> dict[str, Any]:
    """Attributes of the group of one image: its multiscales, and how to display it.

    Parameters
    ----------
    collection
        All of the data.
    image
        Which part of it.
    factors
        As from `level_factors`.
    version
        NGFF version.
    limits
        Position of a channel -> the intensities to display from black to full colour.
    method
        How coarser levels were made.
    """
    part = collection.labels(image)
    steps = {
        dim: (1.0, 0.0, None) if kind == "channel" else _spacing(part, dim)
        for dim, kind in collection.axes.items()
    }
    multiscale: dict[str, Any] = {
        **_own_version(version),
        "name": image.name,
        "axes": [
            {"name": dim, "type": kind, **({"unit": steps[dim][2]} if steps[dim][2] else {})}
            for dim, kind in collection.axes.items()
        ],
        "datasets": [_level(level, factor, steps) for level, factor in enumerate(factors)],
    }
    if version == "0.6":
        angle = collection.ds["image"].attrs.get(ANGLE)
        multiscale = _with_systems(multiscale, angle if unit_of_space(part) else None)
    if len(factors) > 1:
        multiscale["type"] = method
        multiscale["metadata"] = {"description": DESCRIPTIONS[method]}
    if len(factors) > 1 and method == "mean":
        multiscale["metadata"] |= {
            "method": "xarray.DataArray.coarsen",
            "kwargs": {
                "windows": [
                    {axis: f // before[axis] for axis, f in factor.items()}
                    for before, factor in pairwise(factors)
                ],
                "boundary": "trim",
            },
        }
    omero = _omero(collection, part, version, limits)
    return attributes(version, {"multiscales": [multiscale], "omero": omero})


def _level(
    level: int, factor: Mapping[str, int], steps: Mapping[str, tuple[float, float, str | None]]
) -> dict[str, Any]:
    """Describe a level: its scale, and its first pixel, in the middle of what that covers."""
    scale = [step * factor.get(dim, 1) for dim, (step, _, _) in steps.items()]
    origin = [
        start + step * (factor.get(dim, 1) - 1) / 2 for dim, (step, start, _) in steps.items()
    ]
    return {
        "path": f"{level}/image",
        "coordinateTransformations": [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": origin},
        ],
    }


def _with_systems(multiscale: dict[str, Any], angle: float | None) -> dict[str, Any]:
    """Say axes and levels as 0.6 does: by coordinate systems, and what leads to them.

    Of a volume that the stage moved through a light sheet at an angle there is a second system, in
    which it is upright, and an affine transformation that leads there.
    """
    axes = multiscale.pop("axes")
    datasets = [
        {
            "path": level["path"],
            "coordinateTransformations": [
                {
                    "type": "sequence",
                    "input": {"path": level["path"]},
                    "output": {"name": PHYSICAL},
                    "transformations": level["coordinateTransformations"],
                }
            ],
        }
        for level in multiscale["datasets"]
    ]
    systems = [{"name": PHYSICAL, "axes": axes}]
    found = {**multiscale, "coordinateSystems": systems, "datasets": datasets}
    if angle is None:
        return found
    at = [i for i, axis in enumerate(axes) if axis["name"] in SPACE]
    affine = np.eye(len(axes), len(axes) + 1)
    affine[np.ix_(at, at)] = matrix(float(angle))[:3, :3].round(12)
    systems.append({"name": UPRIGHT, "axes": axes})
    upright = {
        "type": "affine",
        "name": "upright, of a stage that moved in direction 1",
        "input": {"name": PHYSICAL},
        "output": {"name": UPRIGHT},
        "affine": affine.tolist(),
    }
    return {**found, "coordinateTransformations": [upright]}


def unit_of_space(ds: xr.Dataset) -> str | None:
    """Find the one unit that z, y and x have; None where they have none, or different ones."""
    units = {_spacing(ds, dim)[2] for dim in SPACE}
    return units.pop() if len(units) == 1 else None


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
    known = np.flatnonzero(np.isfinite(earliest))  # slots without a file have no time
    unit = ds[name].attrs.get("units")
    unit = unit if unit in UNITS else None
    if not len(known):
        return 1.0, 0.0, None
    first, last = int(known[0]), int(known[-1])
    step = float(earliest[last] - earliest[first]) / max(last - first, 1)
    step = float(f"{step:.12g}")  # 0.2, not 0.19999999999999998
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


def _omero(
    collection: Collection,
    part: xr.Dataset,
    version: NgffVersion,
    limits: Mapping[int, tuple[float, float]],
) -> dict[str, Any]:
    """Channel names, colours and contrast limits of the image that has the labels of a part."""
    dtype, dim = collection.dtype, collection.channel
    count = collection.ds.sizes[dim] if dim else 1
    low, high = (0.0, 1.0)
    if dtype.kind in "iu":
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    channels = []
    for i in range(count):
        name, rgb = _channel(part, dim, i, count)
        start, end = limits.get(i, (low, high))
        window = {"min": min(low, start), "max": max(high, end), "start": start, "end": end}
        channels.append(
            {
                "label": name,
                "color": rgb,
                "active": True,
                "coefficient": 1.0,
                "family": "linear",
                "inverted": False,
                "window": window,
            }
        )
    return {**_own_version(version), "channels": channels, "rdefs": {"model": "color"}}


def _channel(part: xr.Dataset, dim: str | None, i: int, count: int) -> tuple[str, str]:
    """Name and colour of a channel: of light by its wavelength, of samples red, green and blue."""
    if dim == "sample" and dim not in part.coords and 3 <= count <= 4:
        return list(RGB.items())[i]
    known = part[[c for c in (dim, "wavelength") if c in part.coords]]
    here = known.isel({dim: i}, missing_dims="ignore") if dim else known
    name = here[dim].item() if dim in here.coords else i
    waves = [here[c] for c in (dim, "wavelength") if c in here.coords and not here[c].dims]
    wave = next(
        (float(w) for w in waves if w.attrs.get("units") == "nanometer" and w > 0), math.nan
    )
    rgb = "FFFFFF"
    if count > 1:
        rgb = colour(wave) if wave == wave else _PALETTE[i % len(_PALETTE)]
    return f"{name} nm" if name == wave else str(name), rgb
