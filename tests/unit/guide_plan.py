"""The plan of the guide's own machines and release, made without any node, every password being the guide's 000000."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from stackspec.inventory import Node, load_inventory
from stackspec.openstack import Image, RegisteredLimit
from stackspec.openstack.api_object import ApiObject
from stackspec.openstack.cloud import Cloud
from stackspec.release import load_release
from stackspec.resources import Resource
from stackspec.site import Site
from stackspec.step import STEPS, closure, load_steps

from .bare import FixedSecrets, NotedCloud, context

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
"""Chapter of the guide -> the steps that it is split into."""

_Kind = TypeVar("_Kind", bound=Resource)


@cache
def guide_site() -> Site:
    """The guide's machines with the guide's release and passwords; no state."""
    inventory = load_inventory(ROOT / "inventories/guide")
    return Site(inventory, load_release(inventory.release), FixedSecrets("000000"))


class Part:
    """What the steps of a chapter declare for one node."""

    def __init__(self, site: Site, node: Node, steps: tuple[str, ...]) -> None:
        self.site, self.node = site, node
        chosen = [STEPS[name] for name in closure(STEPS) if name in steps]
        self.resources = [r for step in chosen if node in step.nodes(site) for r in step.resources(site, node)]

    def of(self, *kinds: type[_Kind]) -> list[_Kind]:
        """Resources of these kinds."""
        return [each for each in self.resources if isinstance(each, kinds)]

    @cached_property
    def actions(self) -> list[dict[str, Any]]:
        """The operations that a bare node is sent."""
        found = [c for r in self.resources if not r.on_runner for c in r.changes(context(self.site, self.node))]
        return [action for change in found for action in change.actions if isinstance(action, dict)]

    @property
    def commands(self) -> list[dict[str, Any]]:
        """The commands among them."""
        return [action for action in self.actions if action["op"] == "command"]

    @cached_property
    def calls(self) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
        """The calls that an empty cloud is sent. Images (files) and limits (of services that are there) make none."""
        here = context(self.site, self.node)
        cloud = here.shared.get(Cloud)
        assert isinstance(cloud, NotedCloud)
        for each in self.of(ApiObject):
            if not isinstance(each, Image | RegisteredLimit):
                each.make(cloud, here)
        return cloud.calls

    def called(self, method: str, **wanted: Any) -> bool:
        """Whether a call of `method` has these arguments."""
        return any(name == method and wanted.items() <= kwargs.items() for name, _, kwargs in self.calls)

    def assigned(self, method: str, user: str, role: str, where: str) -> bool:
        """Whether `user` is given `role` on the project, domain or system `where`."""
        wanted = (user, role, where) if method == "assign_system_role_to_user" else (where, user, role)
        return any(
            name == method and tuple(getattr(each, "name", each) for each in args) == wanted
            for name, args, _ in self.calls
        )


@cache
def part_of(chapter: str, node: str) -> Part:
    """What a chapter's steps declare for a node of the guide."""
    load_steps()
    site = guide_site()
    return Part(site, site.nodes[node], CHAPTERS[chapter])
