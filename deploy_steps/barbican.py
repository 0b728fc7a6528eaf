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
    """Barbican with secrets encrypted in the database; no listener, to which keystone says nothing (erratum E106)."""
    controller = site.controller.name
    yield Database("barbican")
    yield Role("creator")
    yield ServiceUser("barbican", roles=("admin", "service", "creator"))
    # Nobody else may make a secret, administrators and members included, and nobody at all set a quota.
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
                # The guide's name of it is an old one (erratum E107).
                "sql_connection": None,
                "transport_url": transport_url(site),
                # Secrets are called by this; the default is localhost, which is another machine for each who reads it.
                "host_href": f"http://{controller}:9311",
            },
            "database": {"connection": database_url(site, "barbican")},
            "keystone_authtoken": {**keystone_authtoken(site, "barbican")},
            # Else the API does the orders itself, and the worker nothing.
            "queue": {"enable": "true"},
            # The key that comes with the software is known to everybody (erratum E109).
            "simple_crypto_plugin": {"kek": kek},
        },
        own=("keystone_authtoken",),
    )
    yield DbSync(("barbican-manage", "db", "upgrade"), database="barbican", package="barbican-api", user="barbican")
    yield Service("barbican-api", "barbican-worker")
    yield Answers(f"http://{controller}:9311/", status=(200, 300), service="barbican-api")
