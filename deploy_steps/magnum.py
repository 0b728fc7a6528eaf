"""Container infrastructure service. Guide: 安装openstack服务 / Magnum."""

from __future__ import annotations

from stackspec.openstack import (
    Database,
    DbSync,
    Domain,
    DomainAdmin,
    Endpoint,
    OsloConfig,
    ServiceUser,
    database_url,
    keystone_auth,
    transport_url,
)
from stackspec.resources import Answers, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step


@step(role="controller", provides="container-infra")
def magnum(
    site: Site, keystone: Step, mariadb: Step, rabbitmq: Step, memcached: Step, heat: Step, barbican: Step
) -> Resources:
    """Magnum with certificates in Barbican (erratum E134), and a domain for the users of clusters."""
    controller = site.controller.name
    identity = f"http://{controller}:5000/v3"
    password = site.password("magnum")
    yield Database("magnum")
    # Certificates are stored in project service, where Barbican requires the role creator.
    yield ServiceUser("magnum", roles=("admin", "service", "creator"))
    description = "OpenStack Container Infrastructure Management Service"
    yield Endpoint("container-infra", name="magnum", description=description, url=f"http://{controller}:9511/v1")
    yield Domain("magnum", description="Owns users and projects created by magnum")
    yield DomainAdmin("magnum_domain_admin", domain="magnum")
    yield Packages("magnum-api", "magnum-conductor", "python3-magnumclient")
    yield OsloConfig(
        "/etc/magnum/magnum.conf",
        {
            "api": {"host": site.controller.address},
            "certificates": {"cert_manager_type": "barbican"},
            "cinder_client": {"region_name": site.region},
            "database": {"connection": database_url(site, "magnum")},
            # Without the deprecated options for user, password and project (erratum E136).
            "keystone_authtoken": {
                "memcached_servers": f"{controller}:11211",
                "www_authenticate_uri": identity,
                "project_domain_id": "default",
                "project_name": "service",
                "user_domain_id": "default",
                "password": password,
                "username": "magnum",
                "auth_url": f"http://{controller}:5000",
                "auth_type": "password",
            },
            # The service's own login, which replaces the deprecated options.
            "keystone_auth": keystone_auth(site, "magnum", url=identity),
            "trust": {
                "trustee_domain_name": "magnum",
                "trustee_domain_admin_name": "magnum_domain_admin",
                "trustee_domain_admin_password": site.password("magnum_domain_admin"),
                "trustee_keystone_interface": "public",
            },
            "oslo_messaging_notifications": {"driver": "messaging"},
            "DEFAULT": {"transport_url": transport_url(site)},
        },
        own=("database", "keystone_authtoken", "keystone_auth"),
    )
    yield DbSync(("magnum-db-manage", "upgrade"), database="magnum", package="magnum-conductor", user="magnum")
    yield Service("magnum-api", "magnum-conductor")
    yield Answers(f"http://{controller}:9511/", service="magnum-api")
