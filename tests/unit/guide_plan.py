"""The plan of the guide's machines for one of the releases, created without nodes; each secret is different."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from stackspec.cloud_inventory import CloudInventory
from stackspec.inventory import Node, load_inventory
from stackspec.release import Release, load_release
from stackspec.resources import IniFile, Resource
from stackspec.site import Site
from stackspec.step import load_steps
from stackspec.task import plan_of as tasks_of

from .bare import NamedSecrets
from .guide_node import Done, GuideNode

ROOT = Path(__file__).parents[2]
CHAPTERS = {
    **{name: (name,) for name in ("mariadb", "rabbitmq", "memcached", "etcd", "keystone", "glance", "placement")},
    "base": ("base", "chrony", "chrony_client", "openstack_client"),
    "swift": ("swift_disks", "swift", "swift_storage"),
    "nova": ("nova", "nova_compute", "nova_discover"),
    "neutron": ("neutron", "neutron_compute", "nova_networking"),
    "horizon": ("horizon",),
    "cinder": ("cinder", "cinder_volume", "cinder_backup", "volume_attachment"),
    "heat": ("heat",),
    "magnum": ("magnum",),
    "octavia": ("octavia", "octavia_dashboard"),
    "barbican": ("barbican",),
    "skyline": ("skyline_apiserver", "skyline"),
}
"""Chapter of the guide -> the steps that implement it."""
BESIDE_THE_GUIDE: frozenset[str] = frozenset()
"""Steps of services that the guide does not have: they are not compared with it."""
RELEASES = ("caracal-jammy", "epoxy-trixie")
"""The guide's release, and the one that is deployed."""
Steps = Mapping[str, list[Resource]]
"""Step -> what it declares for one node, in order of execution."""

_Kind = TypeVar("_Kind", bound=Resource)


@cache
def guide_site(release: str = RELEASES[0]) -> Site:
    """The site of the guide's machines with a release; without state."""
    return site_with(load_release(release))


def site_with(release: Release) -> Site:
    """The site of the guide's machines with this release table."""
    load_steps()
    return Site(load_inventory(ROOT / "inventories/guide", CloudInventory), release, NamedSecrets())


def declared(site: Site, node: Node) -> dict[str, list[Resource]]:
    """What all steps declare for a node."""
    return {task.step.name: task.resources for task in tasks_of(site) if task.node.name == node.name}


class Part:
    """What the steps of a chapter declare for one node, what they did there, and the final state of the node."""

    def __init__(self, here: NodePlan, chapter: str) -> None:
        self.here, self.site, self.node = here, here.site, here.node
        self.steps = CHAPTERS[chapter]
        self.resources = [each for name, found in here.steps.items() if name in self.steps for each in found]

    def of(self, *kinds: type[_Kind]) -> list[_Kind]:
        """Resources of these kinds."""
        return [each for each in self.resources if isinstance(each, kinds)]

    @property
    def after(self) -> GuideNode:
        """The node after every step has run."""
        return self.here.after

    @cached_property
    def done(self) -> list[Done]:
        """What the chapter's steps did, in order."""
        return [each for each in self.after.done if each.step in self.steps]

    @cached_property
    def commands(self) -> list[Done]:
        """The commands among them."""
        return [each for each in self.done if each.action["op"] == "command"]

    @cached_property
    def calls(self) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
        """The cloud API calls among them."""
        calls = [each.action for each in self.done if each.action["op"] == "call"]
        return [(each["name"], each["args"], each["kwargs"]) for each in calls]

    def called(self, method: str, *same: str, **wanted: Any) -> bool:
        """Whether a call of `method` has these arguments; the last call with equal arguments named in `same` counts."""
        of_it = [kwargs for name, _, kwargs in self.calls if name == method]
        if same:
            of_it = [each for each in of_it if all(each.get(key) == wanted[key] for key in same)][-1:]
        return any(wanted.items() <= each.items() for each in of_it)

    def assigned(self, method: str, user: str, role: str, where: str) -> bool:
        """Whether `user` is given `role` on the project, domain or system `where`."""
        wanted = (user, role, where) if method == "assign_system_role_to_user" else (where, user, role)
        return any(
            name == method and tuple(getattr(each, "name", each) for each in args) == wanted
            for name, args, _ in self.calls
        )


class NodePlan:
    """All steps of a node of the guide.

    :param site: the site
    :param node: the node
    :param steps: what they declare
    :param files: initial files of the node: path -> content
    """

    def __init__(self, site: Site, node: Node, steps: Steps, files: Mapping[str, str]) -> None:
        self.site, self.node, self.steps, self.files = site, node, steps, files
        self._parts: dict[str, Part] = {}

    @cached_property
    def after(self) -> GuideNode:
        """The node after every step has run."""
        node = GuideNode(self.site, self.node, self.files)
        for name, resources in self.steps.items():
            node.run(name, resources)
        return node

    def part(self, chapter: str) -> Part:
        """A chapter of the plan."""
        if chapter not in self._parts:
            self._parts[chapter] = Part(self, chapter)
        return self._parts[chapter]


class Plan:
    """All nodes of the guide."""

    def __init__(self, site: Site, nodes: Iterable[NodePlan]) -> None:
        self.site = site
        self.nodes = {each.node.name: each for each in nodes}

    def part(self, chapter: str, node: str) -> Part:
        """What a chapter's steps declare for a node."""
        return self.nodes[node].part(chapter)

    def with_step(self, node: str, step: str, resources: list[Resource]) -> Plan:
        """The same plan, with other resources for a step on a node."""
        old = self.nodes[node]
        new = NodePlan(self.site, old.node, {**old.steps, step: resources}, old.files)
        return Plan(self.site, [new if each is old else each for each in self.nodes.values()])


def plan_of(site: Site, files: Mapping[str, str]) -> Plan:
    """The plan of a site."""
    nodes = []
    for node in site.nodes.values():
        steps = declared(site, node)
        nodes.append(NodePlan(site, node, steps, _with_shipped(site, steps, files)))
    return Plan(site, nodes)


def _with_shipped(site: Site, steps: Steps, files: Mapping[str, str]) -> dict[str, str]:
    """`files`, and in each section that a step owns an extra option, as if a package had installed it."""
    found = dict(files)
    owned = {
        (site.release.path(each.path), section)
        for resources in steps.values()
        for each in resources
        if isinstance(each, IniFile)
        for section in each.own
    }
    for path, section in sorted(owned):
        found[path] = found.get(path, "") + f"[{section}]\nshipped_by_the_package = 1\n"
    return found
