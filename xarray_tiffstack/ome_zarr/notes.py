"""What a store says of itself: of what it was made, and how far it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xarray_tiffstack.ome_zarr import place
from xarray_tiffstack.ome_zarr.journal import NOTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_tiffstack.ome_zarr.pixels import Target
    from xarray_tiffstack.ome_zarr.plan import Plan


def read_notes(target: Target) -> dict[str, Any] | None:
    """Read what a store says of itself; None where there is no store.

    Where a power failure damaged the root, or where it is in the cloud and not complete, its state
    is ``"writing"``, with the settings from the group of this program; or else ``"damaged"``.
    """
    keys = ("zarr.json", ".zgroup", ".zattrs")
    files = place.read(target, (*keys, *(f"{NOTES}/{key}" for key in keys)))
    root, own = _attributes(files, ""), _attributes(files, f"{NOTES}/")
    if root is not None and "damaged" not in root:
        return dict(root.get(NOTES, {}))
    if own and own.get("settings"):
        return {"state": own.get("state", "writing"), "settings": own["settings"]}
    return None if root is None else {"state": "damaged"}


def is_root_damaged(target: Target) -> bool:
    """Whether a store has a root that is no JSON: whether it was complete is not known then."""
    files = place.read(target, ("zarr.json", ".zgroup", ".zattrs"))
    return "damaged" in (_attributes(files, "") or {})


def is_begun(notes: Mapping[str, Any] | None) -> bool:
    """Whether blocks can be written to what says this of itself."""
    return notes is not None and notes.get("state") not in ("preparing", "damaged")


def is_growing(notes: Mapping[str, Any] | None, plan: Plan) -> bool:
    """Whether a store was begun while the same folder was still being written, and never ended."""
    about = notes or {}
    return bool(about.get("growing")) and about.get("source") == plan.collection.source


def _attributes(files: Mapping[str, bytes], folder: str) -> dict[str, Any] | None:
    """Read the attributes of a group of either format; None where there is no group."""
    try:
        if (group := files.get(f"{folder}zarr.json")) is not None:
            attributes: dict[str, Any] = json.loads(group).get("attributes", {})
            return attributes
        if (group := files.get(f"{folder}.zgroup")) is not None:
            json.loads(group)
            attributes = json.loads(files.get(f"{folder}.zattrs", b"{}"))
            return attributes
    except ValueError:  # no JSON
        return {"damaged": True}
    return None
