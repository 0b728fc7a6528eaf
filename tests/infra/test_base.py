"""Names and time. Guide: 基础环境."""

from __future__ import annotations

from stackspec.waiting import wait_for


def test_every_node_knows_every_name(base, site, node_host):
    """The guide's URLs use names that it never sets up (erratum E04)."""
    for name in site.nodes:
        host = node_host(name)
        called = host.check_output("hostname")
        assert called == name, f"{name} calls itself {called}"
        for other in site.nodes.values():
            found = host.check_output("getent ahostsv4 %s", other.name).split()[0]
            assert found == other.address, f"{name} resolves {other.name} to {found}"


def test_time_comes_from_the_controller(chrony_client, site, node_host):
    """Every other node has chosen the controller as its source."""
    for node in site.nodes.values():
        if "controller" in node.roles:
            continue
        host = node_host(node.name)

        def chosen(host=host) -> bool:
            rows = [line.split(",") for line in host.check_output("chronyc -n -c sources").splitlines()]
            return [row[2] for row in rows if row[1] == "*"] == [site.controller.address]

        wait_for(f"{node.name} follows {site.controller.address}", chosen, 60)


def test_controller_has_time(chrony, controller):
    """The controller is synchronised, or serves its own clock at stratum 10 where the site has no other source."""
    stratum = int(controller.check_output("chronyc -n -c tracking").split(",")[2])
    assert 1 <= stratum <= 10


def test_client_is_installed(openstack_client, controller):
    """The operator's command works on the controller."""
    assert controller.check_output("openstack --version").startswith("openstack ")


def test_no_failed_units(nova_networking, neutron_compute, nova_discover, site, node_host):
    """systemd has nothing to complain about on any node."""
    problems = []
    for name in site.nodes:
        for line in node_host(name).check_output("systemctl --failed --plain --no-legend").splitlines():
            unit = line.split()[0]
            problems.append(f"{name}: {unit} has failed; see journalctl -u {unit} there")
    assert not problems, "\n".join(problems)
