"""The switch: its settings, its bridges, and an interface that is a neutron port."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from stackspec.openstack import OvsBridge, OvsNeutronPort, OvsSetting
from stackspec.openstack.cloud import SharedCloud
from stackspec.resources import Service
from stackspec.resources.base import Query, unit
from stackspec.site import Site

from .bare import RUNNING, ChangeOf, FoundCloud, answer, context, differences, look, project


class TestOvsSetting:
    """A key of the switch's other_config."""

    resource = OvsSetting("userspace-tso-enable", "true")

    @pytest.mark.parametrize(
        ("config", "due"),
        [
            ([], True),
            ([["userspace-tso-enable", "false"]], True),
            ([["a", "b"], ["userspace-tso-enable", "true"]], False),
        ],
    )
    def test_due(self, site: Site, change: ChangeOf, config: list[list[str]], due: bool) -> None:
        """According to the switch's own table."""
        (table,) = self.resource.queries(site, site.controller)
        out = json.dumps({"data": [[["map", config]]], "headings": ["other_config"]})
        assert (change(self.resource, {table: answer(out)}) is not None) == due

    def test_switch_is_not_running(self, change: ChangeOf) -> None:
        """Set without waiting for the switch, which reads it when it starts."""
        assert "--no-wait" in change(self.resource).actions[0].argv

    def test_switch_restarts(self, site: Site) -> None:
        """It reads the key only at its start; the service refers to the setting."""
        service = Service("etcd", reads=(self.resource.title,))
        assert len(look(site, [self.resource, service], {unit("etcd"): RUNNING})[1].changes) == 1


class TestOvsBridge:
    """A bridge with a port and an address."""

    resource = OvsBridge("br-provider", "eth1", "netdev", "192.168.35.10/24")

    def known(
        self,
        site: Site,
        *,
        bridges: Iterable[tuple[str, str]] = (("br-provider", "netdev"),),
        ports: str = "eth1\n",
        address: str = "192.168.35.10",
    ) -> dict[Query, Any]:
        """A switch with these bridges."""
        table, listed, shown = self.resource.queries(site, site.controller)
        addresses = [{"addr_info": [{"family": "inet", "local": address, "prefixlen": 24}]}]
        return {
            table: answer(json.dumps({"data": [list(each) for each in bridges]})),
            listed: answer(ports),
            shown: answer(json.dumps(addresses)),
        }

    def test_correct_state(self, site: Site, change: ChangeOf) -> None:
        """Other bridges and ports do not matter."""
        known = self.known(site, bridges=(("br-int", "system"), ("br-provider", "netdev")), ports="eth1\nphy-br\n")
        assert change(self.resource, known) is None

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ({"bridges": ()}, "datapath of br-provider: wanted netdev, found absent"),
            ({"bridges": (("br-provider", ""),)}, "datapath of br-provider: wanted netdev, found system"),
            ({"ports": ""}, "port of br-provider: wanted eth1, found none"),
            ({"ports": "eth10\n"}, "port of br-provider: wanted eth1, found eth10"),
            ({"address": "192.168.35.11"}, "address of br-provider: wanted 192.168.35.10/24, found 192.168.35.11/24"),
        ],
    )
    def test_one_thing_is_wrong(self, site: Site, change: ChangeOf, state: dict[str, Any], message: str) -> None:
        """It is named, and one repeatable call repairs it (erratum E42)."""
        found = change(self.resource, self.known(site, **state))
        assert differences(found) == [message]
        up, make = (action.argv for action in found.actions[:2])
        assert up == ("ip", "link", "set", "eth1", "up")
        assert make.count("--may-exist") == 2
        assert "datapath_type=netdev" in make

    def test_kernel_datapath_has_no_name(self, site: Site, change: ChangeOf) -> None:
        """The switch's table has an empty value for it."""
        resource = OvsBridge("br-provider", "eth1", "system", "192.168.35.10/24")
        assert change(resource, self.known(site, bridges=(("br-provider", ""),))) is None

    def test_no_switch(self, change: ChangeOf) -> None:
        """Not installed yet: everything has to be created."""
        assert len(differences(change(self.resource))) == 3


class TestInterface:
    """An interface that is a neutron port."""

    port = OvsNeutronPort("br-int", "o-hm0", "listen", "net")
    kept = (
        ("iface-status", "active"),
        ("attached-mac", "fa:16:3e:00:00:01"),
        ("iface-id", "id of listen"),
        ("skip_cleanup", "true"),
    )

    def change(self, site: Site, *, row: list[Any] | None, ports: str = "o-hm0\n") -> Any:
        """The change if the switch has that interface."""
        interfaces, listed = self.port.queries(site, site.controller)
        known = {interfaces: answer(json.dumps({"data": [row] if row else []})), listed: answer(ports)}
        here = context(site, site.controller, known)
        port = SimpleNamespace(id="id of listen", name="listen", mac_address="fa:16:3e:00:00:01", project_id="p")
        tenants = SimpleNamespace(id="t", name="net", mtu=9000, project_id="t")
        network = SimpleNamespace(id="n", name="net", mtu=1450, project_id="p")
        lists = {"ports": [port], "networks": [tenants, network], "projects": [project("service", "p")]}
        here.shared._objects[SharedCloud] = FoundCloud(site, **lists)
        return next(iter(self.port.changes(here)), None)

    def row(self, **changed: str) -> list[Any]:
        """The correct interface, except for `changed`."""
        values = {"type": "internal", "mac": "fa:16:3e:00:00:01", "mtu_request": 1450} | changed
        return [
            "o-hm0",
            values["type"],
            values["mac"],
            values["mtu_request"],
            ["map", [list(each) for each in self.kept]],
        ]

    def test_correct_interface(self, site: Site) -> None:
        """Nothing to do."""
        assert self.change(site, row=self.row()) is None

    def test_missing_interface(self, site: Site) -> None:
        """One call creates all of it, with the cloud's own values."""
        argv = self.change(site, row=None, ports="").actions[0].argv
        assert argv[2:7] == ("--may-exist", "add-port", "br-int", "o-hm0", "--")
        assert {'mac="fa:16:3e:00:00:01"', "mtu_request=1450", 'external-ids:iface-id="id of listen"'} <= set(argv)

    @pytest.mark.parametrize("changed", [{"mac": "fa:16:3e:00:00:02"}, {"mtu_request": 1500}, {"type": ""}])
    def test_different_interface(self, site: Site, changed: Any) -> None:
        """A recreated port has a different MAC."""
        assert len(differences(self.change(site, row=self.row(**changed)))) == 1

    def test_interface_outside_of_any_bridge(self, site: Site) -> None:
        """A database record alone is no interface."""
        assert len(differences(self.change(site, row=self.row(), ports="other\n"))) == 7
