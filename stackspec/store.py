"""Source of files that neither stackspec nor the distribution provides: downloaded and cached, or from a bundle."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ActionError, InputError

LIST = "bundle.json"
"""File of a bundle with its list of contents."""


@dataclass(frozen=True)
class Part:
    """A file to download or build.

    :param name: folder and file name in a bundle; it changes with the content
    :param what: a short description
    :param make: downloads or builds it unless it is cached, and returns its path
    """

    name: str
    what: str
    make: Callable[[], Path] = field(compare=False)


class Store:
    """Downloads or builds files on request, and caches them."""

    fetches: ClassVar[bool] = True

    def lacks(self, part: Part) -> list[str]:
        """Error messages if the part is not available; otherwise nothing."""
        return []

    def take(self, part: Part) -> Path:
        """The path of the part's file.

        :raises ActionError: it is not available
        """
        return part.make()


class Entry(BaseModel):
    """A file of a bundle.

    :param name: folder and file name
    :param what: what it is, in a few words
    :param size: bytes
    :param sha256: of its content, in hexadecimal digits
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Files no longer listed are removed only from the bundle's own folders.
    name: str = Field(pattern=r"^[a-z]+/[^/.][^/]*$")
    what: str
    size: int
    sha256: str

    def is_in(self, folder: Path) -> bool:
        """Whether the file in the bundle `folder` matches its entry."""
        return has_content(folder / self.name, self.size, self.sha256)


class BundleList(BaseModel):
    """The contents of a bundle, and what it was made for.

    :param site: name of the site
    :param release: name of the release
    :param constraints: SHA-256 of the release's constraints file; empty for a release without one
    :param files: its files
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    site: str
    release: str
    constraints: str = ""
    files: tuple[Entry, ...] = ()


class Bundle(Store):
    """The files of a bundle; nothing is downloaded or built.

    :param folder: the bundle; each file is read once to verify it
    :raises InputError: it is not a bundle, or files differ from its list
    """

    fetches: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._anew = f"recreate the bundle: stackspec bundle --inventory PATH {self._folder}"
        listing = read_list(self._folder)
        if listing is None:
            raise InputError(f"{self._folder} is not a bundle: {LIST} is missing; {self._anew}")
        self._listing = listing
        self._names = {each.name for each in listing.files}
        if wrong := [each.name for each in listing.files if not each.is_in(self._folder)]:
            raise InputError(f"{self._folder}: files do not match {LIST}: {', '.join(wrong)}; {self._anew}")

    def lacks(self, part: Part) -> list[str]:
        if part.name in self._names:
            return []
        made_for = f"made for site {self._listing.site} with release {self._listing.release}"
        return [f"{part.what} is not in the bundle {self._folder} ({part.name}; {made_for}); {self._anew}"]

    def take(self, part: Part) -> Path:
        for text in self.lacks(part):
            raise ActionError(f"take {part.what}", output=text)
        return self._folder / part.name


def read_list(folder: Path) -> BundleList | None:
    """The list of the bundle in `folder`; None if there is none.

    :raises InputError: it cannot be read
    """
    path = folder / LIST
    try:
        return BundleList.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path}: {os.strerror(error.errno or 0)}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path} is not a valid bundle list: {where + ': ' if where else ''}{first['msg']}; remove it and make the "
            "bundle again"
        ) from None


def has_content(path: Path, size: int, sha256: str) -> bool:
    """Whether a file exists, can be read, and has this content.

    :param size: bytes
    :param sha256: of its content, in hexadecimal digits
    """
    try:
        return path.stat().st_size == size and sha256_of(path) == sha256
    except OSError:
        return False


def keep(made: Path, final: Path) -> None:
    """Move a finished file into a cache, with its checksum next to it: a power loss may leave a file short.

    :param made: the file, on the same file system
    :param final: its path there
    """
    _checksum(final).write_text(f"{sha256_of(made)}  {final.name}\n")
    made.rename(final)


def is_kept(final: Path) -> bool:
    """Whether a cache has the file, with the content that `keep` moved there."""
    try:
        return _checksum(final).read_text().split()[:1] == [sha256_of(final)]
    except OSError:
        return False


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits.

    :raises OSError: it cannot be read
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
