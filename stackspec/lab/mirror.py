"""The lab's package sources: the inventory, the environment, or the host's own apt."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import InputError
from .spec import LabSpec

SUITE = "trixie"
"""Debian suite of images, and default of nodes."""


@dataclass(frozen=True)
class Source:
    """A line or a stanza of apt's sources: addresses, suites, components."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]


@dataclass(frozen=True)
class Mirror:
    """A Debian archive and its security archive (None: updates of security are not used), and the release in them.

    An archive is an http, https or file URL; a file URL is a directory on this machine.
    """

    archive: str
    security: str | None = None
    suite: str = SUITE

    def suites(self) -> list[tuple[str, str]]:
        """The archive and the name of each suite that nodes use."""
        parts = [(self.archive, self.suite), (self.archive, f"{self.suite}-updates")]
        return parts + ([(self.security, f"{self.suite}-security")] if self.security else [])

    def lines(self, *, plain: bool = False) -> list[str]:
        """One-line apt sources of the lab's suite.

        :param plain: write every address as http, for clients whose requests the lab's proxy makes
        """
        return [self.line(uri, suite, plain=plain) for uri, suite in self.suites()]

    def line(self, uri: str, suite: str, *, plain: bool = True, stale: bool = False) -> str:
        """A one-line apt source.

        :param uri: `archive` or `security`
        :param plain: write the address as http, for clients whose requests the lab's proxy makes
        :param stale: accept an index that has expired; always so for a directory, which stands still
        """
        option = "[check-valid-until=no] " if stale or is_directory(uri) else ""
        return f"deb {option}{self._plain(uri) if plain else uri} {suite} main"

    def hosts(self) -> dict[str, str]:
        """The hosts of the archives, each with the scheme it is asked by."""
        return {urlsplit(uri).netloc.lower(): urlsplit(uri).scheme for uri in self._uris if not is_directory(uri)}

    def folders(self) -> dict[str, str]:
        """The directories that are archives, each by the name of a host that only the lab's proxy knows."""
        return {urlsplit(self._plain(uri)).netloc: str(path_of(uri)) for uri in self._uris if is_directory(uri)}

    @property
    def _uris(self) -> list[str]:
        return [uri for uri in (self.archive, self.security) if uri]

    def _plain(self, uri: str) -> str:
        if is_directory(uri):
            return "http://archive.mirror" if uri == self.archive else "http://security.mirror"
        return re.sub("^https:", "http:", uri)


def is_directory(uri: str) -> bool:
    """Whether an archive is a directory on this machine."""
    return uri.startswith("file:")


def path_of(uri: str) -> Path:
    """The directory of an archive's file URL."""
    return Path(unquote(urlsplit(uri).path))


def parse_sources(text: str, *, deb822: bool) -> list[Source]:
    """Read apt sources for binary packages.

    :param text: the content of a file
    :param deb822: whether its format is stanzas (`.sources`) or lines (`.list`)
    """
    return list(_stanzas(text) if deb822 else _lines(text))


def _lines(text: str) -> Iterable[Source]:
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line.strip())
        if match:
            yield Source((match[1].rstrip("/"),), (match[2],), tuple(match[3].split()))


def _stanzas(text: str) -> Iterable[Source]:
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, list[str]] = {}
        key = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields.setdefault(key, []).extend(line.split())
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.split()
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"])[0].lower() not in ("no", "false"):
            uris = tuple(uri.rstrip("/") for uri in fields.get("uris", []))
            yield Source(uris, tuple(fields.get("suites", [])), tuple(fields.get("components", [])))


def pick(sources: Iterable[Source], codename: str) -> Mirror | None:
    """The Debian archive among a Debian machine's sources, which may include others.

    :param codename: the machine's release, which distinguishes Debian's own archive from third parties'
    """
    archive = security = None
    for source in sources:
        uris = [uri for uri in source.uris if uri.startswith(("http://", "https://"))]
        if not uris or "main" not in source.components:
            continue
        suites = set(source.suites)
        if suites & {codename, "stable"}:
            archive = archive or uris[0]
        if suites & {f"{codename}-security", "stable-security"}:
            security = security or uris[0]
    return Mirror(archive, security) if archive else None


def of_machine(root: Path = Path("/")) -> Mirror | None:
    """The archive that the host itself uses; None if it is not Debian or has none.

    :param root: the file system to look at
    """
    try:
        text = (root / "etc/os-release").read_text()
    except OSError:
        return None
    release = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if release.get("ID", "").strip('"') != "debian":
        return None
    return pick(read_sources(root), release.get("VERSION_CODENAME", "").strip('"'))


def read_sources(root: Path) -> list[Source]:
    """All apt sources of a file system, in apt's order."""
    apt = root / "etc/apt"
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    found: list[Source] = []
    for path in files:
        if path.is_file() and path.suffix in (".list", ".sources"):
            found += parse_sources(path.read_text(errors="replace"), deb822=path.suffix == ".sources")
    return found


def choose(spec: LabSpec, environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Mirror | None:
    """The archive of a lab: the inventory's, $STACKSPEC_MIRROR, the machine's, or None for mmdebstrap's own choice.

    :param spec: the lab
    :param environ: the environment
    :param root: the machine's file system
    :raises InputError: it is a directory without the lab's suite
    """
    named = spec.mirror or environ.get("STACKSPEC_MIRROR", "").rstrip("/")
    if named:
        archive = _uri(named, spec.suite)
        # Every full mirror has the security archive next to the archive; a copy of one without has none.
        next_to_it = f"{archive}-security"
        if not spec.security_mirror and is_directory(archive) and not path_of(next_to_it).is_dir():
            return Mirror(archive, None, spec.suite)
        return Mirror(archive, _uri(spec.security_mirror or next_to_it, f"{spec.suite}-security"), spec.suite)
    found = of_machine(root)
    return replace(found, suite=spec.suite) if found else None


def _uri(named: str, suite: str) -> str:
    """The URL of an archive that is named by its URL or its directory."""
    if named.startswith("/"):
        named = Path(named).as_uri()
    if is_directory(named):
        index = path_of(named) / "dists" / suite / "InRelease"
        if not index.is_file():
            raise InputError(
                f"The lab's mirror {path_of(named)} is not an archive with {suite}: {index} is missing. Name the "
                "directory that contains `dists`, or make it where the archive can be reached: stackspec lab mirror"
            )
    return named
