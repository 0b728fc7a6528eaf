"""Commands and options of the install guide that the errata call wrong, tried on a deployed controller.

`./run --deploy tests/errata` runs them. Commands that would break the site are faults instead: faults/guide.yaml.
"""

from __future__ import annotations

import json

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
        erratum("E97", "skyline", "bash -c '</dev/tcp/10.0.0.10/9091'", "refused"),
        erratum("E117", "octavia", "openstack --os-cloud <cloud> keypair show octavia_ssh_key", "octavia_ssh_key"),
        erratum("E120", "octavia", "ls -d /sys/class/net/brq*", "No such file"),
        erratum("E141", "magnum", "openstack --os-cloud <cloud> flavor show m2.fedora", "m2.fedora"),
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


@pytest.mark.steps("skyline")
def test_unquoted_password_is_a_number(deployed: None, controller: NodeHost) -> None:
    """E96: how Skyline reads the guide's 000000 without quotes."""
    program = "import yaml; print(repr(yaml.safe_load('system_user_password: 000000')))"
    assert controller.check_output("/opt/skyline/bin/python -c %s", program) == "{'system_user_password': 0}"
