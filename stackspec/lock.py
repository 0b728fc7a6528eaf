"""One deployer at a time: a lock that ends with the process, however that ends, and says who has it."""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
import time
from pathlib import Path

from .errors import InputError


def who(run: str) -> str:
    """This process, as others read it: user, host, process id, since when, and the run."""
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return f"{getpass.getuser()} on {socket.gethostname()} (pid {os.getpid()}), since {since}, run {run}"


class Lock:
    """A file that one process has for itself. The file stays; the lock on it ends with the process.

    :param path: the file, made with its folder when it is not there
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def take(self, holder: str, what: str) -> None:
        """Have the file until `release`.

        :param holder: who has it, from `who`
        :param what: what is locked, as the error says it
        :raises InputError: another process has it
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Not inherited by ssh, a worker or a lab's node, which would keep it.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = self._path.read_text(errors="replace").strip()
            os.close(descriptor)
            raise InputError(f"{what} is deployed by {other or 'another run'}; wait for its end, or end it") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{holder}\n".encode(), 0)
        self._descriptor = descriptor

    def is_taken(self) -> bool:
        """Whether a process has it now."""
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
        """Let others have it; nothing when it was not taken."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
