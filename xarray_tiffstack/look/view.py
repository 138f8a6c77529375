"""neuroglancer set up for a Dataset: a layer a channel, in its colour, contrast and true size.

https://github.com/google/neuroglancer shows it in a browser; what it asks for, `serve` reads.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import numpy as np
import xarray as xr

from xarray_tiffstack.look.serve import Server
from xarray_tiffstack.look.served import Served
from xarray_tiffstack.look.skew import affine
from xarray_tiffstack.messages import one_of

if TYPE_CHECKING:
    from xarray_tiffstack.look.pyramid import Seen
    from xarray_tiffstack.ome_zarr.skew import Direction

Layout: TypeAlias = Literal["xy", "4panel", "3d"]

SEEN: dict[Layout, Seen] = {"xy": "planes", "4panel": "sides", "3d": "volume"}
INSTALL = 'pip install "xarray-tiffstack[view]"'
SCREEN = 800  # pixels of a window that an image fits into at first
PER_UNIT = {"nanometer": (1e-9, "m"), "micrometer": (1e-6, "m"), "millimeter": (1e-3, "m"),
            "millisecond": (1e-3, "s"), "second": (1.0, "s"), "minute": (60.0, "s"),
            "hour": (3600.0, "s")}  # fmt: skip
TILTED = (0.34, 0.14, 0.05, 0.93)  # a volume is seen from above, a little from the side
COLOURED = """#uicontrol invlerp contrast
#uicontrol vec3 colour color(default="#{colour}")
void main() {{
  float v = contrast();
  if (VOLUME_RENDERING) {{ emitIntensity(v); emitRGBA(vec4(colour * v, v)); }}
  else emitRGB(colour * v);
}}
"""
HATCHED = """#uicontrol vec3 colour color(default="#{colour}")
void main() {{
  bool stripe = mod(gl_FragCoord.x + gl_FragCoord.y, 40.0) < 4.0;
  if (toRaw(getDataValue()) == 1u && stripe) emitRGBA(vec4(colour, 0.6)); else emitTransparent();
}}
"""


class _Frame:
    """Axes, position and size of an image, as neuroglancer wants them.

    Parameters
    ----------
    multiscale
        The NGFF metadata of the image.
    sizes
        Length of each axis.
    matrix
        For (z, y, x, 1) in micrometers, where the image is to be turned.
    """

    def __init__(
        self, multiscale: dict[str, Any], sizes: dict[str, int], matrix: np.ndarray | None
    ) -> None:
        self.axes = multiscale["axes"]
        transforms = multiscale["datasets"][0]["coordinateTransformations"]
        self.scale, self.offset = (t[t["type"]] for t in transforms)
        self.has_channels = any(axis["type"] == "channel" for axis in self.axes)
        self.names = [axis["name"] for axis in self.axes]
        self.sizes = [sizes[name] for name in self.names]
        self.matrix = matrix
        self.step = list(self.scale)
        if matrix is not None:  # turned, x is partly z: both are told in the same unit
            finest = min(self.scale[self.names.index(d)] for d in "yx")
            self.step = [finest if d in ("z", "y", "x") else self.scale[i]
                         for i, d in enumerate(self.names)]  # fmt: skip

    def space(self, ng: Any, at: list[int], local: str = "") -> Any:
        """Describe some axes; neuroglancer calls those of channels by a name of its own."""
        units = [PER_UNIT.get(self.axes[i].get("unit", ""), (1.0, "")) for i in at]
        return ng.CoordinateSpace(
            names=[
                self.names[i] + (local if self.axes[i]["type"] == "channel" else "") for i in at
            ],
            units=[unit for _, unit in units],
            scales=[self.step[i] * factor for i, (factor, _) in zip(at, units, strict=True)],
        )

    def place(self, state: Any, ng: Any, screen: float) -> None:
        """Set axes, the middle of the image at its first time point, and how large it is."""
        kept = [i for i, axis in enumerate(self.axes) if axis["type"] != "channel"]
        kept.sort(key=lambda i: (self.axes[i]["type"] != "space", -i))  # x, y, z, and then time
        state.dimensions = self.space(ng, kept)
        middle = [
            start + (n // 2) * scale * (axis["type"] == "space")
            for start, n, scale, axis in zip(
                self.offset, self.sizes, self.scale, self.axes, strict=True
            )
        ]
        if self.matrix is not None:
            at = [self.names.index(d) for d in "zyx"]
            for i, value in zip(at, self.matrix @ [*(middle[i] for i in at), 1], strict=False):
                middle[i] = float(value)
        state.position = [middle[i] / self.step[i] for i in kept]
        lengths = [self.sizes[i] * self.scale[i] for i in kept[:2]]
        extent = max(lengths) / min(self.step[i] for i in kept[:2])
        state.cross_section_scale = extent / screen
        state.projection_scale = 1.5 * extent

    def source(self, ng: Any, url: str) -> Any:
        """Say where the pixels come from, and how they are turned."""
        if self.matrix is None:
            return url
        rank = len(self.names)
        turned = np.eye(rank, rank + 1)
        at = [self.names.index(d) for d in "zyx"]
        for i, row in zip(at, self.matrix, strict=False):
            for j, value in zip(at, row, strict=False):
                turned[i, j] = value * self.scale[j] / self.step[i]
        space = self.space(ng, list(range(rank)), local="'")
        transform = ng.CoordinateSpaceTransform(output_dimensions=space, matrix=turned)
        return ng.LayerDataSource(url=url, transform=transform)


class View(AbstractContextManager["View"]):
    """A Dataset in neuroglancer, until it is closed; a context manager.

    Parameters
    ----------
    ds
        The Dataset; of several positions or wells the first is shown.
    layout
        "xy" shows planes, "4panel" also those from the sides, "3d" renders the volume.
    host, port
        Where to listen, as in `serve.Server`.
    direction
        Way of the stage, 1 or -1, of volumes that it moved through a tilted light sheet: they are
        shown upright. By default as they are in the files.
    """

    def __init__(
        self,
        ds: xr.Dataset,
        layout: Layout = "xy",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        direction: Direction | None = None,
    ) -> None:
        one_of("layout", layout, ("xy", "4panel", "3d"))
        try:
            import neuroglancer
        except ImportError as error:
            raise ImportError(f"view needs neuroglancer: {INSTALL}") from error
        self.matrix = None if direction is None else affine(ds, direction)
        self.server = Server(ds, host=host, port=port, seen=SEEN[layout])
        served = self.server.served
        image = next(iter(served.images))
        part = ds.isel(served.images[image].at)
        missing = _missing(part, served)
        if missing is not None:
            self.server.stores["missing.zarr"] = Served(missing)
        neuroglancer.set_server_bind_address(host)
        self.viewer: Any = neuroglancer.Viewer()
        with self.viewer.txn() as state:
            self._show(state, neuroglancer, image, missing, layout)
            state.layout = layout
            state.projection_orientation = TILTED
        self.url = str(self.viewer)

    def _show(
        self, state: Any, ng: Any, path: str, missing: xr.Dataset | None, layout: Layout
    ) -> None:
        """Set axes, position and layers."""
        served = self.server.served
        described = served.described(served.images[path])["ome"]
        frame = _Frame(described["multiscales"][0], served.sizes, self.matrix)
        frame.place(state, ng, SCREEN if layout != "4panel" else SCREEN / 2)
        source = frame.source(ng, f"{self.server.url}/{path}{'/' if path else ''}|zarr3:")
        channels = described["omero"]["channels"]
        for i, channel in enumerate(channels):
            start, end = channel["window"]["start"], channel["window"]["end"]
            state.layers[channel["label"]] = ng.ImageLayer(
                source=source,
                shader=COLOURED.format(colour=channel["color"]),
                shader_controls={
                    "contrast": {"range": [start, end], "window": [start, 2 * end - start]}
                },
                local_position=[i] if frame.has_channels else [],
                blend="additive",
                opacity=1,
                volume_rendering_mode="max" if layout == "3d" else "off",
            )
        for i, channel in enumerate(channels):
            if missing is None or not _has(missing, i):
                continue
            source = frame.source(ng, f"{self.server.address}missing.zarr/|zarr3:")
            state.layers[f"{channel['label']}: no file"] = ng.ImageLayer(
                source=source,
                shader=HATCHED.format(colour=channel["color"]),
                local_position=[i] if frame.has_channels else [],
                blend="default",
                opacity=1,
            )

    def close(self) -> None:
        """End."""
        self.server.close()

    def __exit__(self, *error: object) -> None:
        """End."""
        self.close()

    def __repr__(self) -> str:
        """Say the address."""
        return f"<View at {self.url}>"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{self.url}" width="100%" height="600" style="border:0"></iframe>'
            f'<a href="{self.url}" target="_blank">{self.url}</a>'
        )

    @property
    def ports(self) -> tuple[int, int]:
        """Port of the pixels, and of the page."""
        return self.server.port, int(urlsplit(self.url).port or 0)


def _has(missing: xr.Dataset, channel: int) -> bool:
    """Whether files of a channel are missing."""
    return bool(missing["image"].isel(channel=channel, missing_dims="ignore").any())


def _missing(part: xr.Dataset, served: Served) -> xr.Dataset | None:
    """Make an image that is 1 where there is no file, as large as the other but of few voxels."""
    if "present" not in part.coords:
        return None
    absent = part["present"] != True  # noqa: E712 - a new label of reindex is NaN
    absent = absent.all([d for d in absent.dims if d not in served.axes])
    if not absent.any():
        return None
    mask = absent.astype("uint8").reset_coords(drop=True)
    labels: dict[str, Any] = {}
    for dim in served.axes:
        if dim in ("z", "y", "x") and dim not in mask.dims:
            mask = mask.expand_dims({dim: 2})
            labels[dim] = (dim, _halves(part, dim), part[dim].attrs if dim in part.coords else {})
        elif dim not in mask.dims:
            mask = mask.expand_dims({dim: served.sizes[dim]})
    labels |= {
        name: part[name].variable
        for name in ("time", "wavelength", *map(str, served.axes))
        if name in part.coords and name not in labels
    }
    image = mask.transpose(*served.axes).drop_vars(list(labels), errors="ignore")
    return xr.Dataset({"image": image.copy(data=np.ascontiguousarray(image.values))}, labels)


def _halves(part: xr.Dataset, dim: str) -> np.ndarray:
    """Positions of two voxels that together are as long as an axis."""
    along = part[dim].values if dim in part.coords else np.arange(part.sizes[dim])
    step = float(along[1] - along[0]) if len(along) > 1 else 1.0
    length = step * len(along)
    return np.asarray(along[0] - step / 2 + length * np.array([0.25, 0.75]))
