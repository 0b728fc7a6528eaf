"""What OpenStack's code makes of the guide's options, and what the guide takes for granted in it."""

from __future__ import annotations

import json

import pytest

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site


@pytest.mark.parametrize(
    ("service", "command", "section", "option"),
    [
        pytest.param(*values, marks=pytest.mark.steps(values[0]), id=number)
        for number, *values in (
            ("E31", "nova", "nova-manage", "service_user", "auth_strategy"),
            ("E127", "octavia", "octavia-db-manage", "service_auth", "memcached_servers"),
            ("E136", "magnum", "magnum-db-manage", "keystone_authtoken", "admin_user"),
            ("E136", "magnum", "magnum-db-manage", "keystone_authtoken", "admin_password"),
            ("E136", "magnum", "magnum-db-manage", "keystone_authtoken", "admin_tenant_name"),
        )
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


@pytest.mark.steps("barbican")
def test_old_name_of_the_database(deployed: None, site: Site, controller: NodeHost) -> None:
    """E107: 2024.1 still reads [DEFAULT] sql_connection; later releases use a file of SQLite instead."""
    url = "mysql+pymysql://barbican:000000@controller/barbican"
    found = programs.output(controller, "barbican_database", url, code_of="barbican-manage").splitlines()[-1]
    assert found == (url if site.release.openstack == "2024.1" else "sqlite:///barbican.sqlite")


@pytest.mark.steps("swift_storage")
def test_rate_limit_is_none(deployed: None, controller: NodeHost) -> None:
    """E74: comments are part of the values, the guide's options limit nothing, and the real ones answer 529."""
    out = programs.output(controller, "swift_rate_limit", code_of="swift-ring-builder")
    values, by_the_guide, by_its_own_options = json.loads(out.splitlines()[-1])
    assert values == ["100  # requests per second", "200        # the most at once"]
    assert by_the_guide == [200]
    assert by_its_own_options == [200, 529]


@pytest.mark.steps("skyline")
def test_unquoted_password_is_a_number(deployed: None, controller: NodeHost) -> None:
    """E96: how Skyline reads the guide's 000000 without quotes."""
    program = "import yaml; print(repr(yaml.safe_load('system_user_password: 000000')))"
    assert controller.check_output("/opt/skyline/bin/python -c %s", program) == "{'system_user_password': 0}"


@pytest.mark.steps("octavia")
def test_heartbeat_needs_a_key(deployed: None, controller: NodeHost) -> None:
    """E129: without `heartbeat_key` the key is None, and a heartbeat is neither made nor verified."""
    python = programs.python_of(controller, "octavia-db-manage")
    program = (
        "from octavia.amphorae.backends.health_daemon.status_message import unwrap_envelope\n"
        "from octavia.common.config import cfg\n"
        "print(cfg.CONF.health_manager.heartbeat_key, flush=True)\n"
        "unwrap_envelope(bytes(100), cfg.CONF.health_manager.heartbeat_key)"
    )
    done = controller.run(f"{python} -c %s", program)
    assert (done.rc, done.stdout.strip()) == (1, "None"), done.stderr
    assert "'NoneType' object has no attribute 'encode'" in done.stderr


@pytest.mark.steps("magnum")
def test_driver_of_the_cluster_api_is_missing(deployed: None, controller: NodeHost) -> None:
    """E142: magnum comes with its own driver only."""
    python = programs.python_of(controller, "magnum-db-manage")
    program = "import importlib.metadata as m; print(*(e.name for e in m.entry_points(group='magnum.drivers')))"
    assert controller.check_output(f"{python} -c %s", program).split() == ["k8s_fedora_coreos_v1"]
