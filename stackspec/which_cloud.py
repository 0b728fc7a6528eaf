"""Determines the target cloud once, when a run or command starts; nothing else reads the environment."""

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
"""openstacksdk's name for the cloud of OS_AUTH_URL and related variables, set by an openrc file."""
KEYSTONE = 5000
"""The port of a site's keystone. Guide: keystone."""


@dataclass(frozen=True)
class Target:
    """The target cloud: a site's, or one of clouds.yaml.

    :param site: None if only an existing cloud was named
    :param name: the entry of clouds.yaml, or ENVIRONMENT; empty for a site, which uses its own addresses and secrets
    """

    site: Site | None
    name: str = ""


def named_by(cloud: str) -> str:
    """The user's setting that selects `cloud`, for messages."""
    if cloud == ENVIRONMENT:
        return f"OS_AUTH_URL={os.environ.get('OS_AUTH_URL', '')}"
    return f"OS_CLOUD={cloud}" if os.environ.get("OS_CLOUD") == cloud else f"--os-cloud {cloud}"


def which_cloud(
    inventory: str | Path | None, default: Path | None, *, nodes: bool = False, cloud: str | None = None
) -> Target:
    """The cloud selected by an option, the inventory (or $STACKSPEC_INVENTORY), OS_CLOUD, or OS_AUTH_URL.

    :param inventory: from the command line
    :param default: the default inventory; None if a cloud must be selected
    :param nodes: whether nodes are needed, so that a cloud's name alone is not enough
    :param cloud: the entry of clouds.yaml from the command line, which overrides the environment
    :raises InputError: nothing is selected, the inventory is invalid, or it conflicts with the environment
    """
    name = cloud or os.environ.get("OS_CLOUD", "") or (ENVIRONMENT if os.environ.get("OS_AUTH_URL") else "")
    named = inventory or os.environ.get("STACKSPEC_INVENTORY")
    if name and not named and not nodes:
        return Target(None, name)
    if not named and default is None:
        raise InputError(
            "no cloud selected; give --inventory PATH or --os-cloud NAME, set OS_CLOUD, or source an openrc file"
        )
    site = load_site(Path(named or default or ""))
    if name and not _same(site, name):
        variable, given, _ = named_by(name).partition("=")
        raise InputError(
            f"{named_by(name)} names another cloud than the inventory {site.file} (site {site.name});"
            f" {f'unset {variable}' if given else 'omit --os-cloud'} to work on the site, or give no inventory"
            " (--inventory, $STACKSPEC_INVENTORY, --deploy,"
            " --plan) to work on that cloud"
        )
    return Target(site)


def _same(site: Site, name: str) -> bool:
    """Whether the entry `name` of clouds.yaml points to the site's keystone, as the site's own clouds.yaml does."""
    # Imported here: only needed if a cloud is named, and the client takes half a second to load.
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
