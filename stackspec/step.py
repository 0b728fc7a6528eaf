"""Steps: each chapter of the guide is a function that declares resources; tests request it as a fixture."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .inventory import Node
from .release import ReleaseValue
from .resources.from_wheels import from_wheels
from .resources.site_options import with_site_options
from .site import Site

if TYPE_CHECKING:
    from .resources import Resource

Resources = Iterator["Resource"]
DATA = ("site", "node")
"""Arguments of a step that are data; every other argument is a step that it depends on."""


@dataclass(frozen=True)
class Step:
    """A registered step.

    :param name: its name, also that of its fixture
    :param role: the nodes that it runs on: a role, several, or `all`
    :param needs: the steps that it depends on
    :param provides: the service type in a cloud's catalog that shows that this step is done there
    :param declare: the function that yields the resources
    :param sections: sections of the inventory that the step requires; none: the step is in every site
    """

    name: str
    role: str | tuple[str, ...]
    needs: tuple[str, ...]
    provides: str | None
    declare: Callable[..., Iterable[Resource]] = field(compare=False)
    sections: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[ReleaseValue, ...]:
        """The constants for single values of release tables that the step's function refers to."""
        named = inspect.getclosurevars(self.declare).globals.values()
        return tuple(each for each in named if isinstance(each, ReleaseValue))

    def lacks(self, site: Site) -> str:
        """Why the step is not in `site`, or ""."""
        if reason := site.release.without.get(self.name):
            return f"the release {site.release.name} does not include it: {reason}"
        section = self.section_missing(site)
        return f"its inventory has no section {section!r}" if section else ""

    def section_missing(self, site: Site) -> str:
        """The missing section because of which the step is not in `site`, or ""."""
        return next((section for section in self.sections if not site.inventory.has(section)), "")

    def nodes(self, site: Site) -> list[Node]:
        """The nodes of `site` that the step runs on."""
        if self.lacks(site):
            return []
        roles = {self.role} if isinstance(self.role, str) else set(self.role)
        return [node for node in site.nodes.values() if roles & {"all", *node.roles}]

    def resources(self, site: Site, node: Node) -> list[Resource]:
        """What the step declares for `node`, with the additional options of release and inventory."""
        given: dict[str, Any] = {"site": site, "node": node}
        wanted = inspect.signature(self.declare).parameters
        arguments = {name: given[name] if name in given else STEPS[name] for name in wanted}
        return with_site_options(self.name, site, from_wheels(site, self.declare(**arguments)))


STEPS: dict[str, Step] = {}


def step(
    *, role: str | tuple[str, ...], provides: str | None = None, section: str | tuple[str, ...] = ()
) -> Callable[[Callable[..., Resources]], Callable[..., Resources]]:
    """Register a function as a step; the plugin creates a session fixture for it.

    :param role: controller, compute, storage or all; or several of them
    :param provides: service type in the catalog, by which the step's tests find it on an existing cloud
    :param section: the section of the inventory, or several, that the step requires
    """
    sections = (section,) if isinstance(section, str) else section

    def register(function: Callable[..., Resources]) -> Callable[..., Resources]:
        name = function.__name__
        parameters = inspect.signature(function).parameters
        needs = tuple(parameter for parameter in parameters if parameter not in DATA)
        STEPS[name] = Step(name, role, needs, provides, function, sections)
        return function

    return register


def load_steps() -> list[str]:
    """Import every file of deploy_steps/ and return the module names."""
    package = importlib.import_module("stackspec.steps")
    names = [f"stackspec.steps.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    for name in names:
        importlib.import_module(name)
    return names


def closure(names: Iterable[str]) -> list[str]:
    """`names` and all steps they need, each after the steps it needs."""
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...] = ()) -> None:
        if name in above:
            raise ValueError(f"steps depend on each other: {' -> '.join((*above, name))}")
        for need in STEPS[name].needs:
            visit(need, (*above, name))
        if name not in order:
            order.append(name)

    for name in names:
        visit(name)
    return order
