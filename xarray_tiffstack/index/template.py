"""All of an index but its references: what a conversion writes, with other arrays of pixels."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import zarr

from xarray_tiffstack.index.codecs import create_array
from xarray_tiffstack.ome_zarr.documents import Documents
from xarray_tiffstack.ome_zarr.journal import NOTES

if TYPE_CHECKING:
    from xarray_tiffstack.index.files import Files
    from xarray_tiffstack.index.pixels import Limits
    from xarray_tiffstack.index.references import References
    from xarray_tiffstack.ome_zarr.plan import Plan


class Template:
    """The groups, labels and empty arrays of an index, in memory.

    Parameters
    ----------
    plan
        What a conversion would write.
    refs
        Where its pixels are.
    files
        The files of those.
    index
        Path of the index.
    """

    def __init__(self, plan: Plan, refs: References, files: Files, index: str) -> None:
        self.plan, self.refs, self.files, self.index = plan, refs, files, index
        self._made: dict[str, Any] = {}
        self._documents = Documents(plan, zarr.storage.MemoryStore(self._made))

    def make(self, limits: Limits) -> dict[str, bytes]:
        """Give the bytes of every key; `limits` are the intensities to display."""
        self._documents.create()
        root, settings = self._documents.root, self.plan.settings
        for step in range(len(self.plan.passes)):  # an index is never half finished
            del root[f"{NOTES}/pass{step}"]
        for image in self.plan.images:
            create_array(
                root,
                f"{image.group(0)}/image",
                self._of_image(),
                tuple(settings.shape(0).values()),
                self.plan.axes,
                self.plan.collection.dtype,
                self.plan.collection.ds["image"].attrs,
                self._documents.format,
            )
        self.files.write(root, self.index)
        return self.describe(limits)

    def describe(self, limits: Limits) -> dict[str, bytes]:
        """Write what viewers ask for, with other intensities to display."""
        described = self._documents.describe(limits)
        if self._documents.format == 2:  # icechunk has no need of it
            self._documents.consolidate(levels=False)
        notes = {"state": "complete", "settings": asdict(self.plan.settings), "index": True}
        self._documents.root.update_attributes({**described, NOTES: notes})
        return {key: data.to_bytes() for key, data in self._made.items()}

    def _of_image(self) -> References:
        """Give the references dimensions of one image."""
        dims = [str(d) for d in self.plan.variable.dims]
        kept = [i for i, d in enumerate(dims) if d in self.plan.axes]
        return replace(
            self.refs,
            chunks=tuple(self.refs.chunks[i] for i in kept),
            order=tuple(kept.index(i) for i in self.refs.order if i in kept),
            across=kept.index(self.refs.across),
        )
