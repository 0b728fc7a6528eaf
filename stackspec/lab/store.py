"""Cache of immutable files of the package archives."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

# Package file names contain the version; indexes below by-hash are named by content.
_IMMUTABLE = re.compile(r"/pool/.*\.deb$|/by-hash/SHA(256|512)/[0-9a-f]{64,128}$")


class Store:
    """A directory of cached files, safe for several threads and processes.

    :param root: the directory
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def keeps(self, url: str) -> bool:
        """Whether the file at that URL is cacheable."""
        parts = urlsplit(url)
        return bool(_IMMUTABLE.search(parts.path)) and not parts.query and ".." not in unquote(parts.path)

    def open(self, url: str) -> BinaryIO | None:
        """The file, if it is cached."""
        try:
            return self._path(url).open("rb")
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def busy(self, url: str) -> Iterator[None]:
        """Let one thread at a time fetch a file."""
        with self._locks[url]:
            yield

    @contextlib.contextmanager
    def adding(self, url: str, size: int) -> Iterator[BinaryIO]:
        """A file to write to, which is cached if the block succeeds and the size is right.

        :param size: bytes
        """
        path = self._path(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as out:
                yield out
            if os.path.getsize(name) == size:
                os.replace(name, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    def _path(self, url: str) -> Path:
        parts = urlsplit(url)
        return self.root / parts.netloc.lower().replace(":", "_") / unquote(parts.path).lstrip("/")
