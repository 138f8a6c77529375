"""Which coordinates a Dataset has: labels, tokens, positions and what the lasers were set to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xarray_tiffstack import tiff
from xarray_tiffstack.array.variable import TokenVariable
from xarray_tiffstack.names.vocabulary import VOCABULARY
from xarray_tiffstack.positions import evenly_spaced
from xarray_tiffstack.wells import rows_and_columns

if TYPE_CHECKING:
    import xarray as xr

    from xarray_tiffstack.array.mosaic import Join
    from xarray_tiffstack.grid.placing import Grid
    from xarray_tiffstack.table import FileTable


@dataclass
class Notes:
    """What was noticed on the way and is kept for the report."""

    unreadable: dict[str, str]
    """What is wrong with files that cannot be read, by path."""
    settings: dict[str, Any]
    """What the program of the microscope wrote beside the files."""
    pages: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Which pages of files are left out or were not understood, by path."""
    disagreements: list[str] = field(default_factory=list)
    """What was given or recorded otherwise than it was found."""
    unnamed: bool = False
    """Whether channels inside the files have no names, because files name them differently."""


def labels_and_tokens(
    grid: Grid, joins: Sequence[Join], lengths: Mapping[str, Sequence[int]], table: FileTable
) -> dict[str, xr.Variable]:
    """Labels, tokens, and for every slot whether it has a file and which."""
    joined = {join.token: join for join in joins}

    def variable(name: str, dims: tuple[str, ...], values: np.ndarray) -> xr.Variable:
        """Lay values out, those of joined tiles in the order in which they are put together."""
        flip = tuple(
            slice(None, None, -1 if d in joined and joined[d].descending else 1) for d in dims
        )
        dims = tuple(joined[d].dim if d in joined else d for d in dims)
        turned = values[flip] if flip else values
        return TokenVariable(dims, turned, _units(name, values, grid, table))

    coords: dict[str, xr.Variable] = {}
    for name, labels in grid.labels.items():
        label = variable(name, (name,), labels)
        if name in joined:
            axis = joined[name].axis
            coords[name] = TokenVariable(axis, label.values.repeat(lengths[axis]))
        coords[joined[name].dim if name in joined else name] = label
    for name, (dims, values) in grid.coords.items():
        coords[name] = variable(name, dims, values)
    # Absolute: a Dataset may lose its attributes, or be joined with one of another folder.
    coords["path"] = variable("path", grid.dims, np.where(pd.notna(grid.paths), grid.paths, ""))
    coords["present"] = variable("present", grid.dims, grid.present)
    coords["present"].attrs["long_name"] = "whether there is a file"
    return coords


def positions(
    axes: Mapping[str, int],
    path: str,
    channels: Sequence[str],
    given: float | Sequence[float] | Mapping[str, float] | None,
    notes: Notes,
) -> dict[str, xr.Variable]:
    """Coordinates along the axes of a file, from what the user, the program or the file says."""
    wanted = _voxel_size(given)
    absent = [axis for axis in wanted if axis not in axes]
    if absent and isinstance(given, Mapping):
        raise ValueError(f"voxel_size names {', '.join(absent)}; the files have {', '.join(axes)}")
    said = tiff.metadata(path)
    if said.shown:
        notes.disagreements.append(
            f"files say that they are shown with {', '.join(said.shown)}; "
            "pixels are here as they are stored"
        )
    in_settings = notes.settings.get("voxel_size", {})
    sizes = {**said.voxel_size, **in_settings}
    sources = {**said.source, **dict.fromkeys(in_settings, "Settings.txt")}
    for axis, size in wanted.items():
        if axis in sizes and abs(sizes[axis] - size) > 0.01 * size:
            notes.disagreements.append(
                f"voxel_size {axis}: {size} given, {sizes[axis]:.6g} in {sources[axis]}"
            )
    sizes |= wanted
    sources |= dict.fromkeys(wanted, "voxel_size=")
    coords: dict[str, xr.Variable] = {}
    for axis, length in axes.items():
        if axis in sizes:
            attrs = {"units": "micrometer", "voxel_size_from": sources[axis]}
            coords[axis] = TokenVariable(axis, evenly_spaced(length, sizes[axis]), attrs)
        elif axis == "channel" and len(channels) == length:
            coords[axis] = TokenVariable(axis, np.array(channels, object))
        elif axis == "time" and said.time_interval:
            times = np.arange(length) * said.time_interval
            coords[axis] = TokenVariable(axis, times, {"units": "millisecond"})
    return coords


def plate(well: xr.Variable | None, taken: Collection[str]) -> dict[str, xr.Variable]:
    """Coordinates beside the well: its row (a letter) and column (a number) on the plate.

    None where a well has no such name, or where something else is called row or col.
    """
    if well is None or {"row", "col"} & {*taken}:
        return {}
    found = rows_and_columns(well.values.ravel().tolist())
    if found is None:
        return {}
    rows = np.array(found[0], object).reshape(well.shape)
    columns = np.array(found[1], int).reshape(well.shape)
    return {
        "row": TokenVariable(well.dims, rows, {"long_name": "row of the plate"}),
        "col": TokenVariable(well.dims, columns, {"long_name": "column of the plate"}),
    }


def lasers(
    wavelength: xr.Variable | None, channels: Sequence[Mapping[str, Any]]
) -> dict[str, xr.Variable]:
    """Coordinates beside the wavelength: how each laser was set, where Settings tell it of all."""
    known = {channel.get("wavelength"): channel for channel in channels}
    shown = [] if wavelength is None else wavelength.values.ravel().tolist()
    if wavelength is None or len(known) < len(channels) or not known.keys() >= {*shown}:
        return {}
    coords: dict[str, xr.Variable] = {}
    for name, key, attrs in (
        ("exposure", "exposure", {"units": "millisecond"}),
        ("laser_power", "power", {"units": "percent"}),
        ("excitation_filter", "filter", {}),
    ):
        values = [known[each].get(key) for each in shown]
        if None not in values:
            kind = object if isinstance(values[0], str) else float
            laid_out = np.array(values, kind).reshape(wavelength.shape)
            coords[name] = TokenVariable(wavelength.dims, laid_out, attrs)
    return coords


def _units(
    name: str,
    values: np.ndarray,
    grid: Grid,
    table: FileTable,
) -> dict[str, str]:
    """Attributes of a coordinate: its unit where it has one, or that it is of a plate."""
    tokens = table.convention.tokens if table.convention is not None else {}
    if name in tokens and "plate" in (title := tokens[name].title or ""):
        return {"long_name": title}
    if values.dtype.kind not in "iuf":
        return {}
    if name == "channel":  # labelled by a wavelength
        _, wavelength = grid.coords.get("wavelength", ((), np.array(None)))
        name = "wavelength" if np.array_equal(np.atleast_1d(wavelength), values) else name
    token = tokens.get(name) or VOCABULARY.get(name)
    unit = (token.units if token is not None else None) or table.units.get(name)
    return {"units": unit} if unit else {}


def _voxel_size(
    given: float | Sequence[float] | Mapping[str, float] | None,
) -> dict[str, float]:
    """Normalize the keyword to micrometers by axis."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        sizes = dict(given)
    elif isinstance(given, Real):
        sizes = dict.fromkeys("zyx", float(given))
    elif not isinstance(given, str) and np.shape(given) == (3,):
        sizes = dict(zip("zyx", np.asarray(given).tolist(), strict=True))
    else:
        raise ValueError(
            "voxel_size must be a number, (z, y, x), or a mapping such as "
            f'{{"z": 0.5, "y": 0.1, "x": 0.1}}, in micrometers, not {given!r}'
        )
    bad = {k: v for k, v in sizes.items() if k not in {"z", "y", "x"} or not float(v) > 0}
    if bad:
        raise ValueError(f"voxel_size takes positive micrometers for z, y and x, not {bad}")
    return {axis: float(size) for axis, size in sizes.items()}
