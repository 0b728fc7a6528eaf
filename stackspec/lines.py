"""Lines of JSON that several processes append to a file; a kill may leave a partial line."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path


def append_line(path: Path, line: str, *, sync: bool = False) -> None:
    """Append `line` to `path` (0600, created with its folder if missing) in one write call.

    :param sync: whether to fsync, so that it survives a power loss
    :raises OSError: the file, which it names, cannot be written, or only part of the line
    """
    data = (line + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        # Start a new line after one that a kill has torn.
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if sync:
            os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a file (0600) atomically and fsync it, or leave the old content.

    :raises OSError: it cannot be written
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
