"""Files written back as they were: none over another one, each seen when it is all there."""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from xarray_tiffstack.back.folder import sha256_of
from xarray_tiffstack.back.records import Damaged
from xarray_tiffstack.back.stored import Stored, StoredFile
from xarray_tiffstack.messages import DAMAGED, counted, first_lines
from xarray_tiffstack.ome_zarr.lock import locked
from xarray_tiffstack.ome_zarr.pool import threads
from xarray_tiffstack.ome_zarr.progress import bar
from xarray_tiffstack.tiff.encoding import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from zarr.abc.store import Store as ZarrStore

    from xarray_tiffstack.ome_zarr.progress import Shown

MEND = (
    "Where the raw files are still there: verify, then convert again, which writes anew what is "
    "damaged."
)
PARTIAL = ".tiffstack-partial"  # what a file is called until it is all there ends in this


@dataclass(frozen=True)
class Restored:
    """What was written back, or proven."""

    store: str
    """The store."""
    folder: str | None
    """Where the files are; None where nothing was to be written."""
    written: int
    """Files written by this call."""
    there: int
    """Files that were there already, with the right bytes."""
    nbytes: int
    """Bytes of all files."""
    failed: tuple[str, ...] = ()
    """Files whose bytes could not be made again, with the reason."""

    @property
    def ok(self) -> bool:
        """Whether each file has the SHA-256 that it had."""
        return not self.failed

    def __str__(self) -> str:
        """Return it in a few lines."""
        done = counted(self.written, "file")
        size = f"{self.nbytes / 1e6:,.1f} MB"
        if self.folder is None:
            text = f"{self.store} gives back {done} with the SHA-256 that each had ({size})"
        else:
            text = f"{done} written to {self.folder}, with the SHA-256 that each had ({size})"
            if self.there:
                text += f"; {counted(self.there, 'file')} there already, with the same SHA-256"
        if self.failed:
            text += f"\n{counted(len(self.failed), 'file')} not:\n{first_lines(self.failed)}"
            if any(DAMAGED in line for line in self.failed):
                text += f"\n{MEND}"
        return text


def restore(
    store: str | os.PathLike[str] | ZarrStore,
    folder: str | os.PathLike[str] | None = None,
    *,
    sel: Mapping[str, Any] | None = None,
    check: bool = False,
    workers: int | None = None,
    progress: Shown = "auto",
) -> Restored:
    """Write the files back that a store was made of, each with the SHA-256 that it had.

    The store must have been converted with ``restorable=True``. A file appears when all of it is
    on the disk and its SHA-256, read back from there, is the right one. Files that are there
    already with the right SHA-256 are left, so the same call resumes what was interrupted.

    Parameters
    ----------
    store : str, path or zarr store
        What ``to_ome_zarr(..., restorable=True)`` wrote.
    folder : str or path
        Where to write: below it the files lie as they lay below the folder of the source.
    sel : mapping, optional
        Only the files with these labels, such as ``{"channel": 560}``; several as a list.
    check : bool
        Write nothing: make the bytes of each file, and compare their SHA-256.
    workers : int, optional
        Threads; by default one a processor. Each holds pixels of a file as deep as a chunk.
    progress : bool or "auto"
        Show progress on standard error; "auto" does on a terminal and in a notebook.

    Returns
    -------
    Restored
        How many files; those that could not be made again are listed in ``failed``, and nothing
        of them is written.

    Raises
    ------
    FileNotFoundError
        There is no such store.
    FileExistsError
        Another file has the name of one that is to be written; nothing is written then.
    OSError
        The disk has no room for the files, and nothing is written; or a file cannot be written.
    ValueError
        The store keeps nothing of its files but their pixels, or holds no such label.

    Notes
    -----
    Reads the pixels of full resolution once, and the files once that were written.

    Examples
    --------
    >>> import numpy as np, tifffile, xarray as xr
    >>> from tempfile import TemporaryDirectory
    >>> raw, saved = TemporaryDirectory(), TemporaryDirectory()
    >>> tifffile.imwrite(f"{raw.name}/cell_t0.tif", np.ones((8, 8), "uint16"))
    >>> ds = xr.open_dataset(raw.name, engine="tiffstack", pattern="cell_t{t:d}.tif")
    >>> summary = ds.tiffstack.to_ome_zarr(f"{saved.name}/cell.ome.zarr", restorable=True)
    >>> restored = restore(f"{saved.name}/cell.ome.zarr", f"{saved.name}/raw")
    >>> restored.ok, restored.written
    (True, 1)
    >>> raw.cleanup(), saved.cleanup()
    (None, None)
    """
    number = threads(workers)
    stored = Stored(store)
    found = stored.look(sel)
    files = _safe(found.files)
    nbytes = sum(file.size for file in files)
    lacking = tuple(f"{path}: {why}" for path, why in found.lost.items())
    if check:
        failed = _each(files, proven, number, progress, "checked")
        return Restored(stored.name, None, len(files) - len(failed), 0, nbytes, failed + lacking)
    if folder is None:
        raise ValueError("restore needs a folder to write to, or check=True")
    target = Path(folder).expanduser().resolve()
    if isinstance(stored.target, Path) and target.is_relative_to(stored.target):
        raise ValueError(f"{target} is in the store: write the files elsewhere")
    above = next(path for path in (target, *target.parents) if path.exists())
    if not above.is_dir():
        raise FileExistsError(f"{above} is a file: name a folder to write to")
    with locked(target):
        todo = _not_there(files, target, number, progress)
        _check_room(todo, above)
        failed = _each(todo, lambda file: _write(file, target), number, progress, "written")
    there = len(files) - len(todo)
    written = len(todo) - len(failed)
    return Restored(stored.name, str(target), written, there, nbytes, failed + lacking)


def _check_room(todo: Sequence[StoredFile], folder: Path) -> None:
    """Refuse what does not fit on the disk, before anything is written."""
    needed, free = sum(file.size for file in todo), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"{folder} has {free / 1e6:,.1f} MB free, and {counted(len(todo), 'file')} need "
            f"{needed / 1e6:,.1f} MB. Nothing was written: make room, name another folder, or "
            "choose files with sel= (--sel)."
        )


def _safe(files: list[StoredFile]) -> list[StoredFile]:
    """Refuse paths that would lead out of the folder."""
    wrong = []
    for file in files:
        name = file.path
        parts = PurePosixPath(name).parts
        drive = os.name == "nt" and (PureWindowsPath(name).drive or "\\" in name)
        if not parts or drive or ".." in parts or parts[0] == "/":
            wrong.append(repr(name))
    if wrong:
        raise ValueError(
            f"{counted(len(wrong), 'path')} in the store would lead out of the folder, and nothing "
            f"is written:\n{first_lines(wrong)}"
        )
    return files


def _each(
    files: Sequence[StoredFile],
    work: Callable[[StoredFile], str | None],
    workers: int,
    progress: Shown,
    verb: str,
) -> tuple[str, ...]:
    """Do something with files in threads; returns those that failed, with the reason."""
    if not files:
        return ()
    failed = []
    total = sum(file.size for file in files)
    with bar(verb, total, progress) as advance, _pool(workers) as pool:
        done = pool.map(work, files)
        for file, reason in zip(files, done, strict=True):
            advance(file.size)
            if reason:
                failed.append(f"{file.path}: {reason}")
    return tuple(failed)


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that stop with the file that they are at, when interrupted."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def proven(file: StoredFile) -> str | None:
    """Make the bytes of a file, and compare their SHA-256; returns what is wrong."""
    digest, size = hashlib.sha256(), 0
    try:
        for piece in file.pieces():
            digest.update(piece)
            size += len(piece)
    except Exception as error:  # a damaged chunk, or an encoder, can raise anything
        return _in_vain(file, error)
    return _reason(file, digest.hexdigest(), size)


def _in_vain(file: StoredFile, error: Exception) -> str:
    """Say why the bytes could not be made."""
    if isinstance(error, Damaged):
        return str(error)
    reason = f"cannot be made again: {str(error) or type(error).__name__}"
    if file.made_by not in ("", VERSION):
        reason += f". It was converted with {file.made_by}, and here is {VERSION}: install that"
    return reason


def _reason(file: StoredFile, sha256: str, size: int) -> str | None:
    """Say what is wrong with the bytes that were made."""
    if sha256 == file.sha256 and size == file.size:
        return None
    if file.made_by not in ("", VERSION):
        return (
            f"{VERSION} makes other bytes of its pixels than {file.made_by}, with which it was "
            "converted: install that"
        )
    return f"other bytes are made of what the store holds: it {DAMAGED}"


def _not_there(
    files: list[StoredFile], target: Path, workers: int, progress: Shown
) -> list[StoredFile]:
    """Find the files that are not there yet; none may be there with other bytes."""
    there = [file for file in files if os.path.lexists(target / file.path)]

    def differs(file: StoredFile) -> str | None:
        path = target / file.path
        if not path.is_file():
            return "is no file"
        if path.stat().st_size != file.size or sha256_of(path) != file.sha256:
            return "has other bytes"
        return None

    others = _each(there, differs, workers, progress, "compared")
    if others:
        raise FileExistsError(
            f"{target} holds {counted(len(others), 'file')} with the names of files to be written, "
            f"and nothing is written over:\n{first_lines(others)}\nName another folder."
        )
    tidy(target / file.path for file in there)
    names = {file.path for file in there}
    return [file for file in files if file.path not in names]


def _write(file: StoredFile, target: Path) -> str | None:
    """Write one file; returns what is wrong with it, and nothing of it is there then."""
    path = target / file.path
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pieces = file.pieces()
        with open(partial, "wb", buffering=0) as out:
            while True:
                try:
                    piece = next(pieces, None)
                except Exception as error:  # a damaged chunk, or an encoder, can raise anything
                    return _in_vain(file, error)
                if piece is None:
                    break
                _write_all(out, piece)
            os.fsync(out.fileno())
        # Read back, by what shares nothing with what wrote it.
        if reason := _reason(file, sha256_of(partial), partial.stat().st_size):
            return reason
        os.utime(partial, ns=(file.mtime, file.mtime))
        appear(partial, path)
    except FileExistsError:
        raise
    except OSError as error:
        raise OSError(
            f"{path} cannot be written: {error.strerror or error}\nWhat is written already stays: "
            "the same call, repeated, writes the other files."
        ) from error
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    return None


def _write_all(out: Any, piece: Any) -> None:
    """Write all of a piece: one call may write less."""
    rest = memoryview(piece)
    while rest:
        rest = rest[out.write(rest) :]


def partial_of(path: Path) -> Path:
    """Give the name that a file has until all of it is there."""
    return path.with_name(f".{path.name}{PARTIAL}")


def tidy(paths: Iterable[Path]) -> None:
    """Delete the second names of files that are there, left by processes that were killed."""
    for path in paths:
        with suppress(FileNotFoundError):
            partial_of(path).unlink()


def appear(partial: Path, path: Path) -> None:
    """Give a file its name, unless another one has got it meanwhile."""
    try:
        os.link(partial, path)  # which refuses, where a rename would replace
    except FileExistsError:
        raise FileExistsError(f"{path} appeared meanwhile, and is not written over") from None
    except OSError:  # of a file system without links
        if os.path.lexists(path):
            raise FileExistsError(f"{path} appeared meanwhile, and is not written over") from None
        partial.rename(path)
