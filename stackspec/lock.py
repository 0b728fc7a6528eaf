"""One deployment at a time: a lock that is released when its process ends, and says who holds it."""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
import time
from pathlib import Path

from .errors import InputError


def who(run: str) -> str:
    """Description of this process for others: user, host, process id, start time and run."""
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return f"{getpass.getuser()} on {socket.gethostname()} (pid {os.getpid()}), since {since}, run {run}"


class Lock:
    """A file lock held by one process. The file stays; the lock ends with the process.

    :param path: the file, created with its folder if missing
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def take(self, holder: str, what: str) -> None:
        """Hold the lock until `release`.

        :param holder: who holds it, from `who`
        :param what: what is locked, for the error
        :raises InputError: another process holds it
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Not inheritable: ssh, a worker or a lab node would keep the lock.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = self._path.read_text(errors="replace").strip()
            os.close(descriptor)
            raise InputError(f"{what} is being deployed by {other or 'another run'}; wait for it, or stop it") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{holder}\n".encode(), 0)
        self._descriptor = descriptor

    def is_taken(self) -> bool:
        """Whether a process holds it."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Release the lock; no effect if it is not held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
