"""An acquisition at one glance, to see whether it is all right."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.look.facts import clock, facts, python_call, voxel
from xarray_tiffstack.look.files import Files, files_of
from xarray_tiffstack.look.findings import Finding, findings
from xarray_tiffstack.look.image import image_of, source_of
from xarray_tiffstack.look.picture import bar, coloured, overlaid
from xarray_tiffstack.look.planes import (
    NO_FILE,
    PERCENT,
    Channel,
    Contrast,
    Picture,
    Plane,
    Selection,
    limits,
    read,
    select,
)
from xarray_tiffstack.look.words import duration, label_text
from xarray_tiffstack.messages import counted, one_of
from xarray_tiffstack.ome_zarr.place import check_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr


MOST_OVERLAID = 4  # channels that one picture can show


@dataclass(frozen=True, eq=False, repr=False)
class Preview:
    """What a page about an acquisition shows; a notebook draws it, `save` writes it to a file."""

    title: str
    """Name of the source."""
    folder: str
    """Folder of the source, where nothing is written; empty where nothing says."""
    verdict: list[str]
    """The answer in a few sentences."""
    facts: Mapping[str, str]
    """What the array is."""
    findings: list[Finding]
    """What is not like the others."""
    files: Files | None
    """The file of each slot, where the Dataset knows them."""
    chosen: Selection
    """Which planes are shown."""
    pictures: list[list[Picture]]
    """What was read of them: a list for each channel."""
    limits: list[tuple[float, float]]
    """Black and full colour of each channel."""
    contrast: Contrast
    heads: list[list[str]]
    """Words above each column."""
    bar: tuple[float, str] | None
    """Length of the scale bar as a share of a picture's width, and in words."""
    caption: str
    """What the pictures are."""
    call: str
    """The Python call that opens it."""
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    """Height and width of a plane, in the same unit of length."""

    @cached_property
    def drawn(self) -> list[list[np.ndarray | None]]:
        """The pictures in colour; None where there is no plane to draw."""
        return [
            [self._colour(picture, channel, limits) for picture in pictures]
            for channel, pictures, limits in zip(
                self.chosen.channels, self.pictures, self.limits, strict=True
            )
        ]

    def _colour(
        self, picture: Picture, channel: Channel, limits: tuple[float, float]
    ) -> np.ndarray | None:
        if picture.problem:
            return None
        if self.contrast == "each":
            low, high = np.percentile(picture.small, PERCENT)
            limits = (float(low), float(high))
        pure = self.chosen.channel_dim == "sample"
        return coloured(picture.small, *limits, channel.colour, pure=pure)

    @cached_property
    def overlaid(self) -> list[np.ndarray | None]:
        """All channels in one picture, for each column; empty where there are too few or many."""
        if not 2 <= len(self.drawn) <= MOST_OVERLAID or self.chosen.wells:
            return []
        columns = (
            [layer for layer in column if layer is not None]
            for column in zip(*self.drawn, strict=True)
        )
        return [overlaid(layers) if layers else None for layers in columns]

    @property
    def html(self) -> str:
        """The page, complete in itself."""
        from xarray_tiffstack.look.page import whole_page

        return whole_page(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file.

        Parameters
        ----------
        path
            ``preview.html``, a page without any script or request from elsewhere, or
            ``preview.png``, one picture, which needs matplotlib.

        Raises
        ------
        ValueError
            The name ends in something else, or is in the folder of the source.
        ImportError
            A PNG was asked for, and matplotlib is missing.
        """
        suffix = os.path.splitext(path)[1].lower()
        one_of("suffix", suffix, (".html", ".htm", ".png"))
        check_source(Path(path).resolve(), self.folder, None)
        if suffix == ".png":
            from xarray_tiffstack.look.figure import save_png

            save_png(self, path)
        else:
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.html)

    def _repr_html_(self) -> str:
        from xarray_tiffstack.look.page import body

        return body(self)

    def __repr__(self) -> str:
        """Say the verdict."""
        return f"<Preview of {self.title}: {' '.join(self.verdict)}>"


def preview(
    ds: xr.Dataset,
    *,
    plane: Plane = "middle",
    along: str | None = None,
    count: int | None = None,
    contrast: Contrast = "auto",
    keywords: Mapping[str, Any] | None = None,
) -> Preview:
    """Look at an acquisition; see ``ds.tiffstack.preview``.

    `keywords` are those that `ds` was opened with, for the call that the page shows.
    """
    if isinstance(contrast, str):
        one_of("contrast", contrast, ("auto", "each", "(low, high)"))
    files = files_of(ds) if "path" in ds.variables else None
    chosen = select(ds, plane=plane, along=along, count=count)
    pictures = read(ds, chosen)
    found = findings(ds, files) if files is not None else []
    found += _of_pixels(pictures)
    image = image_of(ds)
    steps = {axis: size for axis, (size, _) in voxel(ds).items()}
    width = image.sizes["x"] * steps["x"] if "x" in steps else None
    length = None if width is None else bar(width)
    source = str(ds.encoding.get("source") or source_of(ds) or "an array")
    aspect = steps["y"] / steps["x"] if {"x", "y"} <= steps.keys() else 1.0
    return Preview(
        title=os.path.basename(source.rstrip("/\\")) or source,
        folder=source_of(ds),
        verdict=_verdict(files, found, sum(not p.problem for row in pictures for p in row)),
        facts={**facts(ds, files), "folder": source_of(ds) or source, **_names(image)},
        findings=found,
        files=files,
        chosen=chosen,
        pictures=pictures,
        limits=[limits(row, contrast) for row in pictures],
        contrast=contrast,
        heads=_heads(ds, chosen),
        bar=None if length is None or width is None else (length[0] / width, length[1]),
        caption=_caption(ds, chosen, length),
        call=f"import xarray\n\nds = {python_call(ds, keywords)}",
        dtype=image.dtype,
        shape=(round(image.sizes["y"] * aspect), image.sizes["x"]),
    )


def _names(image: xr.DataArray) -> dict[str, str]:
    """Say what read the names."""
    convention, pattern = (image.attrs.get(key) for key in ("convention", "pattern"))
    if not pattern:
        return {}
    known = convention not in (None, "inferred")
    return {"names": f"convention {convention}" if known else str(pattern)}


def _of_pixels(pictures: list[list[Picture]]) -> list[Finding]:
    """Say which of the planes that were read could not be, or are the same all over."""
    every = [picture for row in pictures for picture in row]
    broken = [p for p in every if p.problem not in ("", NO_FILE)]
    flat = [p for p in every if not p.problem and p.low == p.high]
    found = [
        Finding("cannot be read", len(broken), [f"{p.where}: {p.problem}" for p in broken]),
        Finding(
            "planes of one value",
            len(flat),
            [f"{p.where}: all pixels are {label_text(p.low)}" for p in flat],
        ),
    ]
    return [finding for finding in found if finding.number]


def _verdict(files: Files | None, found: list[Finding], planes: int) -> list[str]:
    """Say whether it is all right, in sentences."""
    serious = {finding.name: finding.number for finding in found if finding.serious}
    said = []
    if files is not None:
        said.append(_files_in_words(files))
        if files.elsewhere:
            said.append("The files are not on this computer; what is shown comes from the store.")
    others = {name: n for name, n in serious.items() if name not in ("missing", "empty")}
    if others:
        listed = ", ".join(f"{name} ({number:,})" for name, number in others.items())
        said.append(f"Look at: {listed}.")
    elif not serious:
        said.append(f"No problem found in the names, the sizes and {counted(planes, 'plane')}.")
    return said


def _files_in_words(files: Files) -> str:
    """Say how many files there are, and how many are not, or hold nothing."""
    slots = files.paths.size
    missing, empty = (int(files.are(state).sum()) for state in ("missing", "empty"))
    if not missing and not empty:
        return (
            "The one file is there." if slots == 1 else f"All {counted(slots, 'file')} are there."
        )
    parts = [f"{missing:,} {'is' if missing == 1 else 'are'} missing"] if missing else []
    parts += [f"{empty:,} {'is' if empty == 1 else 'are'} empty"] if empty else []
    good = slots - missing - empty
    held = f"{good:,} of {counted(slots, 'file')} {'is' if good == 1 else 'are'} there"
    return f"{held}; {' and '.join(parts)}."


def _heads(ds: xr.Dataset, chosen: Selection) -> list[list[str]]:
    """Label of each column, and its time."""
    if chosen.along is None:
        return []
    along = chosen.along
    labels = ds[along].values if along in ds.coords else range(ds.sizes[along])
    unit = " µm" if along in voxel(ds) else ""
    heads = [[f"{along} {label_text(labels[at[along]])}{unit}"] for at in chosen.columns]
    times = clock(ds)
    if times is not None and times.dim == along:
        for head, at in zip(heads, chosen.columns, strict=True):
            time = float(times.times[at[along]])
            head.append(duration(time) if time == time else "")
    return heads


def _caption(ds: xr.Dataset, chosen: Selection, length: tuple[float, str] | None) -> str:
    """Say which planes are shown, and what the scale bar is."""
    image = image_of(ds)
    said = []
    for dim, at in chosen.fixed.items():
        if image.sizes[dim] > 1:
            label = label_text(ds[dim].values[at]) if dim in ds.coords and dim != "z" else at
            said.append(f"{dim} {label} of {image.sizes[dim]}")
    if "z" in image.dims and "z" not in chosen.fixed and chosen.along != "z":
        what = "the maximum along z," if chosen.plane == "max" else f"z {chosen.plane}"
        said.append(f"{what} of {image.sizes['z']}")
    if chosen.along is not None and len(chosen.columns) < image.sizes[chosen.along]:
        said.append(f"{len(chosen.columns)} of {image.sizes[chosen.along]:,} along {chosen.along}")
    everyone = image.sizes[chosen.channel_dim] if chosen.channel_dim else 1
    if len(chosen.channels) < everyone:
        said.append(f"the first {len(chosen.channels)} of {everyone} channels")
    if length is not None:
        said.append(f"the bar is {length[1]}")
    return f"Shown: {'; '.join(said)}." if said else ""
