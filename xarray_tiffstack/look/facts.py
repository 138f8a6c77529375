"""What a Dataset is, in a few short lines for people: its array, voxel, time and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.look.image import image_of, source_of
from xarray_tiffstack.look.words import duration, in_bytes, label_text, ranges, seconds
from xarray_tiffstack.messages import counted
from xarray_tiffstack.storage import access_of, is_index, is_store, is_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from xarray_tiffstack.look.files import Files

SPACE = ("z", "y", "x")
INFERRED = "inferred"  # attribute `convention` where the names were read without a description


@dataclass(frozen=True)
class Clock:
    """When the slots along a dimension were recorded, in seconds."""

    dim: str
    times: np.ndarray
    """Earliest time of each position; NaN where no file says."""

    @property
    def interval(self) -> float:
        """Median time from one position to the next."""
        return float(np.median(self._steps()[1])) if len(self._steps()[1]) else 0.0

    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions that are followed by a known time, and the time to it for each position."""
        known = np.flatnonzero(np.isfinite(self.times))
        return known, np.diff(self.times[known]) / np.diff(known)

    def irregular(self, labels: np.ndarray) -> list[str]:
        """Say where the time to the next position is far from the usual one."""
        known, steps = self._steps()
        usual = self.interval
        if usual <= 0:
            return []
        odd = np.flatnonzero((steps > 1.5 * usual) | (steps < 0.5 * usual))
        return [
            f"{duration(float(steps[i]))} from {self.dim} {label_text(labels[known[i]])} to the "
            f"next, not {duration(usual)}"
            for i in odd
        ]


def clock(ds: xr.Dataset) -> Clock | None:
    """Find the times along the dimension that they vary most with; None where they have no unit."""
    time = ds["time"] if "time" in ds.coords else None
    if time is None or time.dtype.kind not in "iuf":
        return None
    dims = [d for d in time.dims if d != "channel" and time.sizes[d] > 1]
    factor = seconds(1.0, time.attrs.get("units"))
    if factor is None or not dims:
        return None
    dim = max(dims, key=lambda d: time.sizes[d])
    values = time.transpose(dim, ...).values.astype(float).reshape(time.sizes[dim], -1)
    return Clock(str(dim), np.fmin.reduce(values, axis=1) * factor)


def voxel(ds: xr.Dataset) -> dict[str, tuple[float, str]]:
    """Micrometers between voxels along each axis of space where they are known, and who said so."""
    found = {}
    for axis in SPACE:
        if axis in ds.indexes and ds.sizes[axis] > 1:
            along = ds[axis]
            if along.attrs.get("units") == "micrometer":
                step = float(along[1] - along[0])
                found[axis] = step, str(along.attrs.get("voxel_size_from", ""))
    return found


def facts(ds: xr.Dataset, files: Files | None) -> dict[str, str]:
    """Say what a Dataset is; nothing that is not the case, and nothing that has no unit."""
    image = image_of(ds)
    said = {"array": ", ".join(f"{d} {n}" for d, n in image.sizes.items())}
    said |= {str(d): _labels(ds, str(d)) for d in image.dims if d in ds.coords and d not in SPACE}
    if "z" in ds.coords and "z" in image.dims and "voxel_size_from" not in ds["z"].attrs:
        said["z"] = _labels(ds, "z")
    said["pixels"] = f"{image.dtype}, {in_bytes(image.nbytes)}"
    if space := _voxel_line(ds, image):
        said["voxel"] = space
    if (times := clock(ds)) is not None and np.isfinite(times.times).any():
        first, last = float(np.nanmin(times.times)), float(np.nanmax(times.times))
        begin = duration(first) if first else "0"
        said["time"] = f"{begin} to {duration(last)}, every {duration(times.interval)}"
    if files is not None:
        said["files"] = _files_line(files)
    return said


def _labels(ds: xr.Dataset, dim: str) -> str:
    """Labels of a dimension; all where they are few, else the first, the last, and how many."""
    labels = ds[dim].values
    text = ranges(labels, range(len(labels))) if labels.dtype.kind in "iu" else ""
    if not text or text.count(",") > 7 or len(labels) < 5:
        shown = [label_text(label) for label in labels]
        text = ", ".join(shown if len(shown) <= 8 else [*shown[:4], "...", *shown[-2:]])
    unit = {"nanometer": " nm", "micrometer": " µm"}.get(ds[dim].attrs.get("units", ""), "")
    return text + unit


def _voxel_line(ds: xr.Dataset, image: xr.DataArray) -> str:
    """Voxel size and where it comes from, or how to say it."""
    known = voxel(ds)
    in_names = set(ds["path"].dims) if "path" in ds.coords else set()
    wanted = [a for a in SPACE if a in image.dims and a not in in_names and image.sizes[a] > 1]
    parts = []
    for who in dict.fromkeys(who for _, who in known.values()):
        sizes = [f"{axis} {size:.4g}" for axis, (size, by) in known.items() if by == who]
        parts.append(f"{', '.join(sizes)} µm" + (f" ({who.rstrip('=')})" if who else ""))
    if unknown := [axis for axis in wanted if axis not in known]:
        say = ", ".join(f'"{axis}": ...' for axis in unknown)
        name = "" if len(unknown) == len(wanted) else f"{', '.join(unknown)} "
        parts.append(f"{name}unknown: pass voxel_size={{{say}}}")
    return "; ".join(parts)


def _files_line(files: Files) -> str:
    held, slots = int((~files.filled).sum()), files.paths.size
    line = f"{held:,} of {counted(slots, 'file')}" if held < slots else counted(slots, "file")
    if files.elsewhere:
        return f"{line}, none of them on this computer"
    total = int(files.sizes[files.sizes > 0].sum())
    each = f", {in_bytes(files.usual)} each" if files.usual and held > 1 else ""
    return f"{line}{each}, {in_bytes(total)} in all"


def python_call(ds: xr.Dataset, keywords: Mapping[str, Any] | None = None) -> str:
    """Write the Python call that opens what is shown.

    Parameters
    ----------
    ds
        The Dataset.
    keywords
        What it was opened with, where that is known; otherwise what the Dataset tells of it.
    """
    source = str(ds.encoding.get("source") or source_of(ds))
    if is_store(source):
        group = ds.encoding.get("group")
        place, more = repr(source), _reached(source)
        if is_index(source):  # its files may be at a URL, too
            reached = _reached(source, str(source_of(ds)))
            place, more = f"xarray_tiffstack.open_index({source!r}{reached})", ""
        if group is None:
            return f"xarray.open_zarr({place}{more})"
        node = f"[{group!r}]" if group else ""
        return f'xarray.open_datatree({place}, engine="zarr", chunks={{}}{more}){node}'
    said = _keywords(ds) if keywords is None else keywords
    more = "".join(f", {name}={value!r}" for name, value in said.items()) + _reached(source)
    return f'xarray.open_dataset({source!r}, engine="tiffstack"{more})'


def _reached(*places: str) -> str:
    """Say that options are needed to reach a place; not which: some are secret."""
    needed = any(is_url(place) and access_of(place).options for place in places)
    return ", storage_options={...}" if needed else ""


def _keywords(ds: xr.Dataset) -> dict[str, Any]:
    """Keywords that a Dataset remembers: those that say how names are read, and voxel sizes."""
    attrs = image_of(ds).attrs
    said: dict[str, Any] = {}
    if attrs.get("pattern") and attrs.get("convention") in (None, INFERRED):
        said["pattern"] = attrs["pattern"]
    given = {axis: size for axis, (size, who) in voxel(ds).items() if who == "voxel_size="}
    if given:
        said["voxel_size"] = {axis: float(f"{size:.6g}") for axis, size in given.items()}
    return said
