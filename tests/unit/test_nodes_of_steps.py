"""The inventory decides which nodes have a step, and what the step declares there."""

from __future__ import annotations

from dataclasses import replace

from stackspec.cloud_inventory import CloudInventory
from stackspec.inventory import load_inventory
from stackspec.openstack import Ring
from stackspec.release import load_release
from stackspec.resources import FileFrom, KernelModule, Xfs
from stackspec.secrets import Secrets
from stackspec.site import Site
from stackspec.step import STEPS, load_steps

from .bare import FixedSecrets, steps_of
from .guide_plan import ROOT


def test_no_step_without_the_section() -> None:
    """Without the section, no node has the step; the other steps are unchanged."""
    load_steps()
    inventory = load_inventory(ROOT / "inventories/lab", CloudInventory)
    for section, nodes in ((inventory.octavia, ["controller"]), (None, [])):
        changed = inventory.model_copy(update={"octavia": section})
        site = Site(changed, load_release(inventory.release), Secrets())
        assert [node.name for node in STEPS["octavia"].nodes(site)] == nodes
        assert [node.name for node in STEPS["glance"].nodes(site)] == ["controller"]


def test_site_without_disks_has_no_storage_services(site: Site) -> None:
    """Nothing is declared on any node, so neither the catalog nor the tests include it."""
    load_steps()
    bare = {name: node.model_copy(update={"disks": {}}) for name, node in site.nodes.items()}
    assert site.inventory.has("disks.swift")
    assert site.inventory.has("disks.cinder")
    site = replace(site, inventory=site.inventory.model_copy(update={"nodes": bare}))
    for name in ("swift_disks", "swift", "swift_storage", "cinder", "cinder_volume", "cinder_backup"):
        assert STEPS[name].nodes(site) == []


def test_storage_node_without_disks_for_swift_is_left_alone(site: Site) -> None:
    """It stores other data and is not in the rings."""
    load_steps()
    other = site.nodes["compute02"].model_copy(update={"disks": {}})
    nodes = {**site.nodes, "compute02": other}
    site = replace(site, inventory=site.inventory.model_copy(update={"nodes": nodes}))
    for name in ("swift_disks", "swift_storage"):
        assert not [each for each in STEPS[name].resources(site, other) if isinstance(each, Xfs | FileFrom)]
    rings = [each for each in STEPS["swift"].resources(site, site.controller) if isinstance(each, Ring)]
    assert {device.ip for ring in rings for device in ring.devices} == {"10.0.0.20"}


def test_site_options_create_no_files_where_the_step_does_nothing(site: Site) -> None:
    """The lab's options for cinder_volume are for the node with the disks, not for every storage node."""
    load_steps()
    assert "cinder_volume" in site.inventory.config
    assert STEPS["cinder_volume"].resources(site, site.nodes["compute02"])
    assert STEPS["cinder_volume"].resources(site, site.nodes["compute01"]) == []


def without_volumes(site: Site, name: str) -> Site:
    """The site with `volumes: false` on a compute node."""
    nodes = {**site.nodes, name: site.nodes[name].model_copy(update={"volumes": False})}
    return Site(site.inventory.model_copy(update={"nodes": nodes}), site.release, FixedSecrets("pass-1"))


def test_node_without_volumes_is_left_alone(guide: Site) -> None:
    """Nothing of the chapter is declared there, and nova's configuration does not mention volumes."""
    site = without_volumes(guide, "compute03")
    assert steps_of(site, "volume_attachment", "compute03") == []
    assert not [
        each for each in steps_of(site, "nova_compute", "compute03") if "cinder" in getattr(each, "options", ())
    ]
    assert [each for each in steps_of(site, "nova_compute", "compute01") if "cinder" in getattr(each, "options", ())]


def test_backups_need_both_chapters(guide: Site) -> None:
    """Without disks for swift no node runs backups, and cinder is not configured for them."""
    load_steps()
    assert [node.name for node in STEPS["cinder_backup"].nodes(guide)] == ["compute01", "compute02"]
    nodes = {
        name: node.model_copy(update={"disks": {key: each for key, each in node.disks.items() if key != "swift"}})
        for name, node in guide.nodes.items()
    }
    site = Site(guide.inventory.model_copy(update={"nodes": nodes}), guide.release, FixedSecrets("pass-1"))
    assert STEPS["cinder_backup"].nodes(site) == []
    assert STEPS["cinder_backup"].section_missing(site) == "disks.swift"
    assert "backup_driver" in str(steps_of(guide, "cinder_volume", "compute01"))
    assert "backup_driver" not in str(steps_of(site, "cinder_volume", "compute01"))
    assert STEPS["cinder_volume"].nodes(site)


def test_advice_fits_the_node(guide: Site) -> None:
    """If no volume can be attached, either servers do without them or the disks move to other nodes."""
    for site, step, advice in (
        (guide, "volume_attachment", "set volumes: false there, at nodes.compute01 of"),
        (without_volumes(guide, "compute01"), "cinder_backup", "remove its disks.cinder, at nodes.compute01 of"),
    ):
        (module,) = [each for each in steps_of(site, step, "compute01") if isinstance(each, KernelModule)]
        assert advice in module.advice
