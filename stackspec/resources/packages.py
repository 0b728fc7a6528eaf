"""Distribution packages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from ..inventory import Node
from ..site import Site
from .actions import Apt, FinishApt
from .base import Change, Context, Difference, Query, Resource, package, unfinished


@dataclass(frozen=True, init=False)
class Packages(Resource):
    """Required packages; the engine installs those of all planned steps in one transaction.

    :param names: the guide's names; the release table translates them
    """

    read_again: ClassVar[bool] = True
    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)

    @property
    def title(self) -> str:
        return f"packages {' '.join(self.names)}"

    def real_names(self, site: Site) -> list[str]:
        """Names for the release of `site`."""
        return list(dict.fromkeys(real for name in self.names for real in site.release.package(name)))

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [package(name) for name in self.real_names(site)]

    def changes(self, context: Context) -> list[Change]:
        missing = [name for name in self.real_names(context.site) if context.facts[package(name)] is None]
        if not missing:
            return []
        differences = tuple(Difference(f"package {name}", "installed", "not installed") for name in missing)
        return [Change(f"install {' '.join(missing)}", differences, "", (Apt(tuple(missing)),))]


@dataclass(frozen=True)
class NothingHalfInstalled(Resource):
    """No unfinished installation of a killed run.

    The packages are installed then, so they show no difference; but systemd, D-Bus and polkit were never notified,
    since the maintainer scripts were held back.
    """

    @property
    def title(self) -> str:
        return "no unfinished installation"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [unfinished()]

    def changes(self, context: Context) -> list[Change]:
        if not context.facts[unfinished()]:
            return []
        difference = Difference("post-installation", "done", "not done, the run was killed")
        return [Change("finish an installation", (difference,), "", (FinishApt(),))]
