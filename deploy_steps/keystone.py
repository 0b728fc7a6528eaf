"""Identity service. Guide: 安装openstack服务 / Keystone."""

from __future__ import annotations

from stackspec.openstack import (
    Bootstrap,
    CloudsFile,
    Database,
    DbSync,
    MemberProject,
    OsloConfig,
    Project,
    Role,
    database_url,
)
from stackspec.release import ReleaseValue
from stackspec.resources import Answers, Command, File, Lines, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step

APACHE = ReleaseValue("keystone_apache", "")
"""File with Apache's settings, if keystone runs in Apache."""


@step(role="controller", provides="identity")
def keystone(site: Site, mariadb: Step, memcached: Step, chrony: Step) -> Resources:
    """Keystone with fernet tokens, project service, a member's project, and credentials for the operator."""
    controller = site.controller.name
    yield Database("keystone")
    yield Packages("keystone")
    yield OsloConfig(
        "/etc/keystone/keystone.conf",
        {"database": {"connection": database_url(site, "keystone")}, "token": {"provider": "fernet"}},
        own=("database",),
    )
    yield DbSync(("keystone-manage", "db_sync"), database="keystone", package="keystone", user="keystone")
    for what, keys in (("fernet_setup", "fernet-keys"), ("credential_setup", "credential-keys")):
        argv = ("keystone-manage", what, "--keystone-user", "keystone", "--keystone-group", "keystone")
        yield Command(argv, creates=f"/etc/keystone/{keys}/0")
    yield Bootstrap()
    if apache := site.release.value(APACHE):
        yield Lines(apache, (f"ServerName {controller}",), replaces=r"^ServerName\s")
    yield Service("keystone")
    yield Answers(f"http://{controller}:5000/v3/", service="keystone")

    settings = {
        "OS_USERNAME": "admin",
        "OS_PASSWORD": site.password("admin"),
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_AUTH_URL": f"http://{controller}:5000/v3",
        "OS_IDENTITY_API_VERSION": "3",
    }
    openrc = "".join(f"export {name}={value}\n" for name, value in settings.items())
    yield File("/etc/keystone/admin-openrc.sh", openrc, mode=0o600)
    yield CloudsFile("/etc/openstack/clouds.yaml")
    yield Project("service", description="Service Project")
    yield Role("service")
    yield MemberProject("demo", project="demo")
