"""Who may write to a store in the cloud, where no lock ends with its process.

A note beside the store says who writes to it, and is renewed while that runs. It is made by a put
that fails where there is one already (Amazon S3, Google Cloud Storage and Azure have that), so that
of two conversions that begin at once one is refused. A note that was not renewed for a while is of
a process that was killed, and is taken over. Parts share one note.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from xarray_tiffstack.ome_zarr.cloud import Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

BEAT = 20.0  # seconds after which a note is renewed
STALE = 120.0  # seconds without that after which it is taken over
SURE = 1.0  # seconds after a take-over in which another one would be seen
LOOK = 1.0  # seconds between looks of a part at a note


class Lease:
    """A note that this process holds, or shares."""

    def __init__(self, place: Cloud, name: str, target: str, shared: bool) -> None:
        self.place, self.name, self.target, self.parts = place, name, target, shared
        self.alone, self.works = True, True
        self.lost = self._over = False
        self._renewed = time.time()  # of the clock that goes on while a machine sleeps
        self._token = uuid4().hex
        self._end, self._asking = threading.Event(), threading.Lock()

    # -- as a lock of a local store has it ------------------------------------------------------

    def share(self) -> None:
        """Let other parts in."""
        if self.alone:
            self.alone = False
            self._write()

    def last(self) -> bool:
        """Say that the store is finished: nobody needs the note any more."""
        self._over = True
        return False

    def require(self, look: bool = False) -> None:
        """Go on only while no other conversion took over; to be asked before anything is written.

        Looks at the note with `look`, or where it was not renewed for so long that another one may
        have taken it; else it costs no request.

        Raises
        ------
        BlockingIOError
            Another one took over.
        """
        with self._asking:
            if not self.lost and (look or time.time() - self._renewed > STALE):
                try:
                    self._renew()
                except Exception as error:
                    raise OSError(f"{self.target} cannot be written: {error}") from error
        if self.lost:
            raise BlockingIOError(
                f"another conversion took over {self.target}, because this one was not heard of "
                f"for {STALE:.0f} s. This one stopped; when the other one has ended, the same call "
                "resumes"
            )

    # -- the note -------------------------------------------------------------------------------

    def read(self) -> dict[str, Any]:
        """Read the note; empty where there is none."""
        try:
            found: dict[str, Any] = json.loads(self.place.read([self.name]).get(self.name, b"{}"))
        except ValueError:
            return {}
        return found

    def _note(self) -> bytes:
        about: dict[str, Any] = {"process": os.getpid(), "host": socket.gethostname()}
        about |= {"token": self._token, "renewed": time.time()}
        about |= {"parts": self.parts, "shared": not self.alone}
        return json.dumps(about).encode()

    def _write(self) -> None:
        now = time.time()
        self.place.write([(self.name, self._note())])
        self._renewed = now

    def _renew(self) -> None:
        """Renew the note, or see that it is of another conversion."""
        found = self.read()
        if self.alone and found.get("token") != self._token:
            self.lost = True
        elif self.alone or found.get("shared"):
            self._write()

    def take(self, patience: float) -> None:
        """Make the note, or join the parts that have one.

        Raises
        ------
        BlockingIOError
            Another conversion has it.
        """
        deadline = time.monotonic() + patience
        while True:
            found = self.read()
            if not found:
                if self.place.create_once(self.name, self._note()):
                    return
                continue
            if _is_dead(found):
                self._write()
                time.sleep(SURE)
                if self.read().get("token") == self._token:
                    return
                continue
            if self.parts and found.get("parts"):
                if found.get("shared"):
                    self.alone = False
                    return
                if time.monotonic() < deadline:
                    time.sleep(LOOK)
                    continue
            raise BlockingIOError(
                f"another conversion writes to {self.target} ({_who(found)}): wait until it ends, "
                f"or write to another store. If it was killed, the same call takes over "
                f"{STALE:.0f} s after it was last heard of"
            )

    def keep(self) -> None:
        """Renew the note until the end; in a thread."""
        while not self.lost and not self._end.wait(BEAT):
            with suppress(Exception):  # the next one may come through
                self._renew()

    def give_back(self) -> None:
        """Delete the note, unless other parts still need it, or it is of another conversion."""
        self._end.set()
        if self.lost or not (self.alone or self._over):
            return
        with suppress(Exception):  # else it is taken over when it is old
            found = self.read()
            if found.get("token") == self._token or (self._over and found.get("shared")):
                self.place.delete([self.name])


@contextmanager
def leased(target: str, shared: bool, patience: float) -> Iterator[Lease]:
    """Keep other conversions away from a store at a URL, while this one runs.

    Raises
    ------
    BlockingIOError
        Another one is running, or has taken over because this one was not heard of.
    """
    folder, _, name = target.rstrip("/").rpartition("/")
    lease = Lease(Cloud(folder), f".{name}.lock", target, shared)
    lease.take(patience)
    beat = threading.Thread(target=lease.keep, daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        lease.give_back()
    lease.require()


def has_lease(target: object) -> bool:
    """Whether notes can be made beside a store: it is in a bucket, not all of it."""
    return isinstance(target, str) and "/" in target.rstrip("/").partition("://")[2]


def _is_dead(note: dict[str, Any]) -> bool:
    """Whether who made a note was killed."""
    if time.time() - note.get("renewed", 0) > STALE:
        return True
    if note.get("host") != socket.gethostname() or note.get("shared") or os.name == "nt":
        return False
    try:
        os.kill(note["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _who(note: dict[str, Any]) -> str:
    what = "a part, " if note.get("parts") else ""
    ago = max(0, time.time() - note.get("renewed", 0))
    return f"{what}process {note.get('process')} on {note.get('host')}, heard of {ago:.0f} s ago"
