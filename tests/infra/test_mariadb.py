"""The database: settings, accounts, and logins of the services."""

from __future__ import annotations

import pytest

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site

OWN_ACCOUNTS = ("root", "mysql", "mariadb.sys", "debian-sys-maint")
"""Internal accounts created by the database's packages."""


def test_database_settings(mariadb: object, controller: NodeHost) -> None:
    """The server runs with the guide's settings, and tables use its character set."""
    sql = (
        "SELECT @@character_set_server, @@collation_server, @@max_connections, @@default_storage_engine,"
        " @@innodb_file_per_table"
    )
    found = controller.check_output("mariadb -N -B -e %s", sql).split("\t")
    wanted = ["utf8mb3", "utf8mb3_general_ci", "4096", "InnoDB", "1"]
    assert found == wanted, f"the database runs with {', '.join(found)}, wanted {', '.join(wanted)}"


def test_conflicting_transactions_do_not_fail(mariadb: object, controller: NodeHost) -> None:
    """The second to change a row does so, as before MariaDB 11.6; otherwise services get error 1020 now and then."""
    found = controller.check_output("mariadb -N -B -e %s", "SHOW GLOBAL VARIABLES LIKE 'innodb_snapshot_isolation'")
    assert found.split("\t")[1:] in ([], ["OFF"]), f"the database runs with {found}: set it to OFF"


def test_no_unexpected_accounts(mariadb: object, site: Site, controller: NodeHost) -> None:
    """No anonymous accounts; root logs in only through the unix socket, and only root has global privileges."""
    rows = controller.check_output("mariadb -N -B -e 'SELECT user, host FROM mysql.user'").splitlines()
    accounts = {tuple(row.split("\t")) for row in rows}
    nameless = sorted(account for account in accounts if account[0] == "")
    assert not nameless, f"{site.controller.name}: the database has anonymous accounts: {nameless}"
    roots = {host for user, host in accounts if user == "root"} - {"localhost", "127.0.0.1", "::1"}
    assert not roots, f"{site.controller.name}: root can log in to the database from {', '.join(sorted(roots))}"
    refused = controller.run("mariadb -h %s -u root --password= -e 'SELECT 1'", site.controller.address)
    assert refused.rc != 0, "root can log in over the network without a password"
    query = "SELECT DISTINCT grantee FROM information_schema.user_privileges WHERE privilege_type <> 'USAGE'"
    privileged = [row.replace("'", "") for row in controller.check_output("mariadb -N -B -e %s", query).splitlines()]
    strangers = [each for each in privileged if each.split("@")[0] not in OWN_ACCOUNTS or each.endswith("@%")]
    assert not strangers, f"{site.controller.name}: global database privileges of {', '.join(strangers)}"


@pytest.mark.parametrize(
    ("file", "section"),
    [
        pytest.param("/etc/keystone/keystone.conf", "database", marks=pytest.mark.steps("keystone"), id="keystone"),
        pytest.param("/etc/glance/glance-api.conf", "database", marks=pytest.mark.steps("glance"), id="glance"),
        pytest.param(
            "/etc/placement/placement.conf", "placement_database", marks=pytest.mark.steps("placement"), id="placement"
        ),
        pytest.param("/etc/nova/nova.conf", "database", marks=pytest.mark.steps("nova"), id="nova"),
        pytest.param("/etc/neutron/neutron.conf", "database", marks=pytest.mark.steps("neutron"), id="neutron"),
        pytest.param("/etc/barbican/barbican.conf", "database", marks=pytest.mark.steps("barbican"), id="barbican"),
        pytest.param("/etc/cinder/cinder.conf", "database", marks=pytest.mark.steps("cinder"), id="cinder"),
        pytest.param("/etc/heat/heat.conf", "database", marks=pytest.mark.steps("heat"), id="heat"),
        pytest.param("/etc/magnum/magnum.conf", "database", marks=pytest.mark.steps("magnum"), id="magnum"),
        pytest.param("/etc/octavia/octavia.conf", "database", marks=pytest.mark.steps("octavia"), id="octavia"),
    ],
)
def test_service_logs_in_to_its_database(file: str, section: str, controller: NodeHost) -> None:
    """The password in the service's file works for its database, and for no other service's."""
    query = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE(); SHOW DATABASES"
    # The password stays on the node.
    words = programs.output(controller, "database_login", file, section, "connection", query).split()
    user, database, tables, *databases = words
    assert int(tables) > 5, f"{database} has {tables} tables"
    assert set(databases) <= {"information_schema", *(name for name in databases if name.split("_")[0] == user)}
