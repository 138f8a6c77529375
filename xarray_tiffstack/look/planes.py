"""Which planes of a Dataset are shown, and what is read of each: a small picture and its numbers.

Every plane is read by itself, so that a file that cannot be read costs one picture and no more.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from xarray_tiffstack.look.image import image_of, plain
from xarray_tiffstack.look.plate import wells_of
from xarray_tiffstack.look.words import label_text
from xarray_tiffstack.messages import one_of
from xarray_tiffstack.ome_zarr.images import collect
from xarray_tiffstack.ome_zarr.metadata import image_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr

    from xarray_tiffstack.look.plate import Place

Plane: TypeAlias = int | Literal["middle", "max"]
Contrast: TypeAlias = tuple[float, float] | Literal["auto", "each"]

NO_FILE = "no file"  # problem of a plane that was never recorded
SIDE = 192  # pixels of a picture's longer side
SAMPLE = 200_000  # pixels of a plane that its histogram is made of
LARGE = 2**24  # pixels of a plane above which only every second, third, ... row and column is read
AT_A_TIME = 2**26  # bytes of a stack that are read at once, to take its maximum
AT_ONCE = 4  # planes that are read at the same time
PLATE_PICTURES = 400  # at most so many pictures of a plate
PERCENT = (1.0, 99.8)  # of the pixels of a channel are black, and below full colour


@dataclass(frozen=True)
class Channel:
    """One channel, as it is named and coloured."""

    name: str
    colour: str
    """As ``RRGGBB``."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What was read of one plane."""

    where: str
    """Its labels in words."""
    file: str = ""
    """Path of its file, where the Dataset knows it."""
    problem: str = ""
    """Why there is no picture: "no file", or what the reader said."""
    small: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """The plane, made smaller by averages."""
    sample: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """Some of its pixels."""
    low: float = math.nan
    """Smallest pixel."""
    high: float = math.nan
    """Largest pixel."""
    at_high: float = 0.0
    """Share of the pixels that have the largest value."""
    factor: int = 1
    """Pixels of the plane along one side of a pixel of the picture."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Which planes are shown: one row a channel, one column a position along a dimension."""

    along: str | None
    """Dimension of the columns."""
    columns: tuple[dict[str, int], ...]
    """Positions along it, or of each well."""
    channels: tuple[Channel, ...]
    """Channels of the rows."""
    channel_dim: str | None
    fixed: Mapping[str, int]
    """Positions along every other dimension."""
    plane: Plane
    """Which plane along z."""
    wells: tuple[Place, ...] = ()
    """Where the wells lie, where the columns are wells."""


def select(
    ds: xr.Dataset,
    *,
    plane: Plane = "middle",
    along: str | None = None,
    count: int | None = None,
) -> Selection:
    """Choose the planes: spread along the longest dimension, elsewhere where most files are."""
    image = image_of(ds)
    every = channels_of(ds)
    dim = next((d for d in ("channel", "sample") if d in image.dims), None)
    others = [str(d) for d in image.dims if d not in {dim, "y", "x"}]
    if along is not None:
        one_of("along", along, others)
    if not (isinstance(plane, int) and not isinstance(plane, bool)):
        one_of("plane", plane, ("middle", "max", "a number"))
    wells = wells_of(ds) if along is None and count is None else {}
    if wells:
        columns = list(wells.values())
        every = every[: max(1, PLATE_PICTURES // len(columns))]
    else:
        steps = [d for d in others if d != "z" and image.sizes[d] > 1]
        along = along or max(steps, key=lambda d: image.sizes[d], default=None)
        if along is None and image.sizes.get("z", 1) > 1 and plane == "middle":
            along = "z"
        columns = _spread(along, image.sizes[along] if along else 1, 8 if count is None else count)
    fixed = _where_most_files_are(ds, [d for d in others if d not in columns[0]])
    if "z" in fixed and plane != "middle":
        fixed.pop("z")
        if plane != "max" and not 0 <= plane < image.sizes["z"]:
            raise ValueError(f"plane={plane}: z has the planes 0 to {image.sizes['z'] - 1}")
    return Selection(along, tuple(columns), every, dim, fixed, plane, tuple(wells))


def _spread(along: str | None, length: int, count: int) -> list[dict[str, int]]:
    """Choose positions along a dimension, the first and the last among them."""
    if along is None:
        return [{}]
    wanted = max(1, min(length, count))
    every = np.unique(np.linspace(0, length - 1, wanted).round().astype(int))
    return [{along: i} for i in every.tolist()]


def channels_of(ds: xr.Dataset) -> tuple[Channel, ...]:
    """Names and colours of the channels, as a converted store would have them."""
    ds = plain(ds)
    collection = collect(ds)
    described = image_attributes(collection, collection.images[0], [{}], "0.5", {})["ome"]["omero"][
        "channels"
    ]
    if len(described) == 1 and not {"channel", "sample", "wavelength"} & set(ds.coords):
        return (Channel("", described[0]["color"]),)
    return tuple(Channel(channel["label"], channel["color"]) for channel in described)


def _where_most_files_are(ds: xr.Dataset, dims: Sequence[str]) -> dict[str, int]:
    """Position along each dimension: of those with most files the one nearest to the middle of z.

    Of other dimensions the first such.
    """
    image = image_of(ds)
    present = ds["present"].fillna(False).astype(int) if "present" in ds.coords else None
    fixed: dict[str, int] = {}
    for dim in dims:
        n = image.sizes[dim]
        target = n // 2 if dim == "z" else 0
        files = np.zeros(n)
        if present is not None and dim in present.dims:
            here = present.isel({d: i for d, i in fixed.items() if d in present.dims})
            files = here.sum([d for d in here.dims if d != dim]).values
        best = np.flatnonzero(files == files.max())
        fixed[dim] = int(best[np.abs(best - target).argmin()])
    return fixed


def read(ds: xr.Dataset, chosen: Selection) -> list[list[Picture]]:
    """Read the planes: a list for each channel, a picture for each column."""
    image = image_of(ds)
    rows = range(len(chosen.channels))
    slots = [_slot(chosen, row, column) for row in rows for column in chosen.columns]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pictures = list(pool.map(lambda at: _read(ds, image, at, chosen.plane), slots))
    width = len(chosen.columns)
    return [pictures[row * width : (row + 1) * width] for row in rows]


def _slot(chosen: Selection, row: int, column: dict[str, int]) -> dict[str, int]:
    """Position along every dimension but those of a plane."""
    at = {**chosen.fixed, **column}
    if chosen.channel_dim is not None:
        at[chosen.channel_dim] = row
    return at


def _read(ds: xr.Dataset, image: xr.DataArray, at: dict[str, int], plane: Plane) -> Picture:
    """Read one plane; what cannot be read is said in the picture."""
    part = image.isel(at)
    where = ", ".join(
        f"{d} {label_text(ds[d].values[at[d]]) if d in ds.coords else at[d]}"
        for d in map(str, image.dims)
        if d in at and image.sizes[d] > 1
    )
    file = _file(ds, at)
    if file == "":
        return Picture(where, problem=NO_FILE)
    if file and not _is_present(ds, at):
        return Picture(where, file, problem=f"{file} is empty, or cannot be read")
    try:
        pixels = _pixels(part, plane)
    except (OSError, ValueError, RuntimeError) as error:
        return Picture(where, file or "", problem=str(error))
    return _summary(pixels, where, file or "")


def _file(ds: xr.Dataset, at: dict[str, int]) -> str | None:
    """Path of a plane's file; empty where there is none, None where the Dataset does not say."""
    if "path" not in ds.coords:
        return None
    path = ds["path"].isel({d: i for d, i in at.items() if d in ds["path"].dims}).values
    if path.ndim:  # tiles, or planes that a maximum is taken of
        paths = [p for p in path.ravel() if isinstance(p, str) and p]
        return paths[0] if paths else ""
    return path.item() if isinstance(path.item(), str) else ""


def _is_present(ds: xr.Dataset, at: dict[str, int]) -> bool:
    """Whether any file of a plane could be used when the folder was opened."""
    if "present" not in ds.coords:
        return True
    here = ds["present"].isel({d: i for d, i in at.items() if d in ds["present"].dims})
    return bool((here == True).any())  # noqa: E712 - a new label of `reindex` is NaN


def _pixels(part: xr.DataArray, plane: Plane) -> np.ndarray:
    """Read one plane, or the maximum of all; of a very large one every n-th row and column."""
    step = math.isqrt(max(0, part.sizes["y"] * part.sizes["x"] - 1) // LARGE) + 1
    part = part.isel(y=slice(None, None, step), x=slice(None, None, step))
    if "z" in part.dims and plane == "max":
        planes = max(1, AT_A_TIME * part.sizes["z"] // max(part.nbytes, 1))
        few = planes < max(part.chunksizes.get("z", (0,)))  # of a whole stack at once is too much
        part = (part.chunk(z=planes) if few else part).max("z")
    elif "z" in part.dims:
        part = part.isel(z=int(plane))
    # Not by dask's configuration, which all threads share.
    return np.asarray(part.transpose("y", "x").compute(scheduler="synchronous").values)


def _summary(pixels: np.ndarray, where: str, file: str) -> Picture:
    """Make the small picture, and count."""
    if pixels.dtype.kind == "c":
        pixels = np.abs(pixels)
    numbers = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if not numbers.size:
        return Picture(where, file, problem="no pixel is a number, all are NaN or infinite")
    high = float(numbers.max())
    factor = max(1, math.ceil(max(pixels.shape) / SIDE))
    flat = pixels.ravel()
    return Picture(
        where,
        file,
        small=smaller(pixels, factor),
        sample=flat[:: max(1, flat.size // SAMPLE)].astype(np.float32),
        low=float(numbers.min()),
        high=high,
        at_high=float((flat == high).mean()),
        factor=factor,
    )


def smaller(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of pixels; a rest at the lower and right edge is left out."""
    height, width = (max(1, n // factor) for n in pixels.shape)
    fy, fx = (min(factor, n) for n in pixels.shape)
    blocks = pixels[: height * fy, : width * fx].reshape(height, fy, width, fx)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def limits(pictures: Sequence[Picture], contrast: Contrast) -> tuple[float, float]:
    """Black and full colour of the pictures of one channel.

    Parameters
    ----------
    pictures
        Those of the channel.
    contrast
        "auto" leaves the darkest and brightest few of all their pixels out; two numbers are taken.
    """
    if not isinstance(contrast, str):
        return float(contrast[0]), float(contrast[1])
    samples = [p.sample[np.isfinite(p.sample)] for p in pictures if p.sample.size]
    pixels = np.concatenate(samples) if samples else np.zeros(0)
    if not pixels.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(pixels, PERCENT))
    return (low, high) if high > low else (low, low + 1)


def saturated(pictures: Sequence[Picture], dtype: Any) -> tuple[int, float] | None:
    """Find pixels at the largest value of a camera: of 8, 10, 12, 14 or 16 bits.

    Returns
    -------
    tuple or None
        That value, and the share of the pixels that have it; None where no pixel has such a value.
    """
    kind, read = np.dtype(dtype), [p for p in pictures if not p.problem]
    if kind.kind not in "iu" or not read:
        return None
    top = max(p.high for p in read)
    fits = [2**bits - 1 for bits in ((8,) if kind.itemsize == 1 else (10, 12, 14, 16))]
    if int(top) not in {*fits, int(np.iinfo(kind).max)}:
        return None
    return int(top), sum(p.at_high for p in read if p.high == top) / len(read)
