"""Everything of a store but its pixels: groups, labels, NGFF attributes, and the empty arrays.

Written to a root in memory, whose files are then compared with those of the store one by one.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
import zarr
from zarr.errors import ZarrUserWarning

from xarray_tiffstack.ome_zarr import metadata as ngff
from xarray_tiffstack.ome_zarr import skew
from xarray_tiffstack.ome_zarr.images import PLATE
from xarray_tiffstack.ome_zarr.journal import FIELDS, NOTES, REASONS, path_of
from xarray_tiffstack.ome_zarr.keeping import rooms
from xarray_tiffstack.ome_zarr.levels import level_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from zarr.abc.store import Store as ZarrStore

    from xarray_tiffstack.ome_zarr.images import Image, Slot
    from xarray_tiffstack.ome_zarr.pixels import Target
    from xarray_tiffstack.ome_zarr.plan import Plan

XML = "OME/METADATA.ome.xml"


class Documents:
    """What is written of a plan beside its pixels.

    Parameters
    ----------
    plan
        What is converted.
    store
        Where to.
    growing
        Whether time points will be added.
    old
        The store as it is, whose labels keep the chunks that readers have heard of.
    """

    def __init__(
        self,
        plan: Plan,
        store: ZarrStore | str,
        growing: bool = False,
        old: zarr.Group | None = None,
    ) -> None:
        self.plan, self.settings, self.collection = plan, plan.settings, plan.collection
        self.store, self.growing, self.old = store, growing, old
        self.format = ngff.zarr_format(plan.settings.ngff_version)
        self.root: zarr.Group

    def create(self) -> None:
        """Write all groups, labels and empty arrays."""
        notes: Any = {NOTES: {"state": "preparing"}}
        self.root = zarr.open_group(self.store, mode="w", zarr_format=self.format, attributes=notes)
        groups = ngff.collections(self.collection, self.settings.ngff_version)
        for path, attrs in groups.items():
            if path:
                self.root.require_group(path).update_attributes(attrs)
        for image, level in self.plan.places:
            self._create_level(image, level)
        # What a power failure may damage in the root is kept once more here.
        own = {
            "settings": asdict(self.settings),
            "images": [image.path for image in self.plan.images],
            "names": self.plan.nodes,
        }
        self.root.require_group(NOTES).update_attributes(own)
        for step, grid in enumerate(self.plan.grids):
            self.root.require_group(f"{NOTES}/pass{step}")
            entries = len(FIELDS) + len(self.plan.passes[step].writes)
            self._create_array(
                path_of(step),
                ("image", *(f"{d}_block" for d in self.plan.axes), "entry"),
                shape=(len(self.plan.images), *grid, entries),
                chunks=(1,) * (1 + len(grid)) + (entries,),
                dtype="float64",  # holds 32 bits of a checksum, and NaN for what is not written
                fill_value=np.nan,
                compressors=None,
                separator=".",  # one folder, however many blocks there are
            )
        for path, room in rooms(self.settings, self.collection).items():
            self._create_array(path, separator=".", **room)
        self.require_reasons()

    def require_reasons(self) -> None:
        """Write where it is said why files could not be read, if a store lacks it."""
        if REASONS in self.root:
            return
        shape = (len(self.plan.images), *self.plan.grids[0])
        self._create_array(
            REASONS,
            ("image", *(f"{d}_block" for d in self.plan.axes)),
            shape=shape,
            chunks=(1,) * len(shape),
            dtype=str,
            fill_value="",
            compressors=None,
            separator=".",
        )

    def _create_level(self, image: Image, level: int) -> None:
        """Write the coordinates of one level of one image, and the metadata of its pixels."""
        settings = self.settings
        path = image.group(level)
        ds = self.collection.ds
        if self.growing and "present" in ds.coords:  # others look at it before there are pixels
            ds = ds.assign_coords(present=xr.zeros_like(ds["present"]))
        labels = self.labels(image, level, ds)
        for name in labels.variables if self.old is not None else ():
            if (chunks := self._old_chunks(f"{path}/{name}", labels[name].ndim)) is not None:
                labels[name].encoding["chunks"] = chunks
        labels.to_zarr(
            self.root.store, group=path, mode="w", consolidated=False, zarr_format=self.format
        )
        shape, chunk, shard = settings.shape(level), settings.chunk(level), settings.shard(level)
        self._create_array(
            f"{path}/image",
            self.plan.axes,
            shape=tuple(shape.values()),
            chunks=tuple(chunk.values()),
            shards=tuple(shard.values()) if shard else None,
            dtype=settings.dtype,
            fill_value=0 if self.format == 3 else None,  # xarray masks the one that Zarr 2 names
            compressors=settings.compressors,
            attributes=dict(ds["image"].attrs),
            separator="/",
        )

    def _old_chunks(self, path: str, ndim: int) -> tuple[int, ...] | None:
        """Chunks of an array that is there; None where a power failure took it."""
        try:
            array: Any = self.old[path] if self.old is not None else None
        except (KeyError, ValueError):
            return None
        return array.chunks if array is not None and len(array.chunks) == ndim > 0 else None

    def labels(self, image: Image, level: int, ds: xr.Dataset | None = None) -> xr.Dataset:
        """Coordinates of one level of one image, as they are written."""
        ds = self.collection.ds if ds is None else ds
        part = ds.drop_vars("image").isel(image.at, missing_dims="ignore")
        labels = level_labels(part, self.settings.factors[level])
        # Zarr 3 knows text of any length, and none of a fixed length.
        cast = {n: v.astype(object) for n, v in labels.coords.items() if v.dtype.kind in "UT"}
        if self.growing:  # a slot without a file may come, whose number is NaN
            cast |= {
                n: v.astype(float)
                for n, v in labels.coords.items()
                if v.dtype.kind in "iu" and v.ndim and n not in labels.dims
            }
        return labels.assign_coords(cast)

    def _create_array(
        self, path: str, dims: Sequence[str], *, separator: Literal[".", "/"], **kwargs: Any
    ) -> None:
        """Create an array whose dimensions have names, as either format has them."""
        encoding = "default" if self.format == 3 else "v2"
        kwargs["chunk_key_encoding"] = {"name": encoding, "separator": separator}
        if self.format == 3:
            kwargs["dimension_names"] = dims
        else:
            kwargs["attributes"] = {**kwargs.get("attributes", {}), "_ARRAY_DIMENSIONS": list(dims)}
        self.root.create_array(path, **kwargs)

    def describe(self, limits: Mapping[int, tuple[float, float]]) -> dict[str, Any]:
        """Write the NGFF attributes of images in groups, and return those of the root."""
        settings = self.settings
        root = ngff.collections(self.collection, settings.ngff_version).get("", {})
        for image in self.plan.images:
            described = ngff.image_attributes(
                self.collection, image, settings.factors, settings.ngff_version, limits,
                settings.method,
            )  # fmt: skip
            described |= skew.described(self.collection.ds["image"].attrs)
            if image.path:
                self.root.require_group(image.path).update_attributes(described)
            else:
                root = described
        return root

    def write_labels(self, failed: Iterable[Slot]) -> None:
        """Write coordinates anew: times that came since, and ``present`` where a file failed."""
        ds = self.collection.ds
        if "present" in ds.coords:
            present = ds["present"].transpose(*self.collection.slot_dims).copy(deep=True)
            for slot in failed:
                present.values[slot] = False
            ds = ds.assign_coords(present=present.transpose(*ds["present"].dims))
        for image, level in self.plan.places:
            path = image.group(level)
            labels = self.labels(image, level, ds)
            for name, values in labels.variables.items():
                array: Any = self.root[f"{path}/{name}"]
                if array.shape != values.shape:
                    array.resize(values.shape)
                # Of text in another order than C, zarr 3.1 mixes up the items.
                array[...] = np.asarray(values.values, order="C")
            self.root.require_group(path).update_attributes(labels.attrs)

    def consolidate(self, levels: bool) -> None:
        """Gather all metadata in the root, where xarray looks for them first.

        Those of each level in its group, too, where a reader may look while its arrays grow.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZarrUserWarning)  # that others do not know it
            for image, level in self.plan.places if levels else ():
                zarr.consolidate_metadata(self.root.store, path=image.group(level))
            self.root = zarr.consolidate_metadata(self.root.store)


def extends(
    documents: Documents, target: Target, image: Image, level: int, time: str | None = None
) -> bool:
    """Whether the labels of a level of the store are those of a plan, or begin them along time.

    Numbers may differ in their last digits, and attributes other than units: other versions of this
    program wrote other ones, and no row and column of a well beside its name.
    """
    try:
        old = xr.open_zarr(target, group=image.group(level), chunks=None, consolidated=False)
    except FileNotFoundError:  # another image began later
        return False
    old, new = old.drop_vars("image").load(), documents.labels(image, level)
    if "well" in old.variables and not {*PLATE} & {*old.variables}:
        new = new.drop_vars(PLATE, errors="ignore")
    kinds = [{n: (v.dims, _kind(v.dtype)) for n, v in ds.variables.items()} for ds in (old, new)]
    if kinds[0] != kinds[1]:
        return False
    moving = {"present"}
    if time is not None and time in old.sizes:
        if old.sizes[time] > new.sizes[time]:
            return False
        new = new.isel({time: slice(old.sizes[time])})
        moving |= {str(n) for n, v in new.variables.items() if time in v.dims and n != time}
    return all(_alike(old[n], new[n]) for n in new.variables if n not in moving)


def _alike(old: xr.DataArray, new: xr.DataArray) -> bool:
    """Whether labels are the same but for their last digits."""
    if old.shape != new.shape or old.attrs.get("units") != new.attrs.get("units"):
        return False
    if new.dtype.kind == "f":
        return np.allclose(old.values, new.values, rtol=1e-9, equal_nan=True)
    return bool((old.values == new.values).all())


def _kind(dtype: np.dtype[Any]) -> str:
    """Kind of a type; text is one kind, however it is kept."""
    return "text" if dtype.kind in "OTU" else dtype.kind
