"""Stores opened by readers that nobody here wrote: images, collections of images, and plates."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import to_ome_zarr, write, write_acquisition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

LEVELS = 2
ORDER = ("stack", "time", "channel", "z", "y", "x")
pydantic_warns = pytest.mark.filterwarnings(  # about napari's own models, when they are imported
    "ignore:`json_encoders` is deprecated", "ignore:Using extra keyword arguments on `Field`"
)


class Store(NamedTuple):
    root: Path
    images: dict[str, xr.DataArray]
    """Path of each image in the store -> what it was written from."""


def write_image(raw: Path, root: Path, version: str) -> Store:
    """One image whose x does not begin at 0, so that its origin is seen too."""
    write_acquisition(raw)
    ds = xr.open_dataset(raw, engine="tiffstack", voxel_size=(0.5, 0.1, 0.2))
    ds = ds.isel(x=slice(2, None))
    to_ome_zarr(ds, root, levels=LEVELS, ngff_version=version)
    return Store(root, {"": ds.image})


def write_collection(raw: Path, root: Path, version: str) -> Store:
    for cell, (p, t, c) in enumerate(product(range(2), range(3), range(2))):
        write(raw / f"cell_p{p}_t{t}_c{c}.tif", cell)
    pattern = "cell_p{position:d}_t{time:d}_c{channel:d}.tif"
    ds = xr.open_dataset(raw, engine="tiffstack", pattern=pattern, voxel_size=(0.5, 0.1, 0.1))
    to_ome_zarr(ds, root, levels=LEVELS, ngff_version=version)
    return Store(root, {str(p): ds.image.isel(position=p) for p in range(2)})


def write_plate(raw: Path, root: Path, version: str) -> Store:
    for cell, (well, f, c) in enumerate(product(("A01", "B03"), range(2), range(2))):
        write(raw / f"{well}_f{f}_c{c}.tif", cell, shape=(6, 8))
    pattern = "{well}_f{field:d}_c{channel:d}.tif"
    ds = xr.open_dataset(raw, engine="tiffstack", pattern=pattern, voxel_size={"y": 0.1, "x": 0.1})
    to_ome_zarr(ds, root, levels=LEVELS, ngff_version=version)
    paths = {"A01": "A/01", "B03": "B/03"}
    images = {
        f"{path}/{f}": ds.image.sel(well=well, field=f)
        for (well, path), f in product(paths.items(), range(2))
    }
    return Store(root, images)


def stores(
    *writers: Callable[[Path, Path, str], Store], versions: Sequence[str] = ("0.5", "0.4")
) -> Any:
    """Give a test the store that each writer makes, in some versions of the format."""
    return pytest.mark.parametrize(
        "store",
        [pytest.param((w, v), id=f"{w.__name__[6:]}-{v}") for w in writers for v in versions],
        indirect=True,
    )


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    writer, version = request.param
    folder = tmp_path_factory.mktemp("store")
    return writer(folder / "raw", folder / "a.zarr", version)


def levels(image: xr.DataArray) -> list[xr.DataArray]:
    """Pixels and positions that each level should have."""
    image = image.transpose(*(d for d in ORDER if d in image.dims))
    coarse = image.coarsen(y=2, x=2).mean()
    return [image, coarse.copy(data=np.floor(coarse + 0.5))]


def step(image: xr.DataArray, dim: str) -> float:
    """Distance of pixels, as the Dataset says it."""
    if dim == "stack":
        return 43748  # milliseconds, from the names of the files
    return float(np.diff(image[dim][:2])[0]) if dim in "zyx" else 1


def block(group: zarr.Group) -> dict[str, Any]:
    attrs = dict(group.attrs)
    return attrs.get("ome", attrs)


def axes_of(multiscale: dict[str, Any]) -> list[dict[str, Any]]:
    """Axes of an image; from 0.6 on those of the coordinate system that its levels lead to."""
    if "axes" in multiscale:
        axes: list[dict[str, Any]] = multiscale["axes"]
        return axes
    output = multiscale["datasets"][0]["coordinateTransformations"][0]["output"]["name"]
    (system,) = (s for s in multiscale["coordinateSystems"] if s["name"] == output)
    return list(system["axes"])


def steps_of(transforms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Scale and translation of a level; from 0.6 on they are within a sequence."""
    if transforms[0]["type"] == "sequence":
        return list(transforms[0]["transformations"])
    return transforms


def listed(root: zarr.Group) -> Iterator[str]:
    """Paths of the images that a store's own metadata leads to."""
    top = block(root)
    if "plate" in top:
        for well in top["plate"]["wells"]:
            fields = block(root[well["path"]])["well"]["images"]
            yield from (f"{well['path']}/{field['path']}" for field in fields)
    elif "bioformats2raw.layout" in top:
        yield from block(root["OME"])["series"]
    else:
        yield ""


@stores(write_image, write_collection, write_plate, versions=("0.6", "0.5", "0.4"))
def test_zarr_alone_leads_to_pixels_and_positions(store):
    root = zarr.open_group(store.root, mode="r")
    assert list(listed(root)) == list(store.images)
    for path, image in store.images.items():
        group = zarr.open_group(store.root, path=path, mode="r")
        (multiscale,) = block(group)["multiscales"]
        names = tuple(axis["name"] for axis in axes_of(multiscale))
        assert len(multiscale["datasets"]) == LEVELS
        for level, expected in zip(multiscale["datasets"], levels(image), strict=True):
            array = group[level["path"]]
            assert names == expected.dims
            if array.metadata.zarr_format == 3:
                assert array.metadata.dimension_names == names
            np.testing.assert_array_equal(array[:], expected)
            scale, origin = steps_of(level["coordinateTransformations"])
            for i, dim in enumerate(names):
                if dim in "zyx":
                    place = origin["translation"][i] + scale["scale"][i] * np.arange(array.shape[i])
                    np.testing.assert_allclose(place, expected[dim], rtol=1e-6)


@stores(write_image, write_collection, write_plate)
@pydantic_warns
def test_bioio_opens_each_image(store):
    bioio = pytest.importorskip("bioio_ome_zarr")
    for path, image in store.images.items():
        reader = bioio.Reader(store.root / path)
        full, coarse = levels(image)
        assert reader.resolution_levels == (0, 1)
        assert reader.xarray_data.dims == tuple(str(d).upper() for d in full.dims)
        np.testing.assert_array_equal(reader.data, full)
        size = reader.physical_pixel_sizes
        for dim, found in zip("zyx", (size.Z, size.Y, size.X), strict=True):
            assert found == (pytest.approx(step(full, dim)) if dim in full.dims else None)
        unit = "" if path else " nm"
        assert reader.channel_names == [f"{c}{unit}" for c in full.channel.values]
        reader.set_resolution_level(1)
        np.testing.assert_array_equal(reader.data, coarse)


@stores(write_image, write_collection, versions=("0.6", "0.5", "0.4"))
@pytest.mark.filterwarnings("ignore")  # another package's
def test_ngff_zarr_places_each_image(store):
    ngff_zarr = pytest.importorskip("ngff_zarr")
    for path, image in store.images.items():
        found = ngff_zarr.from_ngff_zarr(str(store.root / path)).images
        for level, expected in zip(found, levels(image), strict=True):
            assert tuple(level.dims) == expected.dims
            np.testing.assert_array_equal(level.data, expected)
            for dim in set(expected.dims) & set("zyx"):
                place = level.translation[dim] + level.scale[dim] * np.arange(expected.sizes[dim])
                np.testing.assert_allclose(place, expected[dim], rtol=1e-6)


class Layer(NamedTuple):
    name: str
    levels: list[Any]
    meta: dict[str, Any]


def layers(path: Path) -> list[Layer]:
    """Layers that napari would show, one a channel, without napari's window."""
    plugin = pytest.importorskip("napari_ome_zarr")
    read = plugin.napari_get_reader(str(path))
    assert read is not None
    found = []
    for data, meta, kind in read(str(path)):
        assert kind == "image"
        axis = meta.get("channel_axis")
        if axis is None:
            found.append(Layer(meta["name"], data, meta))
        else:  # before version 0.11 the plugin left it to napari to split channels
            for i, name in enumerate(meta["name"]):
                found.append(Layer(name, [np.take(level, i, axis) for level in data], meta))
    return found


def check_layers(found: list[Layer], image: xr.DataArray) -> None:
    for i, layer in enumerate(found):
        for pixels, expected in zip(layer.levels, levels(image), strict=True):
            np.testing.assert_array_equal(pixels, expected.isel(channel=i))
        plain = levels(image)[0].isel(channel=i)
        assert list(layer.meta["axis_labels"]) == list(plain.dims)
        assert list(layer.meta["scale"]) == pytest.approx([step(plain, d) for d in plain.dims])
    assert [layer.name.split(": ")[1].split()[0] for layer in found] == [
        str(c) for c in image.channel.values
    ]


@stores(write_image, write_collection, write_plate, versions=("0.6", "0.5", "0.4"))
@pydantic_warns
def test_napari_shows_each_image(store):
    for path, image in store.images.items():
        check_layers(layers(store.root / path), image)


@stores(write_collection)
@pydantic_warns
def test_napari_shows_a_collection(store):
    found = layers(store.root)
    assert len(found) == 4
    for p, image in enumerate(store.images.values()):
        check_layers(found[2 * p : 2 * p + 2], image)


def overview(store: Store) -> list[xr.DataArray]:
    """Levels of a picture of the plate: the first field of each well, zeros where there is none."""
    pictures = []
    for a01, b03 in zip(
        levels(store.images["A/01/0"]), levels(store.images["B/03/0"]), strict=True
    ):
        empty = xr.zeros_like(a01).values
        rows = [[a01.values, empty], [empty, b03.values]]
        pictures.append(np.block(rows))
    return pictures


@stores(write_plate)
@pydantic_warns
def test_napari_shows_a_plate(store):
    found = layers(store.root)
    assert len(found) == 2
    for i, layer in enumerate(found):
        for pixels, expected in zip(layer.levels, overview(store), strict=True):
            np.testing.assert_array_equal(pixels, expected[i])
        assert list(layer.meta["scale"]) == pytest.approx([0.1, 0.1])


@stores(write_plate)
@pytest.mark.filterwarnings("ignore")  # another package's
def test_ome_zarr_py_shows_a_plate(store):
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    (node,) = Reader(parse_url(store.root))()
    for found, expected in zip(node.data, overview(store), strict=True):
        np.testing.assert_array_equal(found, expected)


@stores(write_image, write_collection, write_plate)
@pytest.mark.filterwarnings("ignore")  # another package's
def test_ome_zarr_py_scales_each_image(store):
    pytest.importorskip("ome_zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    for path, image in store.images.items():
        (node,) = Reader(parse_url(store.root / path))()
        transforms = node.metadata["coordinateTransformations"]
        found = zip(node.data, transforms, levels(image), strict=True)
        for data, (scale, origin), expected in found:
            np.testing.assert_array_equal(data, expected)
            for i, dim in enumerate(expected.dims):
                if dim in "zyx":
                    place = origin["translation"][i] + scale["scale"][i] * np.arange(data.shape[i])
                    np.testing.assert_allclose(place, expected[dim], rtol=1e-6)
