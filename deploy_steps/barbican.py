"""Key manager. Guide: 安装openstack服务 / barbican."""

from __future__ import annotations

from stackspec.openstack import (
    Database,
    DbSync,
    Endpoint,
    OsloConfig,
    Role,
    RoleAssignment,
    ServiceUser,
    database_url,
    keystone_authtoken,
    transport_url,
)
from stackspec.resources import Answers, KeptOption, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step


@step(role="controller", provides="key-manager")
def barbican(site: Site, keystone: Step, mariadb: Step, rabbitmq: Step, memcached: Step) -> Resources:
    """Barbican with secrets encrypted in the database; no listener, since keystone sends no notifications (E106)."""
    controller = site.controller.name
    yield Database("barbican")
    yield Role("creator")
    yield ServiceUser("barbican", roles=("admin", "service", "creator"))
    # Without these roles nobody can create secrets, not even administrators and members, and nobody can set quotas.
    yield RoleAssignment("creator", user="admin", project="admin")
    yield RoleAssignment("creator", user="demo", project="demo")
    yield Role("key-manager:service-admin")
    yield RoleAssignment("key-manager:service-admin", user="admin", project="admin")
    yield Endpoint("key-manager", name="barbican", description="Key Manager", url=f"http://{controller}:9311")
    yield Packages("barbican-api", "barbican-worker")
    kek = site.secrets.key("barbican kek")
    yield KeptOption("/etc/barbican/barbican.conf", "simple_crypto_plugin", "kek", kek, "barbican")
    yield OsloConfig(
        "/etc/barbican/barbican.conf",
        {
            "DEFAULT": {
                # The guide uses its old name (erratum E107).
                "sql_connection": None,
                "transport_url": transport_url(site),
                # Base of secret URLs; the default, localhost, is only valid on the controller.
                "host_href": f"http://{controller}:9311",
            },
            "database": {"connection": database_url(site, "barbican")},
            "keystone_authtoken": {**keystone_authtoken(site, "barbican")},
            # Otherwise the API processes orders itself, and the worker is idle.
            "queue": {"enable": "true"},
            # The software's default key is public (erratum E109).
            "simple_crypto_plugin": {"kek": kek},
        },
        own=("keystone_authtoken",),
    )
    yield DbSync(("barbican-manage", "db", "upgrade"), database="barbican", package="barbican-api", user="barbican")
    yield Service("barbican-api", "barbican-worker")
    yield Answers(f"http://{controller}:9311/", status=(200, 300), service="barbican-api")
