"""Where a store keeps of its files what is not pixels; who knows what that is, is asked for it.

In the group ``tiffstack/files``: an array with an entry for each slot, and one for the files of the
folder that are in no slot. An entry is a row of bytes, zeros behind its end; a short one is one
object of the store.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from xarray_tiffstack.ome_zarr.journal import NOTES
from xarray_tiffstack.ome_zarr.metadata import zarr_format

if TYPE_CHECKING:
    from collections.abc import Container

    from xarray_tiffstack.ome_zarr.images import Collection, Slot
    from xarray_tiffstack.ome_zarr.pixels import Target
    from xarray_tiffstack.ome_zarr.plan import Block, Plan
    from xarray_tiffstack.ome_zarr.results import Kept
    from xarray_tiffstack.ome_zarr.settings import Settings

SLOTS, OTHERS = f"{NOTES}/files/slots", f"{NOTES}/files/others"

LEAST, MOST = 1 << 16, 1 << 22  # bytes of an entry that are one object of the store


class Keeper(Protocol):
    """Who keeps of the files what is not pixels."""

    def look(self, plan: Plan) -> dict[str, Any]:
        """Look at all files before anything is written; returns how much room is needed.

        That is the longest entry of ``"slots"`` in bytes, and number and longest of ``"others"``.
        """

    def expected(self, plan: Plan) -> tuple[Kept, int]:
        """Say what will be kept, and its bytes at most, when all files were looked at."""

    def keep(self, target: Target, plan: Plan, block: Block, broken: Container[Slot]) -> None:
        """Write the entries of the files that begin in a block."""

    def keep_others(self, target: Target, plan: Plan) -> None:
        """Write the entries of the files that are in no slot."""

    def kept(self, target: Target, plan: Plan) -> Kept:
        """Say what is kept, by whichever process, when all is written; what is lost is mended."""


def with_room(plan: Plan, keeper: Keeper) -> Plan:
    """Plan also the room that a keeper needs."""
    room = keeper.look(plan)
    return replace(plan, settings=replace(plan.settings, restorable=True, kept=room))


def rooms(settings: Settings, collection: Collection) -> dict[str, dict[str, Any]]:
    """Arrays that a store needs for that: by path, what zarr is told to create them."""
    if not settings.kept:
        return {}
    if zarr_format(settings.ngff_version) == 3:
        codec: dict[str, Any] = {"name": "zstd", "configuration": {"level": 3, "checksum": True}}
    else:
        codec = {"id": "zstd", "level": 3}
    number, longest = settings.kept["others"]
    slots = collection.slot_dims
    shapes = {
        SLOTS: ({d: collection.ds.sizes[d] for d in slots}, settings.kept["slots"]),
        **({OTHERS: ({"file": number}, longest)} if number else {}),
    }
    found = {}
    for path, (entries, most) in shapes.items():
        chunk = min(max(LEAST, 1 << (most - 1).bit_length()), MOST)
        found[path] = {
            "dims": [*(f"{dim}_slot" for dim in entries), "byte"],
            "shape": (*entries.values(), -(-most // chunk) * chunk),
            "chunks": (*[1] * len(entries), chunk),
            "dtype": "uint8",
            "fill_value": 0,
            "compressors": [codec],
        }
    return found
