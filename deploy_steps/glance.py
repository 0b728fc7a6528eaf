"""Image service. Guide: 安装openstack服务 / Glance."""

from __future__ import annotations

from stackspec.cloud_inventory import inventory_of
from stackspec.openstack import (
    Database,
    DbSync,
    Endpoint,
    Id,
    Image,
    OsloConfig,
    RegisteredLimit,
    ServiceUser,
    database_url,
    keystone_authtoken,
)
from stackspec.resources import Answers, Packages, Service
from stackspec.resources.ini import Value
from stackspec.site import Site
from stackspec.step import Resources, Step, step

LIMITS = {"image_size_total": 1000, "image_stage_total": 1000, "image_count_total": 100, "image_count_uploading": 100}
"""Default limits of a project: MiB for sizes, images for counts."""


@step(role="controller", provides="image")
def glance(site: Site, keystone: Step, mariadb: Step, memcached: Step) -> Resources:
    """Glance with images in files; quotas in keystone, either all or none (erratum E26)."""
    controller = site.controller.name
    limits = inventory_of(site).keystone_limits
    yield Database("glance")
    yield ServiceUser("glance", system_roles=("reader",) if limits else ())
    yield Endpoint("image", name="glance", description="OpenStack Image", url=f"http://{controller}:9292")
    if limits:
        for name, default in LIMITS.items():
            yield RegisteredLimit("image", name, default)
    yield Packages("glance")
    options: dict[str, dict[str, Value]] = {
        "database": {"connection": database_url(site, "glance")},
        "keystone_authtoken": {**keystone_authtoken(site, "glance")},
        "paste_deploy": {"flavor": "keystone"},
        "DEFAULT": {"enabled_backends": "fs:file"},
        "glance_store": {"default_backend": "fs"},
        "fs": {"filesystem_store_datadir": "/var/lib/glance/images/"},
    }
    if limits:
        options["DEFAULT"]["use_keystone_limits"] = "True"
        options["oslo_limit"] = {
            "auth_url": f"http://{controller}:5000",
            "auth_type": "password",
            "user_domain_id": "default",
            "username": "glance",
            "system_scope": "all",
            "password": site.password("glance"),
            "endpoint_id": Id("endpoint", "image/public"),
            "region_name": site.region,
        }
    yield OsloConfig(
        "/etc/glance/glance-api.conf",
        options,
        own=("database", "keystone_authtoken", "paste_deploy", *(("oslo_limit",) if limits else ())),
    )
    yield DbSync(("glance-manage", "db_sync"), database="glance", package="glance", user="glance")
    yield Service("glance-api")
    yield Answers(f"http://{controller}:9292/", status=(200, 300), service="glance-api")
    for name, image in site.inventory.images.items():
        yield Image(name, image)
