"""Commands and options of the install guide that the errata call wrong, tried on a deployed controller.

`./run --deploy tests/errata` runs them. Commands that would break the site are faults instead: faults/guide.yaml.
"""

from __future__ import annotations

import json
import re

import pytest

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site


def erratum(number: str, step: str, *values: object) -> object:
    """A case of a test.

    :param number: the erratum's
    :param step: the step that it needs
    :param values: the test's arguments
    """
    return pytest.param(*values, marks=pytest.mark.steps(step), id=number)


RING = "cd $(mktemp -d) && swift-ring-builder guide.builder create 10 2 24 &&"
ADD = "swift-ring-builder guide.builder add --region 1 --zone 1 --ip 10.0.0.20 --port 6202 --device sdc"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        erratum("E22", "keystone", "openstack project create service", "Missing value auth-url"),
        erratum(
            "E25",
            "glance",
            "openstack --os-cloud devstack-system-admin registered limit create --service glance --default-limit 1000 "
            "--region RegionOne image_size_total",
            "devstack-system-admin was not found",
        ),
        erratum(
            "E29",
            "glance",
            "openstack --os-cloud <cloud> image create --file /opt/cirros-0.6.2-x86_64-disk.img --disk-format qcow2 "
            "--container-format bare cirros-of-the-guide",
            "/opt/cirros-0.6.2-x86_64-disk.img",
        ),
        erratum("E43", "neutron", "ip link show ens33", "does not exist"),
        erratum("E54", "horizon", "openstack --os-cloud <cloud> role show user", "user"),
        erratum("E64", "swift", "mkdir /etc/swift", "File exists"),
        erratum("E67", "swift", "openstack --os-cloud <cloud> role show user", "user"),
        erratum("E78", "swift", f"{RING} {ADD} --weight DEVICE_WEIGHT", "DEVICE_WEIGHT"),
        erratum("E79", "swift", f"{RING} {ADD} --weight 100 && {ADD} --weight 100", "already"),
        erratum(
            "E80",
            "swift",
            "scp -o BatchMode=yes /etc/swift/account.ring.gz root@compute01:/etc/swift",
            "erification failed",
        ),
        # The guide's `role add` for it fails as well, but the client says no reason.
        erratum(
            "E85",
            "heat",
            'openstack --os-cloud <cloud> project show "Development Department"',
            "Development Department",
        ),
        erratum("E89", "skyline", "mariadb -u skyline -pskyline -h controller skyline -e 'SELECT 1'", "Access denied"),
        erratum("E97", "skyline", "bash -c '</dev/tcp/10.0.0.10/9091'", "refused"),
        erratum(
            "E114",
            "octavia",
            "cd $(mktemp -d) && cp -p etc/octavia/certs/server_ca.cert.pem /etc/octavia/certs",
            "No such file",
        ),
        erratum("E117", "octavia", "openstack --os-cloud <cloud> keypair show octavia_ssh_key", "octavia_ssh_key"),
        erratum("E120", "octavia", "ls -d /sys/class/net/brq*", "No such file"),
        erratum(
            "E125",
            "octavia",
            "systemd-run --wait --pipe --quiet /bin/sh /opt/octavia-interface-start.sh",
            "/opt/octavia-interface-start.sh",
        ),
        erratum(
            "E130",
            "octavia",
            "openstack --os-cloud <cloud> network show 42b297fd-a655-4d7f-90b5-081c9f1bf324",
            "42b297fd-a655-4d7f-90b5-081c9f1bf324",
        ),
        erratum("E141", "magnum", "openstack --os-cloud <cloud> flavor show m2.fedora", "m2.fedora"),
        erratum(
            "E143",
            "magnum",
            "openstack --os-cloud <cloud> image show flatcar-kube-v1.24.16",
            "flatcar-kube-v1.24.16",
        ),
    ],
)
def test_command_fails(command: str, answer: str, deployed: None, site: Site, controller: NodeHost) -> None:
    """A command from the guide is refused, for the reason given in the erratum."""
    done = controller.run(command.replace("<cloud>", site.name))
    assert done.rc != 0, f"{command} works: {done.stdout.strip()}"
    assert answer in done.stderr + done.stdout, f"{command}: {done.stderr.strip()}"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        # The package's unit has the other name as well.
        erratum("E19", "mariadb", "systemctl is-active mysql", ""),
        # apt ignores a lone dash. Without -y it still asks.
        erratum("E68", "swift_storage", "apt-get install --simulate xfsprogs rsync -", ""),
        # The client accepts an abbreviated option, so the error is from magnum, about the image.
        erratum(
            "E144",
            "magnum",
            "openstack --os-cloud <cloud> coe cluster template create --coe kubernetes --image no-such-image "
            "--external-network provider --label kube_tag=v1.18.16 guide",
            "(HTTP 4",
        ),
    ],
)
def test_command_is_accepted(command: str, answer: str, deployed: None, site: Site, controller: NodeHost) -> None:
    """Commands of the guide that look wrong but work: these errata have been corrected."""
    done = controller.run(command.replace("<cloud>", site.name))
    assert answer in done.stderr, f"{command}: {done.stderr.strip()}"
    assert answer or done.rc == 0, f"{command}: {done.stderr.strip()}"


@pytest.mark.parametrize(
    ("service", "command", "section", "option"),
    [
        erratum("E31", "nova", "nova", "nova-manage", "service_user", "auth_strategy"),
        erratum("E127", "octavia", "octavia", "octavia-db-manage", "service_auth", "memcached_servers"),
        *(
            erratum("E136", "magnum", "magnum", "magnum-db-manage", "keystone_authtoken", option)
            for option in ("admin_user", "admin_password", "admin_tenant_name")
        ),
    ],
)
def test_option_is_none(
    service: str, command: str, section: str, option: str, deployed: None, controller: NodeHost
) -> None:
    """The service's code has no such option, so the guide's line has no effect."""
    python = programs.python_of(controller, command)
    options = [["keystone_authtoken", "auth_url", "http://controller:5000"], [section, option, "000000"]]
    asked = json.dumps({"service": service, "options": options})
    out = controller.check_output(f"printf %s %s | {python} -c %s", "%s", asked, programs.text("option_check"))
    assert json.loads(out.splitlines()[-1]) == [f"[{section}] {option}: no option of {service}"]


@pytest.mark.steps("swift")
def test_ring_is_not_the_one_shown(deployed: None, controller: NodeHost) -> None:
    """E77: the guide's command makes two copies and 24 hours; its output shows three copies and one hour."""
    out = controller.check_output(f"{RING} swift-ring-builder guide.builder")
    assert "2.000000 replicas" in out
    assert re.search(r"minimum number of hours before a partition can be reassigned is 24\b", out), out


@pytest.mark.steps("skyline")
def test_start_does_not_read_a_new_file(deployed: None, controller: NodeHost) -> None:
    """E104: nginx runs since its package was installed, so starting it changes nothing."""
    look = "systemctl show --property=MainPID --value nginx"
    before = controller.check_output(look)
    controller.check_output("systemctl start nginx")
    assert controller.check_output(look) == before != "0"


@pytest.mark.steps("octavia")
def test_firewall_rule_is_doubled_by_each_run(deployed: None, controller: NodeHost) -> None:
    """E121: in a network namespace of its own, which goes with the command."""
    rule = "iptables -I INPUT -i o-hm0 -p udp --dport 5555 -j ACCEPT"
    out = controller.check_output(f"unshare --net sh -c '{rule} && {rule} && iptables -S INPUT'")
    assert out.count("--dport 5555") == 2


@pytest.mark.steps("skyline")
def test_unquoted_password_is_a_number(deployed: None, controller: NodeHost) -> None:
    """E96: how Skyline reads the guide's 000000 without quotes."""
    program = "import yaml; print(repr(yaml.safe_load('system_user_password: 000000')))"
    assert controller.check_output("/opt/skyline/bin/python -c %s", program) == "{'system_user_password': 0}"
