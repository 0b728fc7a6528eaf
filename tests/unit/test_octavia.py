"""What octavia needs: certificates, an interface of the switch, a service's groups and ports, stuck load balancers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from cryptography.exceptions import InvalidSignature

from stackspec import certificates
from stackspec.cloud_inventory import CloudInventory, Octavia, inventory_of
from stackspec.inventory import load_inventory
from stackspec.openstack import (
    Flavor,
    Image,
    Keypair,
    NoQuota,
    NoStuckLoadBalancer,
    OvsNeutronPort,
    SecurityGroup,
    ServiceNetwork,
    ServicePort,
)
from stackspec.openstack.cloud import SharedCloud
from stackspec.openstack.load_balancer import PATIENCE
from stackspec.release import load_release
from stackspec.resources.base import unit
from stackspec.secrets import Redactor, Secrets, redact
from stackspec.site import ImageBuilder, Site
from stackspec.step import STEPS, load_steps

from .bare import RUNNING, FoundCloud, context, differences, found_in, project, recorded
from .guide_plan import ROOT

SERVICE = [project("service", "p")]


def octavia_of(site: Site) -> Octavia:
    """The inventory's section octavia."""
    found = inventory_of(site).octavia
    assert found is not None
    return found


def answer(out: str = "", status: int = 0) -> dict[str, object]:
    """Output and status of a command."""
    return {"status": status, "out": out, "err": ""}


class TestCertificates:
    """Certificate authorities, and client certificates that they sign."""

    passphrase = "open sesame"

    @pytest.fixture
    def authority(self) -> str:
        """A certificate authority."""
        return certificates.make_authority("authority", self.passphrase)

    def test_client_verifies(self, authority: str) -> None:
        """With strict X.509 checks; not with another authority."""
        client = certificates.certificate_of(certificates.make_client("node", authority, self.passphrase))
        signer = certificates.certificate_of(authority)
        client.verify_directly_issued_by(signer)
        other = certificates.certificate_of(certificates.make_authority("authority", self.passphrase))
        with pytest.raises(InvalidSignature):
            client.verify_directly_issued_by(other)
        for certificate in (client, signer):
            names = {extension.oid._name for extension in certificate.extensions}
            assert {"keyUsage", "subjectKeyIdentifier", "authorityKeyIdentifier", "basicConstraints"} <= names

    def test_certificate_is_usable(self, authority: str) -> None:
        """Only with its pass phrase and its authority."""
        client = certificates.make_client("node", authority, self.passphrase)
        assert certificates.is_usable(authority, self.passphrase)
        assert certificates.is_usable(client, authority=authority)
        other = certificates.make_authority("authority", self.passphrase)
        assert not certificates.is_usable(authority, "another")
        assert not certificates.is_usable(client, authority=other)
        mixed = certificates.certificate_part(authority) + certificates.key_part(other)
        assert not certificates.is_usable(mixed, self.passphrase)
        assert not certificates.is_usable("000000", self.passphrase)

    def test_certificate_is_renewed_before_it_expires(self, authority: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Renewed while the old one is still valid."""
        monkeypatch.setattr(certificates, "RENEWED", certificates.LIFETIME)
        assert not certificates.is_usable(authority, self.passphrase)

    def test_key_is_encrypted(self, authority: str) -> None:
        """Its file alone is useless."""
        assert "ENCRYPTED" in certificates.key_part(authority)


class TestDocuments:
    """Multi-line secrets."""

    def test_document_is_created_once(self, tmp_path: Path) -> None:
        """Kept as long as it is usable, also by the next process."""
        count = iter(range(9))
        secrets = Secrets(tmp_path / "secrets.json")
        secrets.keep()

        def text(usable: bool = True) -> str:
            return secrets.document("d", lambda: f"document {next(count)}\nwith lines\n", lambda found: usable)

        assert (text(), text(), text(False), text()) == tuple(f"document {n}\nwith lines\n" for n in (0, 0, 1, 1))
        assert Secrets(tmp_path / "secrets.json").document("d", str, bool) == "document 1\nwith lines\n"

    def test_lines_are_masked(self) -> None:
        """A diff puts a mark before each line; the first and last lines of a key are not secret."""
        body = ["c2VjcmV0c2VjcmV0c2VjcmV0" + str(number) for number in range(3)]
        key = "\n".join(["-----BEGIN PRIVATE KEY-----", *body, "short", "-----END PRIVATE KEY-----"])
        redactor = Redactor()
        redactor.add(key)
        shown = redactor("\n".join(f"+{line}" for line in key.splitlines()))
        assert not [line for line in body if line in shown]
        assert "BEGIN PRIVATE KEY" in shown
        assert "short" in redactor("a short word")


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


class TestStuck:
    """Load balancers that a dead worker left pending."""

    worker, manager = 10_000.0, 8_000.0

    def change(self, site: Site, *rows: tuple[str, str, float, float], only: tuple[str, ...] = ()) -> Any:
        """The change with these pending load balancers: id, status, time of the last change, and the current time."""
        resource = NoStuckLoadBalancer(only=only)
        pending, worker, manager = resource.queries(site, site.controller)
        out = "".join(f"{key}\t{status}\t{changed}\t{now - changed}\n" for key, status, changed, now in rows)
        known = {
            pending: answer(out),
            worker: {**RUNNING, "started": self.worker},
            manager: {**RUNNING, "started": self.manager},
        }
        return next(iter(resource.changes(context(site, site.controller, known))), None)

    def test_no_pending_load_balancers(self, site: Site, change: Any) -> None:
        """None, or no database yet."""
        assert self.change(site) is None
        assert change(NoStuckLoadBalancer(), {unit("octavia-worker"): RUNNING}) is None

    @pytest.mark.parametrize(
        ("status", "changed", "now"),
        [
            pytest.param("PENDING_CREATE", worker + 1, worker + 3_600, id="the worker is at it"),
            pytest.param("PENDING_CREATE", worker - 1, worker + 299, id="the worker may just have been given it"),
            pytest.param("PENDING_UPDATE", worker - 1, worker + 899, id="the manager may be at it"),
        ],
    )
    def test_load_balancer_in_progress_is_left_alone(self, site: Site, status: str, changed: float, now: float) -> None:
        """Until its worker has ended and another one has been up for a while."""
        assert self.change(site, ("lb-1", status, changed, now)) is None

    @pytest.mark.parametrize("status", PATIENCE)
    def test_stuck_load_balancer(self, site: Site, status: str) -> None:
        """It is set to ERROR, and no other one."""
        late = self.worker + PATIENCE[status]
        other = ("lb-2", "PENDING_UPDATE", self.worker + 1, late)
        found = self.change(site, ("lb-1", status, self.worker - 1, late), other)
        assert differences(found) == [
            f"load balancer lb-1: wanted a worker processing it, found {status}, its worker has ended"
        ]
        sql = found.actions[0].stdin
        assert "'lb-1'" in sql
        assert "lb-2" not in sql
        assert "provisioning_status LIKE 'PENDING%'" in sql, "it may have come to its end meanwhile"

    def test_pending_for_too_long(self, site: Site) -> None:
        """Nothing takes an hour, whatever was restarted."""
        assert self.change(site, ("lb-1", "PENDING_DELETE", self.worker + 1, self.worker + 3_601)) is not None

    def test_only_load_balancers_of_the_run(self, site: Site) -> None:
        """A cleanup does not change other users' load balancers."""
        row = ("lb-1", "PENDING_CREATE", self.worker - 1, self.worker + 300)
        assert self.change(site, row, only=("lb-2",)) is None
        assert self.change(site, row, only=("lb-1",)) is not None


class TestObjects:
    """Objects that services have in the cloud."""

    def test_group_lacks_a_rule(self, site: Site) -> None:
        """Existing rules stay; a rule from everywhere does not replace the one from the network."""
        group = SecurityGroup("g", (("icmp", None), ("tcp", 22), ("udp", 5555)), "172.16.0.0/22")
        there = {"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "remote_ip_prefix": "172.16.0.0/22"}
        anywhere = {**there, "protocol": "udp", "port_range_min": 5555, "remote_ip_prefix": None}
        found = SimpleNamespace(id="g", name="g", project_id="p", security_group_rules=[there, anywhere])
        assert found_in(site, group, security_groups=[found], projects=SERVICE) == [
            "rule of security group g: wanted icmp from 172.16.0.0/22, found absent",
            "rule of security group g: wanted udp 5555 from 172.16.0.0/22, found absent",
        ]

    def test_network_has_no_gateway(self, site: Site) -> None:
        """A gateway would give the connected node a second default route (erratum E118)."""
        network = ServiceNetwork("n", "s", "172.16.0.0/22", ("172.16.0.100", "172.16.3.254"))
        pool = [{"start": "172.16.0.100", "end": "172.16.3.254"}]
        common = {"id": "s", "name": "s", "cidr": "172.16.0.0/22", "allocation_pools": pool, "project_id": "p"}
        subnet = SimpleNamespace(**common, gateway_ip="172.16.0.1")
        parent = SimpleNamespace(id="n", name="n", is_shared=False, project_id="p")
        assert found_in(site, network, networks=[parent], subnets=[subnet], projects=SERVICE) == [
            "subnet s gateway_ip: wanted None, found '172.16.0.1'"
        ]

    def test_port_on_another_node(self, site: Site) -> None:
        """Another node, another address."""
        port = ServicePort("p", "n", "s", "172.16.0.2", "g", "Octavia:health-mgr", host="controller")
        there = {"device_owner": "Octavia:health-mgr", "binding_host_id": "controller"}
        right = SimpleNamespace(id="p", name="p", project_id="p", fixed_ips=[{"ip_address": "172.16.0.2"}], **there)
        assert found_in(site, port, ports=[right], projects=SERVICE) == []
        right.binding_host_id, right.fixed_ips = "other", [{"ip_address": "172.16.0.7"}]
        assert len(found_in(site, port, ports=[right], projects=SERVICE)) == 2

    def test_flavor_with_a_fixed_id(self, site: Site) -> None:
        """Id and access are compared."""
        flavor = Flavor("amphora", 1, 512, 2, id="200", public=False)
        there = SimpleNamespace(name="amphora", vcpus=1, ram=512, disk=2, id="200", is_public=True)
        assert found_in(site, flavor, flavors=[there]) == ["flavor amphora is_public: wanted False, found True"]

    def test_key_pair_is_created_by_its_user(self, site: Site) -> None:
        """Only with the public key; the private key is a secret of the site."""
        site = replace(site, secrets=Secrets())
        here = context(site, site.controller)
        Keypair("k", user="octavia").make(here.shared.get(SharedCloud), here)
        made = [kwargs for name, _, kwargs in recorded(here).calls if name == "create_keypair"]
        assert [each["public_key"].split()[0] for each in made] == ["ssh-ed25519"]
        private = site.secrets.document("k private key", str, bool)
        assert "OPENSSH PRIVATE KEY" in private
        assert private.splitlines()[1] in redact.values()

    def test_quotas_without_a_project(self, site: Site) -> None:
        """Keystone is not up."""
        assert found_in(site, NoQuota("service")) == ["quotas of project service: wanted present, found absent"]

    def test_image_with_a_tag(self, site: Site) -> None:
        """A service finds it by its tag; a tenant's image with the same name is ignored."""
        wanted = octavia_of(site).image
        image = Image("amphora", wanted, tags=("amphora",), project="service")
        common = {"id": "i", "name": "amphora", "visibility": "private", "status": "active", "properties": {}}
        tenants = SimpleNamespace(**common, tags=["amphora"], owner_id="q")
        there = SimpleNamespace(**common, tags=["other"], owner_id="p")
        assert found_in(site, image, images=[tenants, there], projects=SERVICE) == [
            "tags of image amphora: wanted amphora, found absent",
        ]

    def test_image_is_not_waited_for(self, site: Site) -> None:
        """A check asks the builder only for the name; the image may still be in the making."""

        def build() -> NoReturn:
            pytest.fail("waited for the image")

        site = replace(site, image_builders={"test-amphora": ImageBuilder("test-amphora-2.qcow2", build)})
        common = {"id": "i", "name": "a", "visibility": "private", "status": "active", "tags": []}
        there = SimpleNamespace(**common, owner_id="p", properties={"stackspec_source": "test-amphora-1.qcow2"})
        image = Image("a", octavia_of(site).image, project="service")
        assert found_in(site, image, images=[there], projects=SERVICE) == [
            "source of image a: wanted test-amphora-2.qcow2, found test-amphora-1.qcow2"
        ]


def test_no_step_without_the_section() -> None:
    """Without the section, no node has the step; the other steps are unchanged."""
    load_steps()
    inventory = load_inventory(ROOT / "inventories/lab", CloudInventory)
    for section, nodes in ((inventory.octavia, ["controller"]), (None, [])):
        changed = inventory.model_copy(update={"octavia": section})
        site = Site(changed, load_release(inventory.release), Secrets())
        assert [node.name for node in STEPS["octavia"].nodes(site)] == nodes
        assert [node.name for node in STEPS["glance"].nodes(site)] == ["controller"]
