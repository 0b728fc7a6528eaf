"""A release table: the differences between distributions, as data (releases/*.yaml)."""

from __future__ import annotations

import importlib.resources
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict

from .errors import InputError
from .inventory import Options
from .schema import matches, parse
from .yaml_file import read_yaml


@dataclass(frozen=True)
class ReleaseValue:
    """A key of the tables' `values`, declared as a constant next to the step whose function reads it.

    :param name: the key
    :param default: the default; None if every table of a release with that step must define the key
    """

    name: str
    default: str | None = None


class Distribution(BaseModel):
    """A distribution.

    :param id: ID of /etc/os-release
    :param version: VERSION_ID there
    :param python: version of its python3, such as "3.13"
    :param glibc: version of its C library; with `python` it selects the wheels of a bundle, without a node
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    version: str
    python: str = ""
    glibc: str = ""


class Unit(BaseModel):
    """A unit that a distribution's package would install.

    Here and below, texts and paths of files and links may contain `{environment}`, the folder of the environment, and
    `{library}`, the folder of its modules.

    :param run: its command
    :param wsgi: instead of it, what uWSGI serves: the name of a WSGI script, or `module:application`
    :param port: the port at which it does; without one, the unit's environment has `BIND_PARAMS`, which its step sets
    :param wants: units of the distribution that it needs
    :param options: further options of [Service], such as a limit
    :param root: it becomes root for some operations, so it is not sandboxed
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    run: str = ""
    wsgi: str = ""
    port: int = 0
    wants: tuple[str, ...] = ()
    options: dict[str, str] = {}
    root: bool = False


_SudoCommand = Annotated[
    str,
    matches(r"/[^,:=\\\n]+", "an absolute path and arguments, without the characters , : = \\ that sudo reads itself"),
]
"""One that would make the file of rules invalid would end sudo for everybody on the node."""


class Owner(BaseModel):
    """The user of a project's services, with its files and rights.

    :param settings: settings files with secrets, readable by its group
    :param folders: its folders besides /var/lib/NAME
    :param shared: others, such as guests or a web server, read /var/lib/NAME
    :param links: additional links, path -> target
    :param groups: groups of the distribution that it joins if they exist
    :param sudo: commands that it may run as root
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    settings: tuple[str, ...]
    folders: tuple[str, ...] = ()
    shared: bool = False
    links: dict[str, str] = {}
    groups: tuple[str, ...] = ()
    sudo: tuple[_SudoCommand, ...] = ()


class FromWheels(BaseModel):
    """The replacement of one package of the guide if its project comes as a wheel.

    :param project: whose version is its version
    :param owner: the user of its services; none if it has no services
    :param units: its units by name
    :param files: other files that a distribution's package would install, path -> text
    :param links: links that it would install, path -> target
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    project: str
    owner: str = ""
    units: dict[str, Unit] = {}
    files: dict[str, str] = {}
    links: dict[str, str] = {}


class Wheels(BaseModel):
    """Applications from a package index instead of the distribution, all in one environment per node.

    :param path: path of the environment on a node; a digest of its content is appended
    :param python: version of the distribution's Python, such as "3.11"
    :param platform: the oldest C library of the nodes, as uv names platforms
    :param constraints: file next to the release table with the versions of everything else
    :param projects: the applications, name==version, whose commands are put on the node's path
    :param libraries: other projects in the environment
    :param excluded: dependencies to omit: the distribution has them, or they are not needed
    :param build: versions of the build tools for projects that are on the index only as source
    :param needs: packages of the distribution that the environment needs on every node
    :param commands: commands of other projects that are put on the node's path
    :param after: units of the distribution that their services start after, where they are on the same node
    :param built: files that commands of steps make from its code, so that they are made anew for each environment
    :param owners: users of services
    :param packages: name of a package in the guide -> its replacement
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    python: str
    platform: str
    constraints: str
    projects: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    build: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    built: tuple[str, ...] = ()
    owners: dict[str, Owner] = {}
    packages: dict[str, FromWheels] = {}

    def constraints_text(self) -> str:
        """The constraints file.

        :raises InputError: it cannot be read
        """
        return _constraints(self.constraints)

    def version(self, package: str) -> str:
        """Version of the project that replaces a package of the guide.

        :raises InputError: it is not in the constraints
        """
        project = self.packages[package].project
        known = "\n".join((*self.projects, self.constraints_text()))
        found = re.search(rf"^{re.escape(project)}===?(\S+)", known, re.IGNORECASE | re.MULTILINE)
        if found is None:
            raise InputError(
                f"release: no version of {project} (package {package}) in wheels.projects or in {self.constraints}"
            )
        return found[1]


class Release(BaseModel):
    """Names and settings of one release; steps use the guide's names and this table translates them.

    :param packages: name in the guide -> packages of the distribution
    :param units: name in the guide -> systemd units of the distribution
    :param paths: path in the guide -> path here
    :param without: steps that this release does not support yet, with the reason
    :param unwanted: step -> units that its packages enable but the guide does not use
    :param config: options that this release needs beyond the guide (step -> file -> section -> option)
    :param values: single values; the steps that read them declare their names as `ReleaseValue`
    :param wheels: what comes from a package index instead
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    title: str
    openstack: str
    distribution: Distribution
    packages: dict[str, tuple[str, ...]] = {}
    units: dict[str, tuple[str, ...]] = {}
    paths: dict[str, str] = {}
    without: dict[str, str] = {}
    unwanted: dict[str, tuple[str, ...]] = {}
    config: Options = {}
    values: dict[str, str] = {}
    wheels: Wheels | None = None

    def package(self, name: str) -> tuple[str, ...]:
        """The distribution's packages for the guide's `name`."""
        if self.wheels and name in self.wheels.packages:
            return (*self.packages.get(name, ()), *self.wheels.needs)
        return self.packages.get(name, (name,))

    def wheel_version(self, name: str) -> str:
        """Version of the guide's package `name` if it comes as a wheel, otherwise ""."""
        return self.wheels.version(name) if self.wheels and name in self.wheels.packages else ""

    def unit(self, name: str) -> tuple[str, ...]:
        """The distribution's units for the guide's `name`."""
        return self.units.get(name, (name,))

    def path(self, path: str) -> str:
        """The distribution's path for the guide's `path`."""
        return self.paths.get(path, path)

    def value(self, wanted: ReleaseValue) -> str:
        """A single value of this release.

        :raises InputError: the value has no default and the table does not define it
        """
        found = self.values.get(wanted.name, wanted.default)
        if found is None:
            raise InputError(f"release {self.name}: values.{wanted.name} is missing; a step requires it")
        return found


def load_release(name: str) -> Release:
    """The release table called `name`.

    :raises InputError: there is no such table; names the existing ones
    """
    path = table_path(name)
    if Path(name).name != name or not path.exists():
        known = ", ".join(sorted(file.stem for file in _folder().glob("*.yaml")))
        raise InputError(f"release: {name!r} is unknown; known releases: {known}")
    return _read(path)


def table_path(name: str) -> Path:
    """The path of the table called `name`."""
    return _folder() / f"{name}.yaml"


def _folder() -> Path:
    return Path(str(importlib.resources.files("stackspec.releases")))


@cache
def _constraints(name: str) -> str:
    path = _folder() / name
    try:
        return path.read_text()
    except OSError as error:
        raise InputError(
            f"release: wheels.constraints: {path}: {error.strerror}; put the file next to the table"
        ) from None


@cache
def _read(path: Path) -> Release:
    return parse(Release, *read_yaml(path))
