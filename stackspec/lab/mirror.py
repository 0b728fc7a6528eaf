"""The lab's package sources: the inventory, the environment, or the host's own apt."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

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
    """A Debian archive and its security archive (None: no security updates), and the release in them."""

    archive: str
    security: str | None = None
    suite: str = SUITE

    def lines(self, *, plain: bool = False) -> list[str]:
        """One-line apt sources of the lab's suite.

        :param plain: write every address as http, for nodes that use the lab's proxy
        """
        parts = [(self.archive, self.suite), (self.archive, f"{self.suite}-updates")]
        if self.security:
            parts.append((self.security, f"{self.suite}-security"))
        return [f"deb {re.sub('^https:', 'http:', uri) if plain else uri} {suite} main" for uri, suite in parts]

    def hosts(self) -> dict[str, str]:
        """The hosts of the archives, each with its scheme."""
        uris = [uri for uri in (self.archive, self.security) if uri]
        return {urlsplit(uri).netloc.lower(): urlsplit(uri).scheme for uri in uris}


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
    """
    named = spec.mirror or environ.get("STACKSPEC_MIRROR", "").rstrip("/")
    if named:
        # Every full mirror has the security archive next to the archive.
        return Mirror(named, spec.security_mirror or f"{named}-security", spec.suite)
    found = of_machine(root)
    return replace(found, suite=spec.suite) if found else None
