"""What a node's system makes of the guide's commands and files, tried without changing the node."""

from __future__ import annotations

import ipaddress
import json

import pytest

from stackspec.cloud_inventory import inventory_of
from stackspec.fixtures.programs import IN_SCRATCH
from stackspec.inventory import Node
from stackspec.plugin.testinfra_backend import HostOf, NodeHost
from stackspec.site import Site


@pytest.fixture
def storage(site: Site) -> list[Node]:
    """Nodes with disks for swift."""
    return [node for node in site.with_role("storage") if node.devices("swift")]


@pytest.mark.steps("cinder_volume", "swift_storage")
def test_one_disk_is_not_for_two_services(deployed: None, storage: list[Node], node_host: HostOf) -> None:
    """E01: a disk that swift has mounted is refused as a physical volume, here without writing anything."""
    both = [node for node in storage if node.devices("cinder")]
    if not both:
        pytest.skip("no node has disks for both services")
    everything = '--config \'devices { filter = [ "a|.*|" ] global_filter = [ "a|.*|" ] }\''
    for node in both:
        done = node_host(node.name).run(f"pvcreate --test {everything} {node.devices('swift')[0]} </dev/null")
        assert done.rc != 0, f"{node.name}: {done.stdout}"
        assert "exclusively" in done.stderr, f"{node.name}: {done.stderr.strip()}"


@pytest.mark.steps("cinder_volume")
def test_filter_hides_other_disks(deployed: None, site: Site, node_host: HostOf) -> None:
    """E59: with the guide's filter LVM sees no physical volume but those with `sdb` in their paths."""
    guide = '--config \'devices { filter = [ "a/sdb/", "r/.*/" ] }\''
    hidden = set()
    for node in site.with_role("storage"):
        if node.devices("cinder"):
            seen, left = (
                set(node_host(node.name).check_output(f"pvs --noheadings --options pv_name {filters}").split())
                for filters in ("", guide)
            )
            assert all("sdb" in device for device in left), f"{node.name}: {left}"
            hidden |= seen - left
    if not hidden:
        pytest.skip("no node has a physical volume on another disk than sdb")


@pytest.mark.steps("swift_storage")
def test_mkfs_asks_nobody(deployed: None, storage: list[Node], node_host: HostOf) -> None:
    """E69: mkfs.xfs writes over what it does not know, and refuses a file system; in a file instead of a disk."""
    host = node_host(storage[0].name)
    file = host.check_output("mktemp /var/tmp/stackspec-XXXXXX")
    try:
        host.check_output("printf data >%s && truncate --size 400M %s", file, file)
        host.check_output("mkfs.xfs %s </dev/null", file)
        assert host.check_output("head --bytes 4 %s", file) == "XFSB"
        again = host.run("mkfs.xfs %s </dev/null", file)
        assert again.rc != 0
        assert "appears to contain an existing filesystem" in again.stderr
    finally:
        host.check_output("rm %s", file)


@pytest.mark.steps("swift_storage")
def test_boot_needs_a_disk_without_nofail(deployed: None, storage: list[Node], node_host: HostOf) -> None:
    """E70: the guide's line makes the disk a requirement of local-fs.target, whose failure stops the boot."""
    line = 'UUID="00000000-0000-4000-8000-000000000000" /srv/node/sdb xfs noatime'
    generator = "/usr/lib/systemd/system-generators/systemd-fstab-generator"
    command = (
        f"{IN_SCRATCH} echo %s >fstab && SYSTEMD_FSTAB=$PWD/fstab {generator} $PWD $PWD $PWD"
        " && find . -name srv-node-sdb.mount -path '*local-fs*'"
    )
    found = []
    for node in storage:
        host = node_host(node.name)
        # In a container the generator ignores disks.
        found += [host.check_output(command, f"{line}{options} 0 2") for options in ("", ",nofail")]
        assert host.check_output("systemctl show --property=OnFailure --value local-fs.target") == "emergency.target"
    needed, wanted = (f"./local-fs.target.{how}/srv-node-sdb.mount" for how in ("requires", "wants"))
    assert {each for each in zip(found[::2], found[1::2], strict=True) if any(each)} == {(needed, wanted)}


@pytest.mark.steps("swift_storage")
def test_unit_of_rsync_does_not_read_the_switch(deployed: None, storage: list[Node], node_host: HostOf) -> None:
    """E72: `RSYNC_ENABLE` in /etc/default/rsync is for init scripts."""
    for node in storage:
        unit = node_host(node.name).check_output("systemctl cat rsync")
        assert "ExecStart=/usr/bin/rsync --daemon" in unit
        assert "/etc/default/rsync" not in unit


@pytest.mark.steps("swift_storage")
def test_second_daemon_collides_with_the_unit(deployed: None, storage: list[Node], node_host: HostOf) -> None:
    """E83: swift-init does not know what systemd runs, and a second server finds the port taken."""
    host = node_host(storage[0].name)
    assert host.service("swift-account").is_running
    if host.exists("swift-init"):  # Debian has it in a package that servers do not need
        known = host.run("swift-init account-server status")
        assert (known.rc, "No account-server running" in known.stdout) == (1, True), known.stdout
    # The guide's command starts the same program in the background, where it tries for 30 s.
    started = host.run(
        f"{IN_SCRATCH} sed 's/^\\[DEFAULT\\]/&\\nbind_timeout = 1/' /etc/swift/account-server.conf >account-server.conf"
        " && timeout 120 swift-account-server account-server.conf"
    )
    assert started.rc == 1, started.stdout
    assert "Could not bind to" in started.stderr + started.stdout, started.stderr


@pytest.mark.steps("neutron_compute")
def test_agents_restart_leaves_nova_compute(deployed: None, site: Site, node_host: HostOf) -> None:
    """E48: no unit is restarted with neutron-openvswitch-agent but those that are part of it or require it."""
    properties = "LoadState RequiredBy BoundBy ConsistsOf"
    options = " ".join(f"--property={name}" for name in properties.split())
    for node in site.with_role("compute"):
        shown = node_host(node.name).check_output(f"systemctl show {options} neutron-openvswitch-agent")
        assert "LoadState=loaded" in shown.splitlines(), f"{node.name}: {shown}"
        assert "nova-compute" not in shown, f"{node.name}: {shown}"


@pytest.mark.steps("horizon")
def test_settings_are_the_packages_code(deployed: None, controller: NodeHost) -> None:
    """E56: settings.py is a file of the package and none of its configuration files, so an upgrade replaces it."""
    owner = controller.run("dpkg-query --search '*/openstack_dashboard/settings.py'")
    if owner.rc != 0:
        pytest.skip("Horizon is not from a package")
    package, _, path = owner.stdout.strip().partition(": ")
    assert path not in controller.check_output("dpkg-query --show --showformat '${Conffiles}' %s", package)


@pytest.mark.steps("horizon")
def test_pip_has_put_nothing_over_packages(deployed: None, controller: NodeHost) -> None:
    """E52: what the guide's pip would upgrade for all services is not in the system's Python beside the packages."""
    found = controller.check_output("find /usr/local/lib -path '*-packages/*' -name '*-info' -printf '%f\\n'").split()
    assert not [name for name in found if name.startswith(("packaging-", "django_debreach-"))], found


@pytest.mark.steps("skyline")
def test_start_does_not_read_a_new_file(deployed: None, controller: NodeHost) -> None:
    """E104: nginx runs since its package was installed, so starting it changes nothing."""
    look = "systemctl show --property=MainPID --value nginx"
    before = controller.check_output(look)
    controller.check_output("systemctl start nginx")
    assert controller.check_output(look) == before != "0"


@pytest.mark.steps("skyline")
def test_sudo_leaves_the_environment(deployed: None, controller: NodeHost) -> None:
    """E93: in an activated environment, sudo finds the system's programs: pip installs into the system."""
    found = controller.check_output(
        f"{IN_SCRATCH} python3 -m venv --without-pip skyline && . skyline/bin/activate"
        " && command -v python3 && sudo sh -c 'command -v python3'"
    )
    inside, by_sudo = found.splitlines()
    assert inside.endswith("/skyline/bin/python3")
    assert by_sudo == "/usr/bin/python3"


@pytest.mark.steps("octavia")
def test_management_network_hides_others(deployed: None, site: Site, controller: NodeHost) -> None:
    """E119: with the guide's /12 the controller looks for all of 172.16.0.0 to 172.31.255.255 on o-hm0."""
    wanted = inventory_of(site).octavia
    if wanted is None or wanted.network != ipaddress.ip_network("172.16.0.0/12"):
        pytest.skip("the site's management network is not the guide's")
    (route,) = json.loads(controller.check_output("ip -j route get 172.31.255.254"))
    assert route["dev"] == "o-hm0"


@pytest.mark.steps("octavia")
def test_firewall_rule_is_doubled_by_each_run(deployed: None, controller: NodeHost) -> None:
    """E121: in a network namespace of its own, which goes with the command."""
    rule = "iptables -I INPUT -i o-hm0 -p udp --dport 5555 -j ACCEPT"
    out = controller.check_output(f"unshare --net sh -c '{rule} && {rule} && iptables -S INPUT'")
    assert out.count("--dport 5555") == 2
