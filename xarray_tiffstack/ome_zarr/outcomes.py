"""What the parts of a verification found, kept in the store until all are there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import zarr

from xarray_tiffstack.ome_zarr.journal import NOTES
from xarray_tiffstack.ome_zarr.metadata import zarr_format
from xarray_tiffstack.ome_zarr.results import Difference, VerifyResult

if TYPE_CHECKING:
    from xarray_tiffstack.ome_zarr.parts import Part
    from xarray_tiffstack.ome_zarr.store import Store

OUTCOMES = "outcomes"  # group, in that of this program, with a group a part


def put_together(
    store: Store, part: Part, result: VerifyResult, outcome: dict[str, Any]
) -> VerifyResult:
    """Keep the outcome of a part; where those of all are there, note them together.

    Returns that of the part, or of all.
    """
    form = zarr_format(store.plan.settings.ngff_version)
    group = zarr.open_group(
        store.target, path=f"{NOTES}/{OUTCOMES}", mode="a", zarr_format=form, use_consolidated=False
    )
    group.create_group(_name(part.number, part.of), attributes=outcome, overwrite=True)
    found: dict[int, dict[str, Any]] = {}
    for number in range(1, part.of + 1):
        with suppress(KeyError, FileNotFoundError):
            found[number] = dict(group[_name(number, part.of)].attrs)
    missing = tuple(n for n in range(1, part.of + 1) if n not in found)
    own = (part.number, part.of)
    if missing:
        return replace(result, part=own, missing=missing)
    every = [
        Difference(each["place"], tuple(each["paths"]), each["reason"])
        for one in found.values()
        for each in one["verified"]["differences"]
    ]
    together = VerifyResult(
        sum(one["verified"]["blocks"] for one in found.values()),
        tuple(sorted(set(every), key=lambda d: d.place)),
        sum(one["verified"]["rechecked"] for one in found.values()),
    )
    damaged = sorted({(s, tuple(entry)) for one in found.values() for s, entry in one["damaged"]})
    store.note(
        verified=together.as_dict(), damaged=[[step, list(entry)] for step, entry in damaged]
    )
    forget(store)
    return replace(together, part=own)


def forget(store: Store) -> None:
    """Delete what parts found before: it holds no more, or is put together."""
    with suppress(KeyError, FileNotFoundError):
        own = zarr.open_group(store.target, path=NOTES, mode="r+", use_consolidated=False)
        del own[OUTCOMES]


def _name(number: int, of: int) -> str:
    return f"{number}-of-{of}"
