"""What a conversion does with what is at its place: decided here, for who does it and who asks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from xarray_tiffstack.messages import counted, first_lines
from xarray_tiffstack.ome_zarr.documents import Documents, extends
from xarray_tiffstack.ome_zarr.journal import finished
from xarray_tiffstack.ome_zarr.notes import is_begun, is_growing
from xarray_tiffstack.ome_zarr.settings import WORDS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from xarray_tiffstack.ome_zarr.pixels import Target
    from xarray_tiffstack.ome_zarr.plan import Block, Plan
    from xarray_tiffstack.ome_zarr.store import Store

Outcome: TypeAlias = Literal["create", "resume", "replace", "nothing", "refuse"]
# Blocks to write of a store that says so of itself, and files that changed since it was begun.
Left: TypeAlias = "Callable[[dict[str, Any]], tuple[list[Block], list[str]]]"


class Decision(NamedTuple):
    """What is done."""

    outcome: Outcome
    """Whether a store is created, resumed or replaced, left as it is, or not touched because of
    an error."""
    todo: list[Block]
    """Blocks to write."""
    reason: str = ""
    """Why it is refused."""


def decide(store: Store, notes: Mapping[str, Any] | None, overwrite: bool, left: Left) -> Decision:
    """Decide what is done with what is at the place of a store.

    Parameters
    ----------
    store
        What is to be there. It takes the settings of what is resumed.
    notes
        What is there says this of itself.
    overwrite
        Whether it may be replaced. One that was begun while the folder was still being written, and
        that cannot be resumed, is replaced in any case, but not by parts: others may be at work.
    left
        Says what is to be written of a store that is resumed.
    """
    if notes is None or not is_begun(notes):
        return Decision("create", list(store.plan.blocks))
    overwrite = overwrite or (store.part is None and is_growing(notes, store.plan))
    reason = "it was not written by to_ome_zarr"
    if "settings" in notes:
        stored = Settings(**notes["settings"])
        names = differing(store.plan, stored, store.target)
        if not names and not (overwrite and notes["state"] == "complete"):
            store.plan = replace(store.plan, settings=stored)
            todo, changed = left(dict(notes))
            if not changed:
                return Decision("resume" if todo else "nothing", todo)
            reason = of_change(changed)
        elif names:
            why = "" if overwrite else _why(store, stored)
            reason = f"it was made with other {', '.join(names)}{why}"
    if overwrite:
        return Decision("replace", list(store.plan.blocks))
    return Decision(
        "refuse",
        [],
        f"{store.target} is a store already, and {reason}\n"
        "Write elsewhere, or replace it with overwrite=True.",
    )


def differing(plan: Plan, stored: Settings, target: Target) -> list[str]:
    """Say in a user's words which settings of a store are not those of a plan."""
    names = stored.differing(plan.settings)
    if names == [WORDS["labels"]]:  # of another version, which wrote other attributes?
        documents = Documents(replace(plan, settings=stored), "")
        if all(extends(documents, target, image, 0) for image in plan.images):
            return []
    return names


def _why(store: Store, stored: Settings) -> str:
    """Which files changed since a store of the same shape and other labels was begun."""
    if stored.sizes != store.plan.settings.sizes:
        return ""
    try:
        there = type(store)(replace(store.plan, settings=stored), store.target)
        there.open("r")
        entries = there.journal.read()
    except (KeyError, ValueError, OSError):
        return ""
    if len(entries[0]) != len(store.plan.images):
        return ""
    done = [b for b in there.plan.blocks if finished(entries, b)]
    changed = there.source.changed(done, [entries[b.step][b.entry][0] for b in done])
    return f"; {of_change(changed)}" if changed else ""


def of_change(changed: Sequence[str]) -> str:
    """Say which files are not what they were."""
    return (
        f"{counted(len(changed), 'file')} changed since the conversion began:\n"
        f"{first_lines(changed)}\n"
        "Put back what they were, or convert all of it again."
    )
