"""What a TIFF says about its own scale: voxel size, channel names, frame interval.

Reads what microscopes and their programs write into a file, and tells a calibration from the
resolutions that printers and cameras put there (72, 96 or 300 dots per inch). What a file does
not say stays unknown.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from xarray_tiffstack.tiff.chain import Chain
from xarray_tiffstack.tiff.directory import value_of
from xarray_tiffstack.tiff.judge import asking, is_unsafe
from xarray_tiffstack.tiff.remote import with_file

if TYPE_CHECKING:
    import os
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    import tifffile

    from xarray_tiffstack.tiff.file import Tiff

_MICROMETERS = {"nm": 1e-3, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0}
_NAMES = {"nanometer": "nm", "micron": "um", "micrometer": "um", "millimeter": "mm", "in": "inch"}
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "sec": 1e3, "min": 6e4, "h": 3.6e6}

# Resolutions of prints, scanners and screens in dots per inch; from a calibrated source only the
# first three are doubted, from bare TIFF tags all that is coarser than a microscope's camera.
_PRINT_DPI = (72, 96, 300)
_COARSEST_TAG = 20.0  # micrometers

# Orientation, where rows do not go down and columns to the right.
_TURNED = {
    2: "columns from the right",
    3: "rows from the bottom up, columns from the right",
    4: "rows from the bottom up",
    5: "rows and columns exchanged",
    6: "rows and columns exchanged, columns from the right",
    7: "rows and columns exchanged, both from the end",
    8: "rows and columns exchanged, rows from the bottom up",
}

_MOST_KNOWN = 256  # kinds of files of which is known what they say
_KNOWN: dict[Hashable, Metadata] = {}


@dataclass(frozen=True)
class Metadata:
    """What one TIFF file says about the scale of its axes."""

    voxel_size: Mapping[str, float] = field(default_factory=dict)
    """Distance between neighbouring pixels in micrometers, for those of z, y, x that are known."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Where each voxel size was found: "ome", "micromanager", "imagej", "metaseries", "amira" or
    "tiff" (the plain resolution tags: take these with care)."""
    channels: tuple[str, ...] = ()
    """Names of the channels; empty if they are not all known."""
    time_interval: float | None = None
    """Time between frames in milliseconds."""
    shown: tuple[str, ...] = ()
    """How the file wants its pixels shown, where that is not as they are stored: "0 is white",
    "rows from the bottom up"."""


def metadata(path: str | os.PathLike[str]) -> Metadata:
    """Tell what a TIFF file says about its own scale.

    Looks at OME-XML, Micro-Manager's and ImageJ's metadata, MetaSeries XML, an Amira bounding
    box, and the resolution tags, in this order; what none of them says stays unknown.
    Resolutions of prints (72, 96, 300 dots per inch) are no voxel sizes.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Metadata
        Voxel size in micrometers with its source, channel names, and time between frames.

    Raises
    ------
    OSError
        If the file cannot be opened or understood.
    ValueError
        If it is no TIFF.

    Notes
    -----
    Opens the file once, and reads its first directory and descriptions (kilobytes), and the
    offsets of its directories if it holds a bounding box. Of a URL it reads what `probe` left.

    Examples
    --------
    >>> import numpy as np, tempfile, tifffile
    >>> path = f"{tempfile.mkdtemp()}/stack.tif"
    >>> pixels, scale = np.zeros((5, 32, 48), "uint8"), {"unit": "um", "spacing": 0.4}
    >>> tifffile.imwrite(path, pixels, imagej=True, resolution=(10, 10), metadata=scale)
    >>> metadata(path).voxel_size
    {'z': 0.4, 'y': 0.1, 'x': 0.1}
    """
    return with_file(path, metadata_of, known=True)


def metadata_of(file: Tiff) -> Metadata:
    """Ask tifffile, once for all files whose first directories say the same."""
    chain = Chain(file)
    likeness = chain.likeness()
    resolution = [value_of(file, chain.first[code]) for code in (282, 283) if code in chain.first]
    key = likeness and (likeness, *resolution)
    if key in _KNOWN:
        return _KNOWN[key]
    with asking(file) as tif:
        found = _said(tif, len(chain))
        own = tif.is_ome or tif.is_micromanager  # which say more than the first directory does
    if key is not None and not own:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = found
    return found


def _said(tif: tifffile.TiffFile, pages: int) -> Metadata:
    """Look at what programs write; in a file of so many pages."""
    found = []
    page = tif.pages.first
    resolution = [page.tags.valueof(code) for code in (282, 283)]
    if tif.ome_metadata:
        found.append(from_ome(tif.ome_metadata, tif.filename))
    if summary := (tif.micromanager_metadata or {}).get("Summary"):
        found.append(from_micromanager(summary))
    if tif.imagej_metadata:
        found.append(from_imagej(tif.imagej_metadata, resolution))
    if page.is_metaseries:
        found.append(from_metaseries(page.description))
    if page.description.startswith("BoundingBox"):
        shape = {"x": page.imagewidth, "y": page.imagelength, "z": pages}
        found.append(from_amira(page.description, shape))
    maker = str(page.tags.valueof(271))
    if not maker.startswith("PerkinElmer"):  # theirs is the pixel of the camera itself
        found.append(from_tags(resolution, page.tags.valueof(296, 2)))
    return replace(_merge(found), shown=_shown(page))


def _shown(page: Any) -> tuple[str, ...]:
    """Read PhotometricInterpretation and Orientation (TIFF 6.0)."""
    white = ("0 is white",) if page.photometric == 0 else ()
    turned = _TURNED.get(page.tags.valueof(274, 1), "")
    return (*white, turned) if turned else white


def channel_names(tif: tifffile.TiffFile) -> tuple[str, ...]:
    """Names of the channels that a file holds, by its OME-XML or Micro-Manager's summary."""
    if tif.ome_metadata and (names := from_ome(tif.ome_metadata, tif.filename).channels):
        return names
    summary = (tif.micromanager_metadata or {}).get("Summary")
    return from_micromanager(summary).channels if summary else ()


def differences(one: Metadata, other: Metadata) -> dict[str, str]:
    """Say what one file says otherwise than another, where both say something: by what it is."""
    found = {}
    if one.channels and other.channels and not same_names(one.channels, other.channels):
        found["channels"] = f"{', '.join(one.channels)}, not {', '.join(other.channels)}"
    for axis in one.voxel_size.keys() & other.voxel_size.keys():
        size, usual = one.voxel_size[axis], other.voxel_size[axis]
        if not math.isclose(size, usual, rel_tol=0.01):
            found[f"voxel size {axis}"] = f"{size:.6g}, not {usual:.6g} µm"
    time, usually = one.time_interval, other.time_interval
    if time and usually and not math.isclose(time, usually, rel_tol=0.01):
        found["time between frames"] = f"{time:.6g}, not {usually:.6g} ms"
    if one.shown != other.shown:
        found["shown with"] = f"{_as_shown(one)}, not {_as_shown(other)}"
    return dict(sorted(found.items()))


def _as_shown(said: Metadata) -> str:
    return ", ".join(said.shown) or "0 is black, rows from the top"


def same_names(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether channels are called the same, in upper or lower case."""
    return [each.strip().casefold() for each in some] == [
        each.strip().casefold() for each in others
    ]


def _merge(found: Iterable[Metadata]) -> Metadata:
    """Join what several sources say; the first that knows counts."""
    voxel_size: dict[str, float] = {}
    source: dict[str, str] = {}
    channels: tuple[str, ...] = ()
    interval = None
    for each in found:
        voxel_size = {**each.voxel_size, **voxel_size}
        source = {**each.source, **source}
        channels = channels or each.channels
        interval = interval or each.time_interval
    axes = [axis for axis in "zyx" if axis in voxel_size]
    return Metadata(
        {axis: voxel_size[axis] for axis in axes},
        {axis: source[axis] for axis in axes},
        channels,
        interval,
    )


def from_ome(xml: str, filename: str) -> Metadata:
    """Read OME-XML (2016-06): Pixels/@PhysicalSizeX, Channel/@Name, Pixels/@TimeIncrement."""
    if is_unsafe(xml):
        return Metadata()
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return Metadata()
    images = [element for element in root if _tag(element) == "Image"]
    # Of a set of files, the image whose pixels this file holds.
    images.sort(key=lambda image: not any(e.get("FileName") == filename for e in image.iter()))
    for pixels in (e for image in images for e in image if _tag(e) == "Pixels"):
        sizes = {
            axis: _scaled(
                pixels.get(f"PhysicalSize{axis.upper()}"),
                _micrometers(pixels.get(f"PhysicalSize{axis.upper()}Unit", "um")),
            )
            for axis in "zyx"
        }
        channels = [e.get("Name") for e in pixels if _tag(e) == "Channel"]
        unit = _ascii(pixels.get("TimeIncrementUnit", "s"))
        interval = _scaled(pixels.get("TimeIncrement"), _MILLISECONDS.get(unit))
        return _metadata("ome", sizes, channels, interval)
    return Metadata()


def from_micromanager(summary: Mapping[str, Any]) -> Metadata:
    """Read the summary that Micro-Manager 1.4 and 2.0 write."""
    pixel = summary.get("PixelSize_um")
    sizes = {
        "z": _scaled(summary.get("z-step_um"), 1.0),
        "y": _scaled(pixel, 1.0),
        "x": _scaled(pixel, 1.0),
    }
    names = summary.get("ChNames")
    interval = _scaled(summary.get("Interval_ms"), 1.0)
    return _metadata("micromanager", sizes, names if isinstance(names, list) else [], interval)


def from_imagej(description: Mapping[str, Any], resolution: Iterable[object]) -> Metadata:
    """Read the keys of an ImageJ description, and XResolution, YResolution in its unit."""
    unit = description.get("unit", "")
    factors = {axis: _micrometers(description.get(f"{axis}unit", unit)) for axis in "zyx"}
    x, y = map(_spacing, resolution)
    lengths = {"z": description.get("spacing"), "y": y, "x": x}
    sizes = {axis: _scaled(lengths[axis], factors[axis]) for axis in "zyx"}
    time_unit = _ascii(description.get("tunit", "s"))
    interval = _scaled(description.get("finterval"), _MILLISECONDS.get(time_unit))
    return _metadata("imagej", sizes, [], interval)


def from_metaseries(description: str) -> Metadata:
    """Read the spatial calibration that MetaMorph and MetaXpress write as XML."""
    said = dict(re.findall(r'id="spatial-calibration-(\w+)"[^>]*\bvalue="([^"]*)"', description))
    if said.get("state") != "on":
        return Metadata()
    factor = _micrometers(said.get("units", ""))
    sizes = {axis: _scaled(said.get(axis), factor) for axis in "yx"}
    return _metadata("metaseries", sizes, [], None)


def from_amira(description: str, shape: Mapping[str, int]) -> Metadata:
    """Read ``BoundingBox x0 x1 y0 y1 z0 z1``, from the first to the last voxel's centre.

    Lattice light-sheet microscopes write it, in micrometers: where a Settings file lies beside
    the TIFF, its pixel size and z interval are the same.
    """
    words = description.split()
    if words[:1] != ["BoundingBox"] or len(words) != 7:
        return Metadata()
    bounds = [_scaled(word, 1.0, signed=True) for word in words[1:]]
    sizes: dict[str, float | None] = {}
    for axis, first, last in zip("xyz", bounds[::2], bounds[1::2], strict=True):
        steps = shape.get(axis, 1) - 1
        if first is not None and last is not None and steps:
            sizes[axis] = _scaled((last - first) / steps, 1.0)
    return _metadata("amira", sizes, [], None)


def from_tags(resolution: Iterable[object], unit: int) -> Metadata:
    """Read XResolution and YResolution, in pixels per inch (ResolutionUnit 2) or centimeter (3)."""
    factor = {2: 25400.0, 3: 1e4}.get(unit)
    x, y = (_scaled(_spacing(value), factor) for value in resolution)
    # Of exactly 1 um: what programs write who know of none.
    fine = {a: size for a, size in (("y", y), ("x", x)) if size and 1.0 != size < _COARSEST_TAG}
    return _metadata("tiff", fine, [], None)


def _metadata(
    source: str,
    sizes: Mapping[str, float | None],
    channels: Iterable[object],
    interval: float | None,
) -> Metadata:
    """Keep what is known and no resolution of a print."""
    known = {axis: size for axis, size in sizes.items() if size and not _is_print(size)}
    names = tuple(str(name) if name else "" for name in channels)
    return Metadata(known, dict.fromkeys(known, source), names if all(names) else (), interval)


def _is_print(micrometers: float) -> bool:
    """Whether a pixel is as large as on a print or screen, within rounding."""
    return any(math.isclose(micrometers * dpi, 25400, rel_tol=1e-3) for dpi in _PRINT_DPI)


def _spacing(resolution: object) -> float | None:
    """Return the inverse of a rational number of pixels per unit."""
    if isinstance(resolution, tuple) and len(resolution) == 2 and all(resolution):
        return float(resolution[1] / resolution[0])
    return None


def _scaled(value: object, factor: float | None, *, signed: bool = False) -> float | None:
    """Return value times factor, if both are known, finite and (unless signed) positive."""
    try:
        number = float(value) * (factor or math.nan)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and (signed or number > 0) else None


def _micrometers(unit: object) -> float | None:
    """Length of a unit in micrometers; None for pixels and what else is no length."""
    name = _ascii(unit).removesuffix("s").replace("metre", "meter")
    return _MICROMETERS.get(_NAMES.get(name, name))


def _ascii(unit: object) -> str:
    r"""Return a unit with any of the two micro signs, or ImageJ's ``\u00B5``, as u."""
    return re.sub(r"\\u00B5|[\u00b5\u03bc]", "u", str(unit).strip(), flags=re.IGNORECASE).lower()


def _tag(element: ElementTree.Element) -> str:
    """Name of an element without its namespace."""
    return element.tag.rpartition("}")[2]
