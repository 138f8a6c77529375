"""A Dataset as new TIFFs, for programs that read nothing else: names, labels and scale."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xarray_tiffstack.back.losses import lost
from xarray_tiffstack.back.naming import Names, names_of
from xarray_tiffstack.back.writing import appear, partial_of, tidy
from xarray_tiffstack.messages import counted, first_lines, one_of
from xarray_tiffstack.ome_zarr import place
from xarray_tiffstack.ome_zarr.images import axes
from xarray_tiffstack.ome_zarr.metadata import spacing
from xarray_tiffstack.ome_zarr.pool import threads
from xarray_tiffstack.ome_zarr.progress import bar
from xarray_tiffstack.tiff import writing
from xarray_tiffstack.tiff.writing import Content, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import xarray as xr

    from xarray_tiffstack.ome_zarr.progress import Shown

GROUP = 64 * 2**20  # bytes of planes that are read at once, about
_ORDER = ("time", "z", "channel", "y", "x", "sample")  # of axes inside a file


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: str
    """Where the files are."""
    pattern: str
    """Template of their names, which ``xr.open_dataset(..., pattern=...)`` reads."""
    written: int
    """Files written by this call."""
    there: int
    """Files that were there already, and were left."""
    absent: int
    """Slots that have no file, and got none."""
    nbytes: int
    """Bytes of pixels written."""
    lost: tuple[str, ...] = ()
    """Coordinates and attributes that are not read back from the files, and why."""

    def __str__(self) -> str:
        """Return it in a few lines."""
        size = f"{self.nbytes / 1e6:,.1f} MB"
        text = f"{counted(self.written, 'file')} written to {self.folder} ({size})"
        if self.there:
            text += f"; {counted(self.there, 'file')} there already, and left"
        if self.absent:
            text += f"; {counted(self.absent, 'slot')} without a file, and none written"
        text += f"\npattern={self.pattern!r}"
        if self.lost:
            text += f"\nnot read back from the files:\n{first_lines(self.lost)}"
        return text


def to_tiff(
    ds: xr.Dataset,
    folder: str | os.PathLike[str],
    pattern: str | None = None,
    *,
    kind: Kind = "imagej",
    inside: Sequence[str] = ("z",),
    existing: Literal["raise", "skip"] = "raise",
    workers: int | None = None,
    progress: Shown = "auto",
) -> Exported:
    """Write a Dataset as TIFFs; ``ds.tiffstack.to_tiff`` says what each option means."""
    one_of("existing", existing, ("raise", "skip"))
    one_of("kind", kind, writing.KINDS)
    number = threads(workers)
    if "image" not in ds.data_vars:
        raise ValueError(f"to_tiff writes the variable 'image'; here are {list(ds.data_vars)}")
    # Labels are needed many times, and are small.
    ds = ds.assign_coords({n: c.compute() for n, c in ds.coords.items() if c.chunks})
    kept = _inside(ds, inside)
    outside = [str(d) for d in ds["image"].dims if d not in kept.values()]
    writing.check(_content(ds, kept, {}), kind)
    target = Path(folder).expanduser().resolve()
    _check_place(target, ds)
    names = names_of(ds, outside, pattern)
    todo, absent = _todo(ds, names, outside)
    named = np.vectorize(todo.__contains__, otypes=[bool])(names.paths)
    gone = lost(ds, kept, names.tokens, _content(ds, kept, {}), kind, named)
    there = [path for path in todo if os.path.lexists(target / path)]
    if there and existing == "raise":
        raise FileExistsError(
            f"{target} holds {counted(len(there), 'file')} of these names, and nothing is written "
            f'over:\n{first_lines(there)}\nName another folder, or leave them with existing="skip".'
        )
    tidy(target / path for path in there)
    for path in there:
        del todo[path]
    nbytes = _write_all(ds, kept, todo, target, kind, number, progress)
    return Exported(str(target), names.pattern, len(todo), len(there), absent, nbytes, gone)


def _inside(ds: xr.Dataset, inside: Sequence[str]) -> dict[str, str]:
    """Find the axes of a file: what each is called there, and here."""
    image = ds["image"]
    if not {"y", "x"} <= set(image.dims):
        raise ValueError(f"a TIFF has y and x; the image has {', '.join(map(str, image.dims))}")
    kinds = {"space": None, **{kind: d for d, kind in axes(ds).items() if kind != "space"}}
    known = {"z": "z", "time": kinds.get("time"), "channel": kinds.get("channel")}
    wanted = [inside] if isinstance(inside, str) else list(inside)
    found = {"y": "y", "x": "x"}
    for name in wanted:
        axis = next((axis for axis, dim in known.items() if name in (axis, dim)), None)
        if axis is None:
            there = sorted({n for n in (*known, *known.values()) if n})
            raise ValueError(f"inside={name!r}: inside a file can be {', '.join(there)}")
        dim = known[axis]
        # A single plane has no axis in a file: its label goes into the name.
        if dim is not None and dim in image.dims and (image.sizes[dim] > 1 or axis != "z"):
            found[axis] = dim
    if "sample" in image.dims and image.sizes["sample"] in (3, 4):
        found["sample"] = "sample"
        if found.get("channel") == "sample":
            del found["channel"]
    return {axis: found[axis] for axis in _ORDER if axis in found}


def _check_place(target: Path, ds: xr.Dataset) -> None:
    """Refuse to write into the folder of the source, or into a store."""
    if any((folder / f).exists() for folder in (target, *target.parents) for f in place.METADATA):
        raise ValueError(f"{target} is in a Zarr store: write the files elsewhere")
    paths: Any = ds["path"].values if "path" in ds.coords else None
    place.check_source(target, str(ds.attrs.get("source", "")), paths)


def _todo(
    ds: xr.Dataset, names: Names, outside: Sequence[str]
) -> tuple[dict[str, dict[str, int]], int]:
    """List the files to write, with the position of each; and count the slots without a file."""
    present = ds["present"] if "present" in ds.coords else None
    todo: dict[str, dict[str, int]] = {}
    absent = 0
    for at, path in names:
        position = dict(zip(outside, at, strict=True))
        here = None if present is None else present.isel(position, missing_dims="ignore")
        if here is not None and not here.values.any():
            absent += 1
        else:
            todo[path] = position
    return todo, absent


def _write_all(
    ds: xr.Dataset,
    kept: Mapping[str, str],
    todo: Mapping[str, dict[str, int]],
    target: Path,
    kind: Kind,
    workers: int,
    progress: Shown,
) -> int:
    """Write the files, in threads; returns the bytes of their pixels."""
    one = _content(ds, kept, {}).nbytes
    with bar("written", one * len(todo), progress) as advance:
        pool = ThreadPoolExecutor(workers)
        try:
            for _ in pool.map(
                lambda path: _write(ds.isel(todo[path]), kept, target / path, kind), todo
            ):
                advance(one)
        finally:
            pool.shutdown(cancel_futures=True)
    return one * len(todo)


def _write(ds: xr.Dataset, kept: Mapping[str, str], path: Path, kind: Kind) -> None:
    """Write one file, which appears when all of it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    try:
        content = _content(ds, kept, _scalars(ds))
        writing.write(partial, content, _planes(ds["image"], list(kept.values())), kind)
        appear(partial, path)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _planes(image: xr.DataArray, dims: Sequence[str]) -> Iterator[np.ndarray]:
    """Read the planes of a file one after the other, some of them at once."""
    image = image.transpose(*dims)
    lead = image.ndim - dims[::-1].index("y") - 1
    if not lead:
        yield _read(image)
        return
    plane = math.prod(image.shape[lead:]) * image.dtype.itemsize
    along = dims[lead - 1]
    chunk = _chunk(image, along)
    step = max(1, GROUP // max(1, plane) // chunk) * chunk
    for outer in np.ndindex(image.shape[: lead - 1]):
        part = image.isel(dict(zip(dims, outer, strict=False)))
        for first in range(0, part.sizes[along], step):
            yield from _read(part.isel({along: slice(first, first + step)}))


def _chunk(image: xr.DataArray, dim: str) -> int:
    """Length of what is stored in one piece along a dimension, as far as that is known."""
    if dim in image.chunksizes:
        return max(image.chunksizes[dim])
    found = image.encoding.get("preferred_chunks", {}).get(dim, 1)
    return int(found if isinstance(found, int) else max(found))


def _read(image: xr.DataArray) -> np.ndarray:
    """Read lazy pixels in this thread."""
    options: Any = {"scheduler": "synchronous"} if image.chunks else {}
    return np.ascontiguousarray(image.compute(**options).values)


# --- what is said beside the pixels ---------------------------------------------------------------


def _scalars(ds: xr.Dataset) -> dict[str, str]:
    """Labels of a slot, with their units, as text."""
    found = {}
    for name, label in ds.coords.items():
        if not label.ndim and name not in ("path", "present"):
            unit = label.attrs.get("units", "")
            found[str(name)] = f"{label.item()} {unit}".strip()
    return found


def _content(ds: xr.Dataset, kept: Mapping[str, str], labels: Mapping[str, str]) -> Content:
    """Say what one file holds."""
    image = ds["image"]
    return Content(
        axes=writing.letters(list(kept)),
        shape=tuple(image.sizes[dim] for dim in kept.values()),
        dtype=np.dtype(image.dtype.newbyteorder("=")),
        voxel_size=_voxel_size(ds),
        interval=_interval(ds, kept.get("time")),
        times=_times(ds, kept),
        channels=_channels(ds, kept.get("channel"), labels),
        planes=_plane_labels(ds, kept) if labels or len(kept) > 2 else (),
        about="\n".join(f"{name}: {text}" for name, text in labels.items()),
    )


def _voxel_size(ds: xr.Dataset) -> dict[str, float]:
    """Micrometers from pixel to pixel, where positions say so."""
    return {
        axis: size
        for axis, size in spacing(ds).items()
        if str(ds[axis].attrs.get("units", "")) in ("micrometer", "um", "µm") and size > 0
    }


def _interval(ds: xr.Dataset, dim: str | None) -> float | None:
    """Milliseconds from frame to frame along a dimension of a file."""
    if dim is None or "time" not in ds.coords or ds["time"].dims != (dim,) or ds.sizes[dim] < 2:
        return None
    times = _milliseconds(ds["time"])
    if times is None:
        return None
    step = float(times[-1] - times[0]) / (ds.sizes[dim] - 1)
    return step if step > 0 and math.isfinite(step) else None


def _times(ds: xr.Dataset, kept: Mapping[str, str]) -> tuple[float, ...]:
    """Milliseconds of each plane after the first, where all are known.

    OME counts them from the beginning of the experiment. Readers take the first frame for it, so
    times that begin later are left out.
    """
    dims = [dim for axis, dim in kept.items() if axis not in ("y", "x", "sample")]
    if "time" not in ds.coords or not {kept.get("time")} <= {*ds["time"].dims} <= {*dims}:
        return ()
    others = {dim: ds.sizes[dim] for dim in dims if dim not in ds["time"].dims}
    times = _milliseconds(ds["time"].expand_dims(others).transpose(*dims))
    if times is None or times.flat[0] or not np.isfinite(times).all():
        return ()
    return tuple(times.ravel().tolist())


def _milliseconds(times: xr.DataArray) -> np.ndarray | None:
    """Give times as milliseconds, where their unit is known."""
    unit = str(times.attrs.get("units", ""))
    factor = {"millisecond": 1.0, "ms": 1.0, "second": 1e3, "s": 1e3}.get(unit)
    if factor is None or times.dtype.kind not in "iuf":
        return None
    return np.asarray(times.values * factor)


def _channels(ds: xr.Dataset, dim: str | None, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Name the channels of a file."""
    if dim is None:
        return (labels["channel"],) if "channel" in labels else ()
    return tuple(str(v) for v in (ds[dim].values if dim in ds.coords else range(ds.sizes[dim])))


def _plane_labels(ds: xr.Dataset, kept: Mapping[str, str]) -> tuple[str, ...]:
    """Say of each plane of a file what it is."""
    dims = [dim for axis, dim in kept.items() if axis not in ("y", "x", "sample")]
    if not dims:
        return ()
    labels = [ds[d].values.tolist() if d in ds.coords else range(ds.sizes[d]) for d in dims]
    texts = [[f"{d}={v}" for v in each] for d, each in zip(dims, labels, strict=True)]
    return tuple(
        ", ".join(texts[i][k] for i, k in enumerate(at)) for at in np.ndindex(*map(len, texts))
    )
