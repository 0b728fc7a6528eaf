"""A directory in the layout of a Debian archive with the packages of a lab, for places without a connection.

The archive's signed indexes are copied unchanged, so apt checks them as always; of the packages that they list, only
those with a wanted name are there.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import lzma
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

from ..errors import InputError
from ..store import has_content
from .error import LabError
from .lock import locked
from .proxy import Settings, Upstream
from .store import Store

LIST = "mirror.json"
"""File of a mirror that says which lab it was made for."""

_INDEX = "main/binary-amd64/Packages"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """Packages by name, and where to look for them: pairs of an archive's URL and a suite."""

    suites: tuple[tuple[str, str], ...]
    names: frozenset[str]


@dataclass(frozen=True)
class File:
    """A file of an archive that a signed index lists; `name` is its path in the mirror, `size` in bytes."""

    name: str
    url: str
    size: int
    sha256: str

    def is_in(self, folder: Path) -> bool:
        """Whether the mirror `folder` has it, with its content."""
        return has_content(folder / self.name, self.size, self.sha256)


@dataclass(frozen=True)
class Result:
    """What a mirror contains, and how many of its files were written and removed."""

    files: int
    size: int
    written: int
    removed: int


def names_of(addresses: Iterable[str]) -> frozenset[str]:
    """Names of packages by the addresses of their files."""
    return frozenset(unquote(urlsplit(each).path).rpartition("/")[2].partition("_")[0] for each in addresses)


def write(
    folder: Path,
    lab: str,
    archives: Mapping[str, str],
    wanted: Iterable[Wanted],
    settings: Settings,
    say: Callable[[str], None],
) -> Result:
    """Make a mirror, or complete it and bring it up to date; if killed, the next call continues.

    :param folder: a new or empty directory, or a mirror of the same lab
    :param lab: the lab's name
    :param archives: the folder in the mirror of each archive, by its URL
    :param wanted: the packages
    :param settings: the cache of packages and the upstream proxies of the lab's own proxy
    :param say: called with progress lines
    :raises InputError: the folder contains something else
    :raises LabError: the archive cannot be reached, does not match its index, or a file cannot be written
    """
    try:
        _claim(folder, lab)
        with locked(folder / ".lock"), closing(Upstream(settings)) as upstream:
            return _Writer(folder, archives, Store(Path(settings.cache)), upstream, say).write(wanted)
    except (OSError, http.client.HTTPException) as error:
        what = f"{type(error).__name__}: {error}"
        raise LabError(
            f"Could not write the mirror {folder}: {what}. Run the same command again to continue"
        ) from error


def _claim(folder: Path, lab: str) -> None:
    """Mark a directory as a mirror, whose other files `write` removes."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is not a directory; choose another one")
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / LIST
    if mark.exists():
        try:
            owner = json.loads(mark.read_text())["lab"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{mark} is not valid; choose a new or empty directory") from None
        if owner != lab:
            raise InputError(f"{folder} is a mirror of lab {owner}, not {lab}; choose another directory")
    elif any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder} contains other files and is not a mirror; choose a new or empty directory")
    else:
        _put(mark, (json.dumps({"lab": lab}) + "\n").encode())


@dataclass
class _Writer:
    folder: Path
    archives: Mapping[str, str]
    store: Store
    upstream: Upstream
    say: Callable[[str], None]
    written: int = 0

    def write(self, wanted: Iterable[Wanted]) -> Result:
        for leftover in self.folder.rglob(".*.part"):
            leftover.unlink()
        names: dict[tuple[str, str], set[str]] = {}
        for each in wanted:
            for source in each.suites:
                names.setdefault(source, set()).update(each.names)
        releases: dict[str, bytes] = {}
        files: dict[str, File] = {}
        for (archive, suite), these in names.items():
            root = self.archives[archive]
            release = self.release(f"{archive}/dists/{suite}/InRelease")
            index = _index(release.decode(errors="replace"), root, archive, suite)
            self.copy(index)
            packages = list(_packages((self.folder / index.name).read_bytes(), these, root, archive))
            self.say(f"{suite}: {len(packages)} packages, {sum(each.size for each in packages) / 1e6:.0f} MB")
            files |= {each.name: each for each in (index, *packages)}
            releases[f"{root}/dists/{suite}/InRelease"] = release
        for file in files.values():
            self.copy(file)
        # Last: until then the indexes in use, if any, match the files that are there.
        for name, content in releases.items():
            if not (self.folder / name).is_file() or (self.folder / name).read_bytes() != content:
                _put(self.folder / name, content)
                self.written += 1
        removed = self.tidy({*files, *releases})
        size = sum(file.size for file in files.values()) + sum(map(len, releases.values()))
        return Result(len(files) + len(releases), size, self.written, removed)

    def release(self, url: str) -> bytes:
        response = self.upstream.get("GET", url, {"User-Agent": "apt"})
        content = response.read()
        if response.status != 200:
            raise LabError(f"{url} has status {response.status}. Set another archive as `mirror` in the section `lab`")
        return content

    def copy(self, file: File) -> None:
        """Take a file from the cache, or fetch it, unless it is there."""
        if file.is_in(self.folder):
            return
        body = self.store.open(file.url)
        if not (body and self.take(file, body)):
            self.say(f"fetching {file.url} ({file.size / 1e6:.1f} MB)")
            response = self.upstream.get("GET", file.url, {"User-Agent": "apt"})
            if not self.take(file, response) or response.status != 200:
                raise LabError(
                    f"{file.url} does not match the archive's index (status {response.status}). The archive may be "
                    "changing: run the same command again in some minutes"
                )
        self.written += 1

    def take(self, file: File, source: BinaryIO | http.client.HTTPResponse) -> bool:
        """Write a file unless its content is wrong."""
        with source, _part(self.folder / file.name) as part:
            digest, size = hashlib.sha256(), 0
            with part.open("wb") as out:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    size += out.write(block)
            right = size == file.size and digest.hexdigest() == file.sha256
            if right:
                part.replace(self.folder / file.name)
        return right

    def tidy(self, names: set[str]) -> int:
        """Remove files that are no longer needed, and folders that became empty."""
        removed = 0
        there = [path for root in self.archives.values() for path in (self.folder / root).rglob("*")]
        # What is in a folder comes before it.
        for path in sorted(there, reverse=True):
            if not path.is_dir() and path.relative_to(self.folder).as_posix() not in names:
                path.unlink()
                removed += 1
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        return removed


def _index(release: str, root: str, archive: str, suite: str) -> File:
    """The list of packages that a signed index of a suite names."""
    sums = {
        name: (sha256, int(size)) for sha256, size, name in re.findall(r"^ ([0-9a-f]{64}) +(\d+) (\S+)$", release, re.M)
    }
    for suffix in (".xz", ".gz", ""):
        if found := sums.get(f"{_INDEX}{suffix}"):
            sha256, size = found
            name = f"{_INDEX}{suffix}"
            if re.search(r"^Acquire-By-Hash: yes$", release, re.M):
                name = f"{_INDEX.rpartition('/')[0]}/by-hash/SHA256/{sha256}"
            return File(f"{root}/dists/{suite}/{name}", f"{archive}/dists/{suite}/{name}", size, sha256)
    raise LabError(f"{archive}/dists/{suite}/InRelease names no {_INDEX}. Set another archive as `mirror` in `lab`")


def _packages(index: bytes, names: Collection[str], root: str, archive: str) -> Iterator[File]:
    """The packages of those names in a list of packages."""
    unpack = (
        lzma.decompress if index.startswith(b"\xfd7zXZ") else gzip.decompress if index[:2] == b"\x1f\x8b" else bytes
    )
    for stanza in unpack(index).decode().split("\n\n"):
        name = re.search(r"^Package: (\S+)$", stanza, re.M)
        if name and name[1] in names:
            fields = dict(re.findall(r"^(Filename|Size|SHA256): (\S+)$", stanza, re.M))
            path = fields["Filename"]
            if not path.startswith("pool/") or ".." in path:
                raise LabError(f"{archive} lists a package with the strange name {path}. Use another mirror of it")
            yield File(f"{root}/{path}", f"{archive}/{quote(path)}", int(fields["Size"]), fields["SHA256"])


def _put(path: Path, content: bytes) -> None:
    with _part(path) as part:
        part.write_bytes(content)
        part.replace(path)


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """Another name for a file until it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
