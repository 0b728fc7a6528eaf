"""A release table: what differs between distributions, as data (releases/*.yaml)."""

from __future__ import annotations

import importlib.resources
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from .errors import InputError
from .inventory import Options, parse
from .yaml_file import read_yaml


@dataclass(frozen=True)
class ReleaseValue:
    """A key of the tables' `values`, as a constant beside the step that reads it, in its own function.

    :param name: the key
    :param default: what it is where a table does not say; None when every table of a release with that step has to
    """

    name: str
    default: str | None = None


class Distribution(BaseModel):
    """What a distribution is.

    :param id: ID of /etc/os-release
    :param version: VERSION_ID there
    :param python: version of its python3, such as "3.13"
    :param glibc: version of its C library; with `python` it chooses the wheels of a bundle, for which no node is asked
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    version: str
    python: str = ""
    glibc: str = ""


class Unit(BaseModel):
    """A unit that a distribution's package would bring.

    Here and below, texts and the paths of files and links may say `{environment}`, the folder of the environment, and
    `{library}`, where its modules are.

    :param run: its command
    :param wsgi: instead of it, what uWSGI serves: the name of a WSGI script, or `module:application`
    :param port: the port at which it does; without one, the unit's environment has `BIND_PARAMS`, which its step sets
    :param wants: units of the distribution that it needs
    :param options: further options of [Service], such as a limit
    :param root: it becomes root for some of its work, so that it is not shut in
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    run: str = ""
    wsgi: str = ""
    port: int = 0
    wants: tuple[str, ...] = ()
    options: dict[str, str] = {}
    root: bool = False


class Owner(BaseModel):
    """The user of a project's services, with what is his.

    :param settings: files of settings with secrets, which his group may read
    :param folders: his folders besides /var/lib/NAME
    :param shared: others look into /var/lib/NAME, such as guests or a web server
    :param links: links beside them, path -> where it leads
    :param groups: groups of the distribution that he joins where they are
    :param sudo: commands that he may run as root
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    settings: tuple[str, ...]
    folders: tuple[str, ...] = ()
    shared: bool = False
    links: dict[str, str] = {}
    groups: tuple[str, ...] = ()
    sudo: tuple[str, ...] = ()


class FromWheels(BaseModel):
    """What one package of the guide is when its project comes as a wheel.

    :param project: whose version is its version
    :param owner: the user of its services, none when it has no services
    :param units: its units by name
    :param files: other files that a distribution's package would bring, path -> text
    :param links: links that it would bring, path -> where they lead
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    project: str
    owner: str = ""
    units: dict[str, Unit] = {}
    files: dict[str, str] = {}
    links: dict[str, str] = {}


class Wheels(BaseModel):
    """Applications that come from a package index and not from the distribution, all in one environment a node.

    :param path: the environment on a node; its name goes on with a digest of what is in it
    :param python: version of the distribution's Python, such as "3.11"
    :param platform: the oldest C library that nodes have, as uv names platforms
    :param constraints: file beside the release table with the version of everything else
    :param projects: the applications, name==version, whose commands are to be found on the node's path
    :param beside: what else is in the environment
    :param elsewhere: projects that others ask for and that are left out: the distribution has them, or nobody needs it
    :param build: versions of the tools that pack projects which are on the index as source only
    :param needs: packages of the distribution that the environment needs on every node
    :param commands: commands of other projects that are to be found on the node's path
    :param owners: users of services
    :param packages: name of a package in the guide -> what it is here
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    python: str
    platform: str
    constraints: str
    projects: tuple[str, ...]
    beside: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    build: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    owners: dict[str, Owner] = {}
    packages: dict[str, FromWheels] = {}

    def constraints_text(self) -> str:
        """The constraints file."""
        return _constraints(self.constraints)

    def version(self, package: str) -> str:
        """Version of the project that a package of the guide is here.

        :raises InputError: the constraints do not name it
        """
        project = self.packages[package].project
        known = "\n".join((*self.projects, self.constraints_text()))
        found = re.search(rf"^{re.escape(project)}===?(\S+)", known, re.IGNORECASE | re.MULTILINE)
        if found is None:
            raise InputError(
                f"release: no version of {project}, which is {package}, in wheels.projects or in {self.constraints}"
            )
        return found[1]


class Release(BaseModel):
    """Names and settings of one release; steps use the guide's names and this table translates them.

    :param packages: name in the guide -> packages of the distribution
    :param units: name in the guide -> systemd units of the distribution
    :param paths: path in the guide -> path here
    :param without: steps that this release has not got yet, with the reason
    :param unwanted: step -> units that its packages enable and the guide does not want
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
        """Packages that the guide's `name` means here."""
        if self.wheels and name in self.wheels.packages:
            return (*self.packages.get(name, ()), *self.wheels.needs)
        return self.packages.get(name, (name,))

    def wheel_version(self, name: str) -> str:
        """Version of the guide's package `name` where it comes as a wheel, else ""."""
        return self.wheels.version(name) if self.wheels and name in self.wheels.packages else ""

    def unit(self, name: str) -> tuple[str, ...]:
        """Units that the guide's `name` means here."""
        return self.units.get(name, (name,))

    def path(self, path: str) -> str:
        """Where the guide's `path` is here."""
        return self.paths.get(path, path)

    def value(self, wanted: ReleaseValue) -> str:
        """What a single value is here.

        :raises InputError: the table has to say it and does not
        """
        found = self.values.get(wanted.name, wanted.default)
        if found is None:
            raise InputError(f"release {self.name}: values.{wanted.name} is missing; a step reads it")
        return found


def load_release(name: str) -> Release:
    """The release table called `name`.

    :raises InputError: there is no such table, with the names that exist
    """
    path = table_path(name)
    if Path(name).name != name or not path.exists():
        known = ", ".join(sorted(file.stem for file in _folder().glob("*.yaml")))
        raise InputError(f"release: {name!r} is unknown; known releases: {known}")
    return _read(path)


def table_path(name: str) -> Path:
    """Where the table called `name` is, or would be."""
    return _folder() / f"{name}.yaml"


def _folder() -> Path:
    return Path(str(importlib.resources.files("stackspec.releases")))


@cache
def _constraints(name: str) -> str:
    return (_folder() / name).read_text()


@cache
def _read(path: Path) -> Release:
    return parse(Release, *read_yaml(path))
