"""Placement service. Guide: 安装openstack服务 / Placement."""

from __future__ import annotations

from stackspec.openstack import Database, DbSync, Endpoint, OsloConfig, ServiceUser, database_url, keystone_auth
from stackspec.resources import Answers, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step


@step(role="controller", provides="placement")
def placement(site: Site, keystone: Step, mariadb: Step, memcached: Step) -> Resources:
    """Placement, which nova's scheduler queries for candidates."""
    controller = site.controller.name
    yield Database("placement")
    yield ServiceUser("placement")
    yield Endpoint("placement", name="placement", description="Placement API", url=f"http://{controller}:8778")
    yield Packages("placement-api")
    yield OsloConfig(
        "/etc/placement/placement.conf",
        {
            "placement_database": {"connection": database_url(site, "placement")},
            "api": {"auth_strategy": "keystone"},
            "keystone_authtoken": {
                "memcached_servers": f"{controller}:11211",
                **keystone_auth(site, "placement", url=f"http://{controller}:5000/v3"),
            },
        },
        own=("placement_database", "keystone_authtoken"),
    )
    yield DbSync(("placement-manage", "db", "sync"), database="placement", package="placement-api", user="placement")
    yield Service("placement-api")
    yield Answers(f"http://{controller}:8778/", service="placement-api")
