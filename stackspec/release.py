"""A release table: what differs between distributions, as data (releases/*.yaml)."""

from __future__ import annotations

import importlib.resources
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from .errors import InputError
from .inventory import Options, parse
from .yaml_file import read_yaml


class Distribution(BaseModel):
    """ID and VERSION_ID of /etc/os-release."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    version: str


class Release(BaseModel):
    """Names and settings of one release; steps use the guide's names and this table translates them.

    :param packages: name in the guide -> packages of the distribution
    :param units: name in the guide -> systemd units of the distribution
    :param paths: path in the guide -> path here
    :param unwanted: step -> units that its packages enable and the guide does not want
    :param config: options that this release needs beyond the guide (step -> file -> section -> option)
    :param values: single values that steps ask for by name
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    title: str
    openstack: str
    distribution: Distribution
    packages: dict[str, tuple[str, ...]] = {}
    units: dict[str, tuple[str, ...]] = {}
    paths: dict[str, str] = {}
    unwanted: dict[str, tuple[str, ...]] = {}
    config: Options = {}
    values: dict[str, str] = {}

    def package(self, name: str) -> tuple[str, ...]:
        """Packages that the guide's `name` means here."""
        return self.packages.get(name, (name,))

    def unit(self, name: str) -> tuple[str, ...]:
        """Units that the guide's `name` means here."""
        return self.units.get(name, (name,))

    def path(self, path: str) -> str:
        """Where the guide's `path` is here."""
        return self.paths.get(path, path)


def load_release(name: str) -> Release:
    """The release table called `name`.

    :raises InputError: there is no such table, with the names that exist
    """
    folder = Path(str(importlib.resources.files("stackspec.releases")))
    path = folder / f"{name}.yaml"
    if Path(name).name != name or not path.exists():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise InputError(f"release: {name!r} is unknown; known releases: {known}")
    return _read(path)


@cache
def _read(path: Path) -> Release:
    return parse(Release, *read_yaml(path))
