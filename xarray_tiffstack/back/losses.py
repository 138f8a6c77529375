"""What new files do not give back of a Dataset: its coordinates and attributes, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr

    from xarray_tiffstack.tiff.writing import Content, Kind

_ANEW = {"source", "pattern", "convention", "reasons"}  # attributes that say where files are from
_OF_AXES = {"units", "voxel_size_from"}  # those of positions, which scale gives back
_OF_SCALE = ("z", "y", "x")


def lost(
    ds: xr.Dataset,
    kept: Mapping[str, str],
    tokens: Sequence[str],
    content: Content,
    kind: Kind,
    named: np.ndarray,
) -> tuple[str, ...]:
    """List what of a Dataset is not read back from its new files; nothing is read.

    Parameters
    ----------
    ds
        What is written, whose labels are in memory.
    kept
        Axes of a file, and what each is called in the Dataset.
    tokens
        What the names say.
    content
        What a file says beside its pixels.
    kind
        Whose metadata it has.
    named
        Whether each slot gets a file, along the dimensions outside a file.
    """
    lines = []
    outside = [str(d) for d in ds["image"].dims if d not in kept.values()]
    for name in map(str, ds.coords):
        if name == "path":  # each new file has one of its own
            continue
        why = _why(ds, name, kept, tokens, content, kind, named, outside)
        if why:
            lines.append(f"{name}: {why}")
        elif attrs := _attributes(ds[name], name, inside=name in kept.values()):
            lines.append(f"{name}: not its {attrs}")
    lines += [f"{name}: only 'image' is written" for name in ds.data_vars if name != "image"]
    for whose, what in ((ds["image"], "the image"), (ds, "the Dataset")):
        if attrs := _attributes(whose):
            lines.append(f"{what}: not its {attrs}")
    return tuple(lines)


def _attributes(whose: xr.Dataset | xr.DataArray, name: str = "", *, inside: bool = False) -> str:
    """Name the attributes that are not read back."""
    known = _ANEW | (_OF_AXES if name in _OF_SCALE else set())
    known |= {"long_name"} if name == "present" else set()
    known |= (
        {"units"} if name == "time" and whose.dims == ("time",) and name in whose.dims else set()
    )
    found = [str(key) for key in whose.attrs if key not in known]
    return f"attribute{'s' if len(found) > 1 else ''} {', '.join(found)}" if found else ""


def _why(
    ds: xr.Dataset,
    name: str,
    kept: Mapping[str, str],
    tokens: Sequence[str],
    content: Content,
    kind: Kind,
    named: np.ndarray,
    outside: Sequence[str],
) -> str:
    """Say why a coordinate is not read back; empty where it is."""
    label = ds[name]
    if name == "present":
        seen = all(_each_named(named, axis) for axis in range(named.ndim))
        return _of_present(label, outside, seen)
    if name in tokens:
        if name in outside and not _each_named(named, outside.index(name)):
            return "some of its labels have no file"
        return ""
    axis = next((axis for axis, dim in kept.items() if dim == name), "")
    if axis in _OF_SCALE and label.dims == (name,):
        return _of_positions(label, axis, content)
    if axis == "time":
        return _of_times(label, content) if name == "time" else "planes say it as text alone"
    if axis == "channel":
        text = all(isinstance(value, str) for value in label.values.tolist())
        back = kind == "ome" and text and label.size > 1
        return "" if back else "planes say it as text alone"
    if set(map(str, label.dims)) <= set(outside):
        return "files say it as text alone; put it into the names to read it back"
    return "no file says it"


def _of_present(present: xr.DataArray, outside: Sequence[str], seen: bool) -> str:
    """Say whether slots without a file are seen by that."""
    if not seen:
        return "some labels have no file at all, so their slots are not seen"
    if present.values.all() or set(map(str, present.dims)) <= set(outside):
        return ""
    return "missing slots inside a file are filled, and no file says so"


def _each_named(named: np.ndarray, axis: int) -> bool:
    """Whether there is a file for each label along a dimension."""
    others = tuple(i for i in range(named.ndim) if i != axis)
    return bool(named.any(axis=others).all())


def _of_positions(label: xr.DataArray, axis: str, content: Content) -> str:
    """Say whether the voxel size gives positions back."""
    values = label.values
    if axis not in content.voxel_size:
        return "no distance in micrometers is known"
    if axis != "z" and not {"y", "x"} <= content.voxel_size.keys():
        return "files say it of y and x together"
    step = content.voxel_size[axis]
    if not np.allclose(np.diff(values), step, rtol=1e-5, atol=0):
        return "the distances are not even"
    if abs(values[0]) > 1e-6 * step:
        return f"it begins at {values[0]:g}, and in new files at 0"
    return ""


def _of_times(label: xr.DataArray, content: Content) -> str:
    """Say whether the interval gives times back."""
    if content.interval is None:
        return "no interval in seconds or milliseconds is known"
    steps = np.diff(label.values.astype(float))
    if not np.allclose(steps, steps[0], rtol=1e-6, atol=0):
        return "the times are not even, and files say their mean distance"
    if label.values[0]:
        return f"it begins at {label.values[0]:g}, and in new files at 0"
    return ""
