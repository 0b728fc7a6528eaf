"""Configuration common to all OpenStack services. Guide: [keystone_authtoken] and similar sections in each chapter."""

from __future__ import annotations

from ..resources.ini import IniFile
from ..site import Site

OsloConfig = IniFile
"""An oslo.config file is an ini file."""


def keystone_auth(site: Site, user: str, *, url: str = "") -> dict[str, str]:
    """The options for a service's login as `user` of project service.

    :param url: the identity URL; default: ``http://controller:5000``, as in most chapters
    """
    return {
        "auth_url": url or f"http://{site.controller.name}:5000",
        "auth_type": "password",
        "project_domain_name": "Default",
        "user_domain_name": "Default",
        "project_name": "service",
        "username": user,
        "password": site.password(user),
    }


def keystone_authtoken(site: Site, user: str, *, slash: str = "") -> dict[str, str]:
    """The section [keystone_authtoken], for token validation.

    :param slash: nova's chapter ends its URLs with a slash
    """
    return {
        "www_authenticate_uri": f"http://{site.controller.name}:5000{slash}",
        "memcached_servers": f"{site.controller.name}:11211",
        **keystone_auth(site, user, url=f"http://{site.controller.name}:5000{slash}"),
    }


def transport_url(site: Site) -> str:
    """The RabbitMQ URL of all services."""
    return f"rabbit://openstack:{site.password('openstack rabbitmq')}@{site.controller.name}:5672/"


def database_url(site: Site, user: str, database: str = "") -> str:
    """A service's database."""
    return f"mysql+pymysql://{user}:{site.password(f'{user} database')}@{site.controller.name}/{database or user}"
