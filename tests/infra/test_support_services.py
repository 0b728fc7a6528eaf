"""Database, queue, cache and key-value store do for the services what these need of them."""

from __future__ import annotations

import json

import pytest

from stackspec.waiting import wait_for

OWN_ACCOUNTS = ("root", "mysql", "mariadb.sys", "debian-sys-maint")
"""Accounts that the database's packages make, for its own work."""


@pytest.mark.parametrize(
    ("port", "step"),
    [
        pytest.param(3306, "mariadb", marks=pytest.mark.steps("mariadb"), id="mariadb"),
        pytest.param(11211, "memcached", marks=pytest.mark.steps("memcached"), id="memcached"),
        pytest.param(5672, "rabbitmq", marks=pytest.mark.steps("rabbitmq"), id="rabbitmq"),
        pytest.param(25672, "rabbitmq", marks=pytest.mark.steps("rabbitmq"), id="rabbitmq-nodes"),
        pytest.param(8775, "nova", marks=pytest.mark.steps("nova"), id="nova-metadata"),
        pytest.param(2379, "etcd", marks=pytest.mark.steps("etcd"), id="etcd"),
        pytest.param(2380, "etcd", marks=pytest.mark.steps("etcd"), id="etcd-peers"),
    ],
)
def test_listens_on_the_management_address_only(port, step, site, controller):
    """Tokens, passwords and keys are behind these ports (errata E08, E20, E21)."""
    sockets = controller.check_output("ss -H -t -l -n 'sport = :'%s", str(port)).splitlines()
    addresses = {line.split()[3].rsplit(":", 1)[0] for line in sockets}
    assert addresses == {site.controller.address}, f"{step}: port {port} listens on {addresses or 'nothing'}"


def test_database_settings(mariadb, controller):
    """The server runs with what the guide sets; a service's tables come out in its character set."""
    sql = (
        "SELECT @@character_set_server, @@collation_server, @@max_connections, @@default_storage_engine,"
        " @@innodb_file_per_table"
    )
    found = controller.check_output("mariadb -N -B -e %s", sql).split("\t")
    wanted = ["utf8mb3", "utf8mb3_general_ci", "4096", "InnoDB", "1"]
    assert found == wanted, f"the database runs with {', '.join(found)}, wanted {', '.join(wanted)}"


def test_database_admits_no_stranger(mariadb, site, controller):
    """No account without a name, root only by the unix socket, and rights over all databases are root's alone."""
    rows = controller.check_output("mariadb -N -B -e 'SELECT user, host FROM mysql.user'").splitlines()
    accounts = {tuple(row.split("\t")) for row in rows}
    nameless = sorted(account for account in accounts if account[0] == "")
    assert not nameless, f"{site.controller.name}: the database has accounts without a name: {nameless}"
    roots = {host for user, host in accounts if user == "root"} - {"localhost", "127.0.0.1", "::1"}
    assert not roots, f"{site.controller.name}: the database admits root from {', '.join(sorted(roots))}"
    refused = controller.run("mariadb -h %s -u root --password= -e 'SELECT 1'", site.controller.address)
    assert refused.rc != 0, "root logs in over the network without a password"
    query = "SELECT DISTINCT grantee FROM information_schema.user_privileges WHERE privilege_type <> 'USAGE'"
    mighty = [row.replace("'", "") for row in controller.check_output("mariadb -N -B -e %s", query).splitlines()]
    strangers = [each for each in mighty if each.split("@")[0] not in OWN_ACCOUNTS or each.endswith("@%")]
    assert not strangers, f"{site.controller.name}: rights over all databases have {', '.join(strangers)}"


def test_queue_has_its_user_and_no_other(rabbitmq, controller):
    """The guide's user openstack; guest, whose password everybody knows, is gone."""
    users = [
        line.split()[0] for line in controller.check_output("rabbitmqctl -q --no-table-headers list_users").splitlines()
    ]
    assert users == ["openstack"], f"the queue has the users {', '.join(users) or 'none'}, wanted openstack alone"
    alarms = controller.run("rabbitmq-diagnostics -q check_local_alarms")
    assert alarms.rc == 0, alarms.stdout + alarms.stderr


QUEUES = {
    "nova": {"conductor.{}": "controller", "scheduler.{}": "controller"},
    "nova_compute": {"compute.{}": "compute"},
    "neutron": {"q-plugin.{}": "controller", "l3_agent.{}": "controller", "dhcp_agent.{}": "controller"},
    "neutron_compute": {"q-agent-notifier-tunnel-update.{}": "compute"},
    "cinder": {"cinder-scheduler.{}": "controller"},
    "cinder_volume": {"cinder-volume.{0}@lvm.{0}": "cinder"},
    "cinder_backup": {"cinder-backup.{}": "cinder"},
    "barbican": {"barbican.workers": "controller"},
    "heat": {"engine.{}": "controller"},
    "octavia": {"octavia_provisioning_v2.{}": "controller"},
    "magnum": {"magnum-conductor": "controller"},
}
"""Where the services of a step take what they are asked for, and the nodes that have such a queue."""


@pytest.mark.parametrize("step", [pytest.param(name, marks=pytest.mark.steps(name)) for name in QUEUES])
def test_services_take_what_they_are_asked_for(step, site, controller):
    """Each is connected to its queue, and nothing waits there for long: one that is frozen holds its connection."""
    nodes = {
        "controller": [site.controller],
        "compute": site.with_role("compute"),
        "cinder": [node for node in site.nodes.values() if node.devices("cinder")],
    }
    queues = {name.format(node.name) for name, kind in QUEUES[step].items() for node in nodes[kind]}
    assert queues

    def complaints() -> list[str]:
        words = "list_queues --formatter json name consumers messages"
        known = {each["name"]: each for each in json.loads(controller.check_output(f"rabbitmqctl -q {words}"))}
        found = {name: known.get(name, {"consumers": 0, "messages": 0}) for name in sorted(queues)}
        return [
            f"{name}: {each['consumers']} consumers, {each['messages']} messages wait"
            for name, each in found.items()
            if not each["consumers"] or each["messages"]
        ]

    wait_for(
        f"services of {step} take what they are asked for",
        lambda: not complaints(),
        60,
        detail=lambda: "\n".join(complaints()),
    )


def test_cache_keeps_a_value(memcached, site, controller):
    """What is put into memcached comes out again."""
    script = (
        f"import socket; s = socket.create_connection(('{site.controller.address}', 11211), 5); "
        "s.sendall(b'set stackspec 0 30 5\\r\\nhello\\r\\nget stackspec\\r\\ndelete stackspec\\r\\nquit\\r\\n'); "
        "print(b''.join(iter(lambda: s.recv(4096), b'')).decode())"
    )
    assert "hello" in controller.check_output("python3 -c %s", script)


def test_etcd_keeps_a_value(etcd, site, controller):
    """A key is written, read and deleted through the v3 API."""
    script = (
        "import base64, json, urllib.request as r\n"
        "def call(verb, **body):\n"
        "    data = json.dumps({k: base64.b64encode(v.encode()).decode() for k, v in body.items()}).encode()\n"
        f"    request = r.Request('http://{site.controller.address}:2379/v3/kv/' + verb, data)\n"
        "    return json.load(r.urlopen(request, timeout=10))\n"
        "call('put', key='stackspec', value='hello')\n"
        "print(json.dumps([call('range', key='stackspec'), call('deleterange', key='stackspec')]))\n"
    )
    found, deleted = json.loads(controller.check_output("python3 -c %s", script))
    assert found["count"] == "1"
    assert deleted["deleted"] == "1"


@pytest.mark.parametrize(
    ("file", "section", "option"),
    [
        pytest.param(
            "/etc/keystone/keystone.conf", "database", "connection", marks=pytest.mark.steps("keystone"), id="keystone"
        ),
        pytest.param(
            "/etc/glance/glance-api.conf", "database", "connection", marks=pytest.mark.steps("glance"), id="glance"
        ),
        pytest.param(
            "/etc/placement/placement.conf",
            "placement_database",
            "connection",
            marks=pytest.mark.steps("placement"),
            id="placement",
        ),
        pytest.param("/etc/nova/nova.conf", "database", "connection", marks=pytest.mark.steps("nova"), id="nova"),
        pytest.param(
            "/etc/neutron/neutron.conf", "database", "connection", marks=pytest.mark.steps("neutron"), id="neutron"
        ),
    ],
)
def test_service_logs_in_to_its_database(file, section, option, controller):
    """The password in the service's file opens its database, and no other service's."""
    script = (
        "import configparser, os, subprocess, sys, urllib.parse\n"
        "c = configparser.RawConfigParser(strict=False, allow_no_value=True); c.read(sys.argv[1])\n"
        "u = urllib.parse.urlsplit(c[sys.argv[2]][sys.argv[3]]); d = u.path.strip('/')\n"
        "e = dict(os.environ, MYSQL_PWD=u.password)\n"
        "a = ['mariadb', '-h', u.hostname, '-u', u.username, '-N', '-B', '-e', sys.argv[4], d]\n"
        "print(u.username, d, subprocess.run(a, env=e, check=True, capture_output=True, text=True).stdout)\n"
    )
    query = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE(); SHOW DATABASES"
    # The password stays on the node, and off every command line.
    words = controller.check_output("python3 -c %s %s %s %s %s", script, file, section, option, query).split()
    user, database, tables, *databases = words
    assert int(tables) > 5, f"{database} has {tables} tables"
    assert set(databases) <= {"information_schema", *(name for name in databases if name.split("_")[0] == user)}
