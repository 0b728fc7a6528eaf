"""Which cloud is meant: decided once, when a run or a command begins; nothing else asks the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .cloud_inventory import load_site
from .errors import InputError
from .site import Site

ENVIRONMENT = "envvars"
"""What openstacksdk calls the cloud of OS_AUTH_URL and its like, as an openrc file sets them."""
KEYSTONE = 5000
"""The port of a site's keystone. Guide: keystone."""


@dataclass(frozen=True)
class Meant:
    """The cloud that is meant: that of a site, or one of clouds.yaml.

    :param site: None when only an existing cloud was named
    :param name: the entry of clouds.yaml, or ENVIRONMENT; empty for a site, whose own addresses and secrets are used
    """

    site: Site | None
    name: str = ""


def named_by(cloud: str) -> str:
    """What a user has set to name `cloud`, as messages say it."""
    return f"OS_AUTH_URL={os.environ.get('OS_AUTH_URL', '')}" if cloud == ENVIRONMENT else f"OS_CLOUD={cloud}"


def which_cloud(
    inventory: str | Path | None, default: Path | None, *, nodes: bool = False, cloud: str | None = None
) -> Meant:
    """The cloud that an option, the inventory (or $STACKSPEC_INVENTORY), OS_CLOUD, or OS_AUTH_URL and its like name.

    :param inventory: as the command line says it
    :param default: the inventory when nothing is named; None when a cloud has to be named
    :param nodes: whether nodes are worked on, so that a cloud's name alone is not enough
    :param cloud: the entry of clouds.yaml that the command line names, before what the environment says
    :raises InputError: nothing is named, the inventory cannot be used, or the environment names another cloud than it
    """
    name = cloud or os.environ.get("OS_CLOUD", "") or (ENVIRONMENT if os.environ.get("OS_AUTH_URL") else "")
    named = inventory or os.environ.get("STACKSPEC_INVENTORY")
    if name and not named and not nodes:
        return Meant(None, name)
    if not named and default is None:
        raise InputError("no cloud is named; give --inventory PATH, set OS_CLOUD, or source an openrc file")
    site = load_site(Path(named or default or ""))
    if name and not _same(site, name):
        raise InputError(
            f"{named_by(name)} names another cloud than the inventory {site.file} (site {site.name});"
            f" unset {named_by(name).partition('=')[0]} to work on the site, or name no inventory"
            " (--inventory, $STACKSPEC_INVENTORY, --deploy,"
            " --plan) to work on that cloud"
        )
    return Meant(site)


def _same(site: Site, name: str) -> bool:
    """Whether the entry `name` of clouds.yaml leads to the site's keystone; the site's own clouds.yaml does."""
    # Imported here: a command that names no cloud needs no client, which takes half a second to load.
    import openstack

    try:
        config: Any = openstack.config.OpenStackConfig().get_one(cloud=name)
    except openstack.exceptions.ConfigException:
        return False
    address = urlsplit(str(config.auth.get("auth_url", "")))
    controller = site.controller
    hosts = {controller.name, str(controller.management.address), site.inventory.public_host}
    return (
        address.hostname in hosts and address.port == KEYSTONE and config.get_region_name() in ("", None, site.region)
    )
