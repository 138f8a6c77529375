"""How one TIFF is written that ImageJ or readers of OME understand, plane by plane, by tifffile."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import tifffile

from xarray_tiffstack.messages import one_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

Kind: TypeAlias = Literal["imagej", "ome"]
KINDS: tuple[Kind, ...] = ("imagej", "ome")

_TYPES = {
    "imagej": ("uint8", "uint16", "float32"),
    "ome": (
        "uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64",
        "complex64", "complex128", "bool",
    ),
}  # fmt: skip
_LARGEST = 2**32 - 2**25  # bytes of a classic TIFF, with room for directories


@dataclass(frozen=True)
class Content:
    """What a file will hold, but for its pixels."""

    axes: str
    """A letter each: T, Z, C, Y, X, S, in this order, those that there are."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    voxel_size: Mapping[str, float] = field(default_factory=dict)
    """Micrometers along z, y and x, as far as they are known."""
    interval: float | None = None
    """Milliseconds from frame to frame."""
    times: tuple[float, ...] = ()
    """Milliseconds of each plane after the first, which is at 0; empty where not known."""
    channels: tuple[str, ...] = ()
    """Name of each channel."""
    planes: tuple[str, ...] = ()
    """What each plane is, in words."""
    about: str = ""
    """What the whole file is, in lines."""

    @property
    def nbytes(self) -> int:
        """Size of the pixels."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_rgb(self) -> bool:
        """Whether the last axis are colours."""
        return self.axes.endswith("S")


def check(content: Content, kind: Kind) -> None:
    """Refuse what a kind of file cannot hold.

    Raises
    ------
    ValueError
        The type of the pixels is not one of its own, or ImageJ's file would be too large.
    """
    one_of("kind", kind, KINDS)
    types = ("uint8",) if kind == "imagej" and content.is_rgb else _TYPES[kind]
    if content.dtype.name not in types:
        fits = kind == "imagej" and content.dtype.name in _TYPES["ome"]
        other = 'kind="ome", or ' if fits else ""
        raise ValueError(
            f"a file of kind {kind!r} holds {', '.join(types)}, not {content.dtype}: pass {other}"
            "convert the pixels first, as by ds.assign(image=ds.image.astype('float32'))"
        )
    if kind == "imagej" and content.nbytes > _LARGEST:
        raise ValueError(
            f"a file would have {content.nbytes / 1e9:.1f} GB, and one of ImageJ's has less than "
            '4.2: put fewer dimensions inside=, or pass kind="ome"'
        )


def write(
    path: str | os.PathLike[str], content: Content, planes: Iterator[np.ndarray], kind: Kind
) -> None:
    """Write a TIFF.

    Parameters
    ----------
    path
        Of the file.
    content
        What it holds.
    planes
        Its pixels, one plane after the other, in the order of its axes.
    kind
        Whose metadata it has.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from xarray_tiffstack.tiff import metadata, probe
    >>> path, pixels = f"{tempfile.mkdtemp()}/a.tif", np.zeros((5, 32, 48), "uint16")
    >>> content = Content("ZYX", pixels.shape, pixels.dtype, {"z": 0.4, "y": 0.1, "x": 0.1})
    >>> write(path, content, iter(pixels), "imagej")
    >>> print(probe(path), metadata(path).voxel_size)
    (z: 5, y: 32, x: 48) uint16 {'z': 0.4, 'y': 0.1, 'x': 0.1}
    """
    options: dict[str, Any] = _imagej(content) if kind == "imagej" else _ome(content)
    tifffile.imwrite(
        path,
        planes,
        shape=content.shape,
        dtype=content.dtype,
        photometric="rgb" if content.is_rgb else "minisblack",
        **options,
    )


def _imagej(content: Content) -> dict[str, Any]:
    """Say it as ImageJ does."""
    size = content.voxel_size
    said: dict[str, Any] = {"axes": content.axes}
    options: dict[str, Any] = {"imagej": True, "metadata": said}
    if "y" in size and "x" in size:
        options["resolution"] = (1 / size["x"], 1 / size["y"])
    if size:
        said["unit"] = "um"
    if "z" in size:
        said["spacing"] = size["z"]
    if content.interval:
        said["finterval"] = content.interval / 1000
    if content.planes:
        said["Labels"] = list(content.planes)
    if content.about:
        said["Info"] = content.about
    return options


def _ome(content: Content) -> dict[str, Any]:
    """Say it as OME does."""
    said: dict[str, Any] = {"axes": content.axes}
    for axis, size in content.voxel_size.items():
        said[f"PhysicalSize{axis.upper()}"] = size
        said[f"PhysicalSize{axis.upper()}Unit"] = "µm"
    if content.interval:
        said |= {"TimeIncrement": content.interval, "TimeIncrementUnit": "ms"}
    if content.times:
        said["Plane"] = {"DeltaT": content.times, "DeltaTUnit": ["ms"] * len(content.times)}
    if content.channels:
        said["Channel"] = {"Name": list(content.channels)}
    if content.about:
        said["Description"] = content.about
    return {"ome": True, "metadata": said, "bigtiff": content.nbytes > _LARGEST}


def letters(names: Sequence[str]) -> str:
    """Letters of axes, by their names here.

    Examples
    --------
    >>> letters(["time", "z", "y", "x"])
    'TZYX'
    """
    known = {"time": "T", "z": "Z", "channel": "C", "y": "Y", "x": "X", "sample": "S"}
    return "".join(known[name] for name in names)
