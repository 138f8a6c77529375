"""Whether a folder can be deleted: each file in it made again from a store, and compared."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from xarray_tiffstack.back.folder import about, list_folder, sha256_of
from xarray_tiffstack.back.labels import spelled
from xarray_tiffstack.back.stored import NOT_KEPT, Stored, StoredFile
from xarray_tiffstack.back.writing import proven
from xarray_tiffstack.messages import DAMAGED
from xarray_tiffstack.ome_zarr.pool import threads
from xarray_tiffstack.ome_zarr.progress import bar
from xarray_tiffstack.ome_zarr.results import Proof
from xarray_tiffstack.source import below

if TYPE_CHECKING:
    import os

    from zarr.abc.store import Store as ZarrStore

    from xarray_tiffstack.ome_zarr.progress import Shown


def prove(
    folder: str,
    store: str | os.PathLike[str] | ZarrStore,
    workers: int | None = None,
    progress: Shown = "auto",
) -> Proof:
    """Make each file of a folder again from a store, and compare its SHA-256 with the file's.

    Parameters
    ----------
    folder
        The folder of the source, as it is now. Of all files in it, and below it, hidden ones too.
    store
        What was made of it.
    workers
        Threads; by default one a processor.
    progress
        Whether to show progress.

    Raises
    ------
    FileNotFoundError, ValueError
        As of `Stored`.

    Notes
    -----
    Reads the whole folder, and the pixels of full resolution.
    """
    stored = Stored(store)
    found = stored.look()
    held = {file.path: file for file in found.files}
    unknown = f"{NOT_KEPT}, or what it keeps {DAMAGED}" if found.unnamed else NOT_KEPT
    listed = {below(folder, path): (path, size) for path, size in list_folder(folder)}

    def check(name: str) -> str | None:
        path, size = listed[name]
        if size < 0:
            return "no regular file, or a folder that cannot be listed"
        if name not in held:
            return found.lost.get(spelled(name), unknown)
        return _compared(path, held[name])

    total = sum(max(0, size) for _, size in listed.values())
    reasons: dict[str, str] = {}
    with (
        bar("proven", total, progress) as advance,
        ThreadPoolExecutor(threads(workers)) as pool,
    ):
        for name, reason in zip(listed, pool.map(check, listed), strict=True):
            advance(max(0, listed[name][1]))
            if reason:
                reasons[name] = reason
    made_by = [held[name].made_by for name in listed if name in held and held[name].made_by]
    return Proof(
        folder=folder,
        files=len(listed),
        nbytes=total,
        failed=tuple(f"{name}: {reason}" for name, reason in sorted(reasons.items())),
        gone=len(held.keys() - listed.keys()),
        encoded=len(made_by),
        made_by=", ".join(sorted(set(made_by))),
    )


def _compared(path: str, file: StoredFile) -> str | None:
    """Say what is wrong with what the store gives back of a file on the disk."""
    try:
        if about(path)[0] != file.size or sha256_of(path) != file.sha256:
            return "it has changed since it was converted"
    except OSError as error:
        return f"cannot be read: {error}"
    return proven(file)
