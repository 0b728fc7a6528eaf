"""Networks, ports and security groups of a service."""

from __future__ import annotations

from types import SimpleNamespace

from stackspec.openstack import SecurityGroup, ServiceNetwork, ServicePort
from stackspec.site import Site

from .bare import SERVICE, found_in


def test_group_lacks_a_rule(site: Site) -> None:
    """Existing rules stay; a rule from everywhere does not replace the one from the network."""
    group = SecurityGroup("g", (("icmp", None), ("tcp", 22), ("udp", 5555)), "172.16.0.0/22")
    there = {"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "remote_ip_prefix": "172.16.0.0/22"}
    anywhere = {**there, "protocol": "udp", "port_range_min": 5555, "remote_ip_prefix": None}
    found = SimpleNamespace(id="g", name="g", project_id="p", security_group_rules=[there, anywhere])
    assert found_in(site, group, security_groups=[found], projects=SERVICE) == [
        "rule of security group g: wanted icmp from 172.16.0.0/22, found absent",
        "rule of security group g: wanted udp 5555 from 172.16.0.0/22, found absent",
    ]


def test_network_has_no_gateway(site: Site) -> None:
    """A gateway would give the connected node a second default route (erratum E118)."""
    network = ServiceNetwork("n", "s", "172.16.0.0/22", ("172.16.0.100", "172.16.3.254"))
    pool = [{"start": "172.16.0.100", "end": "172.16.3.254"}]
    common = {"id": "s", "name": "s", "cidr": "172.16.0.0/22", "allocation_pools": pool, "project_id": "p"}
    subnet = SimpleNamespace(**common, gateway_ip="172.16.0.1")
    parent = SimpleNamespace(id="n", name="n", is_shared=False, project_id="p")
    assert found_in(site, network, networks=[parent], subnets=[subnet], projects=SERVICE) == [
        "subnet s gateway_ip: wanted None, found '172.16.0.1'"
    ]


def test_port_on_another_node(site: Site) -> None:
    """Another node, another address."""
    port = ServicePort("p", "n", "s", "172.16.0.2", "g", "Octavia:health-mgr", host="controller")
    there = {"device_owner": "Octavia:health-mgr", "binding_host_id": "controller"}
    right = SimpleNamespace(id="p", name="p", project_id="p", fixed_ips=[{"ip_address": "172.16.0.2"}], **there)
    assert found_in(site, port, ports=[right], projects=SERVICE) == []
    right.binding_host_id, right.fixed_ips = "other", [{"ip_address": "172.16.0.7"}]
    assert len(found_in(site, port, ports=[right], projects=SERVICE)) == 2
