"""An index takes copies of its files: their bytes are compared, and their times or ETags noted."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zarr

from xarray_tiffstack.index import ice
from xarray_tiffstack.index.codecs import allow_irregular
from xarray_tiffstack.index.files import GROUP, Files, difference, look, settle
from xarray_tiffstack.index.open import KERCHUNK, place_of, repository_of
from xarray_tiffstack.index.samples import ENTIRE, PIECE, PIECES, fingerprints
from xarray_tiffstack.messages import counted, first_lines
from xarray_tiffstack.storage import is_url

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping


@dataclass(frozen=True)
class Renewed:
    """What an index says of its files now."""

    index: str
    """The index."""
    source: str
    """The folder of its files, or the URL of it."""
    files: int
    """Files that it refers to."""
    renewed: int
    """How many of them had other times or ETags, and were compared."""
    entire: bool
    """Whether they were compared by the SHA-256 of all their bytes, or by samples."""
    seconds: float = 0

    def __str__(self) -> str:
        """Say it in a line."""
        how = (
            "SHA-256" if self.entire else f"size, and {PIECES} samples of {PIECE // 1024} KiB each"
        )
        if not self.renewed:
            return (
                f"{self.index}: {counted(self.files, 'file')} in {self.source} have the times that "
                "it knows; nothing was compared"
            )
        return (
            f"{self.index}: {self.renewed} of {counted(self.files, 'file')} had other times or "
            f"ETags, and the same bytes ({how}); it refers to {self.source} now"
        )


def renew_index(
    index: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> Renewed:
    """Have an index take copies of its files, which have other times than the originals.

    An index knows files by their sizes and times, so after an upload, or a copy with new times,
    reading it is an error. This compares the bytes of each file with what the index remembers of
    them. If all are the same, their new times (or ETags, in a bucket) are written to the index, as
    a new commit; earlier states stay as they are.

    Parameters
    ----------
    index : str or path
        ``NAME.icechunk``, also at ``s3://``.
    source : str or path, optional
        Folder of the files now, or its URL; by default as for `open_index`.
    storage_options : mapping, optional
        How a URL is reached, as for ``xarray.open_dataset``.

    Returns
    -------
    Renewed
        How many files were compared, and how.

    Raises
    ------
    ValueError
        Files are gone or are others; the message names them, and nothing was written.
    OSError
        The index cannot be read or written, or files changed meanwhile.

    Notes
    -----
    Of each file of another time 32 KiB are read: 4 KiB at 8 places, from its first byte to its
    last. That finds a file that was cut short, and another recording in the place of this one. It
    does not prove that no byte between the samples changed. The SHA-256 does, of an index that was
    made with ``hashes=True``; all bytes are read for it.
    """
    started = time.perf_counter()
    target = place_of(index)
    if target.endswith(KERCHUNK):
        raise ValueError(
            "references of kerchunk are not renewed: make them again with overwrite=True"
        )
    if is_url(target) and not target.isascii():
        raise ValueError(
            f"icechunk cannot write to {target}: move the index to a place whose name has letters "
            "of English only; the names of the files, and of their folder, may have any"
        )
    repository, files = repository_of(target, source, storage_options)
    found, renewed = _compared(files, target)
    repo = repository.open(write=True)
    session = repo.writable_session("main")
    group = zarr.open_group(session.store, mode="r+")
    if renewed or group[GROUP].attrs["root"] != files.root:
        _write(session.store, group, repository, found, target)
        session.commit(f"{counted(len(found.paths), 'file')} of {found.root}, renewed")
        repo.save_config()  # so that others need not say where the folder is
    assert found.prints is not None
    return Renewed(
        index=str(index),
        source=found.root,
        files=len(found.paths),
        renewed=renewed,
        entire=found.prints.shape[1] == ENTIRE,
        seconds=time.perf_counter() - started,
    )


def _compared(files: Files, index: str) -> tuple[Files, int]:
    """Compare the files that have other times; returns all with these, and how many they are."""
    if files.prints is None:
        raise ValueError(
            f"{index} was made by an older version, which remembered no bytes of files: index them "
            "again with overwrite=True"
        )
    paths, before = files.full(), files.states()
    now, times = settle(paths)
    wrong: dict[str, str] = {}
    other = []
    for k, (old, new) in enumerate(zip(before, now, strict=True)):
        if new is None or new[0] != old[0]:
            wrong[files.paths[k]] = difference(old, new)
        elif new != old:
            other.append(k)
    entire = files.prints.shape[1] == ENTIRE
    made = fingerprints([paths[k] for k in other], [before[k][0] for k in other], entire)
    for k, same in zip(other, (made == files.prints[other]).all(axis=1).tolist(), strict=True):
        if not same:
            wrong[files.paths[k]] = "has other bytes"
    if wrong:
        lines = (f"{path} {what}" for path, what in wrong.items())
        raise ValueError(
            f"{len(wrong)} of {counted(len(paths), 'file')} in {files.root} are not those that "
            f"{index} was made of:\n{first_lines(lines, len(wrong))}\n"
            "Nothing was written. Put back what they were, or index the folder again with "
            "overwrite=True."
        )
    if look(paths) != now:
        raise OSError(f"files in {files.root} changed meanwhile: renew again when nothing writes")
    return files.seen(now, times), len(other)


def _write(
    store: Any, group: zarr.Group, repository: ice.Repository, files: Files, index: str
) -> None:
    """Write the references again, with the times or ETags that files have now."""
    targets = ice.Targets(repository.icechunk, files)
    names = {path: k for k, path in enumerate(files.paths)}
    irregular = zarr.config.get("array.rectilinear_chunks", None) is not None
    with allow_irregular() if irregular else nullcontext():
        for path, array in group.members(max_depth=None):
            if path.rpartition("/")[2] == "image" and isinstance(array, zarr.Array):
                found = ice.referred(store, array, repository.prefix, names)
                targets.refer(store, path, *found)
    files.write(group, index)
