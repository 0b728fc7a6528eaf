"""Orchestration service. Guide: 安装openstack服务 / Heat."""

from __future__ import annotations

from stackspec.openstack import (
    Database,
    DbSync,
    Domain,
    DomainAdmin,
    Endpoint,
    OsloConfig,
    Role,
    RoleAssignment,
    ServiceUser,
    database_url,
    keystone_authtoken,
    transport_url,
)
from stackspec.resources import Answers, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step


@step(role="controller", provides="orchestration")
def heat(site: Site, keystone: Step, mariadb: Step, rabbitmq: Step, memcached: Step) -> Resources:
    """Heat with its CloudFormation API for signals of guests, and a domain for the users of stacks."""
    controller = site.controller.name
    yield Database("heat")
    yield ServiceUser("heat")
    stacks = f"http://{controller}:8004/v1/%(tenant_id)s"
    yield Endpoint("orchestration", name="heat", description="Orchestration", url=stacks)
    cfn = f"http://{controller}:8000/v1"
    yield Endpoint("cloudformation", name="heat-cfn", description="Orchestration", url=cfn)
    yield Domain("heat", description="Stack projects and users")
    yield DomainAdmin("heat_domain_admin", domain="heat")
    yield Role("heat_stack_owner")
    # The guide never creates the project and user for this role (erratum E85).
    yield RoleAssignment("heat_stack_owner", user="demo", project="demo")
    yield Role("heat_stack_user")
    yield Packages("heat-api", "heat-api-cfn", "heat-engine")
    # URLs for guests, which neither resolve the controller's name nor reach its management address (E86, E87). The
    # API's own URL is for signals with a token, which work where Keystone issues no token for signed URLs.
    guests = site.address_for_guests
    yield OsloConfig(
        "/etc/heat/heat.conf",
        {
            "database": {"connection": database_url(site, "heat")},
            "DEFAULT": {
                "transport_url": transport_url(site),
                "heat_metadata_server_url": f"http://{guests}:8000",
                "heat_waitcondition_server_url": f"http://{guests}:8000/v1/waitcondition",
                "stack_domain_admin": "heat_domain_admin",
                "stack_domain_admin_password": site.password("heat_domain_admin"),
                "stack_user_domain_name": "heat",
            },
            "keystone_authtoken": {**keystone_authtoken(site, "heat")},
            "trustee": {
                "auth_type": "password",
                "auth_url": f"http://{controller}:5000",
                "username": "heat",
                "password": site.password("heat"),
                "user_domain_name": "Default",
            },
            "clients_keystone": {"auth_uri": f"http://{guests}:5000"},
            "clients_heat": {"url": f"http://{guests}:8004/v1/%(tenant_id)s"},
        },
        own=("database", "keystone_authtoken", "trustee"),
    )
    yield DbSync(("heat-manage", "db_sync"), database="heat", package="heat-engine", user="heat")
    yield Service("heat-api", "heat-api-cfn", "heat-engine")
    yield Answers(f"http://{controller}:8004/", status=(200, 300), service="heat-api")
    yield Answers(f"http://{guests}:8000/", status=(200, 300), service="heat-api-cfn")
