"""Where a deployment takes what neither stackspec nor the distribution has: fetched and kept, or a bundle."""

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
"""File of a bundle: what is in it."""


@dataclass(frozen=True)
class Part:
    """A file that comes from elsewhere.

    :param name: folder and file name in a bundle; another content, another name
    :param what: what it is, in a few words
    :param make: fetches or builds it unless it is kept here, and returns where it is
    """

    name: str
    what: str
    make: Callable[[], Path] = field(compare=False)


class Store:
    """Fetches or builds what is asked for; what was made once is kept in the cache."""

    fetches: ClassVar[bool] = True

    def lacks(self, part: Part) -> list[str]:
        """What to say where the part cannot be had; nothing where it can."""
        return []

    def take(self, part: Part) -> Path:
        """Where the part's file is.

        :raises ActionError: it cannot be had
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
    # What is not listed any more is removed from the bundle's own folders, and from no others.
    name: str = Field(pattern=r"^[a-z]+/[^/.][^/]*$")
    what: str
    size: int
    sha256: str

    def is_in(self, folder: Path) -> bool:
        """Whether the bundle in `folder` has the file as it is listed."""
        path = folder / self.name
        try:
            return path.stat().st_size == self.size and sha256_of(path) == self.sha256
        except OSError:
            return False


class Listing(BaseModel):
    """What a bundle holds, and for what it was made.

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
    """The files of a bundle and nothing else; nothing is fetched or built.

    :param folder: the bundle, each of whose files is read once to see that it is as listed
    :raises InputError: it is no bundle, or files differ from its list
    """

    fetches: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._anew = f"make the bundle anew: stackspec bundle --inventory PATH {self._folder}"
        listing = read_list(self._folder)
        if listing is None:
            raise InputError(f"{self._folder} is no bundle, it has no {LIST}; {self._anew}")
        self._listing = listing
        self._names = {each.name for each in listing.files}
        if wrong := [each.name for each in listing.files if not each.is_in(self._folder)]:
            raise InputError(f"{self._folder}: not as {LIST} says: {', '.join(wrong)}; {self._anew}")

    def lacks(self, part: Part) -> list[str]:
        if part.name in self._names:
            return []
        made_for = f"made for site {self._listing.site} with release {self._listing.release}"
        return [f"{part.what} is not in the bundle {self._folder} ({part.name}; {made_for}); {self._anew}"]

    def take(self, part: Part) -> Path:
        for text in self.lacks(part):
            raise ActionError(f"take {part.what}", output=text)
        return self._folder / part.name


def read_list(folder: Path) -> Listing | None:
    """The list of the bundle in `folder`; None where there is none.

    :raises InputError: there is one that cannot be read
    """
    path = folder / LIST
    try:
        return Listing.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path}: {os.strerror(error.errno or 0)}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path} is no list of a bundle: {where + ': ' if where else ''}{first['msg']}; remove it and make the "
            "bundle anew"
        ) from None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits.

    :raises OSError: it cannot be read
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
