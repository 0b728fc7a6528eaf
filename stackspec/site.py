"""A site: an inventory made concrete, with its release and its secrets."""

from __future__ import annotations

import difflib
import importlib.resources
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .errors import InputError
from .image_format import wrong_format
from .inventory import BUILT_IMAGES, Inventory, Network, Node, load_inventory
from .release import Release, load_release
from .secrets import Secrets
from .store import Store
from .yaml_file import YamlSource, read_yaml


def state_directory() -> Path:
    """Where sites keep secrets and runs: $STACKSPEC_STATE, /var/lib/stackspec (root) or ~/.local/state/stackspec."""
    if named := os.environ.get("STACKSPEC_STATE"):
        return Path(named)
    return Path("/var/lib/stackspec") if os.geteuid() == 0 else Path.home() / ".local/state/stackspec"


def cache_directory() -> Path:
    """Where things live that can be made again: $STACKSPEC_CACHE, /var/cache/stackspec (root) or ~/.cache/stackspec."""
    if named := os.environ.get("STACKSPEC_CACHE"):
        return Path(named)
    return Path("/var/cache/stackspec") if os.geteuid() == 0 else Path.home() / ".cache/stackspec"


def default_inventory() -> Path:
    """The folder of the lab's inventory, which comes with stackspec."""
    return Path(str(importlib.resources.files("stackspec.inventories"))) / "lab"


@dataclass(frozen=True)
class ImageBuilder:
    """Makes an image that is neither fetched nor given.

    :param file_name: what the image's file is called; another recipe, another name
    :param build: waits for the image and returns its path
    """

    file_name: str
    build: Callable[[], Path]


@dataclass(frozen=True, eq=False, repr=False)
class Site:
    """What steps and tests know: nodes, networks, names, release and secrets.

    :param inventory: the checked inventory
    :param release: its release table
    :param secrets: passwords and keys by name
    :param state: folder of the site's own state; None for a plan without state
    :param file: the inventory's
    :param image_builders: make the images that are not fetched
    :param store: where files from elsewhere are taken
    :param outside: calls a function where this machine's own network is, from which a lab's is kept apart
    """

    inventory: Inventory
    release: Release
    secrets: Secrets
    state: Path | None = None
    file: Path = Path("site.yaml")
    image_builders: Mapping[str, ImageBuilder] = field(default_factory=dict)
    store: Store = field(default_factory=Store)
    outside: Callable[[Callable[[], Any]], Any] = lambda call: call()

    @property
    def name(self) -> str:
        """The site's name."""
        return self.inventory.site

    @property
    def region(self) -> str:
        """The region of its cloud."""
        return self.inventory.region

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Its nodes by name."""
        return self.inventory.nodes

    @property
    def networks(self) -> dict[Literal["management", "provider"], Network]:
        """Its networks: management and provider."""
        return self.inventory.networks

    @property
    def folder(self) -> Path:
        """Where the inventory's relative paths start."""
        return self.file.parent

    @property
    def controller(self) -> Node:
        """The node with the role controller."""
        return self.with_role("controller")[0]

    def with_role(self, role: str) -> list[Node]:
        """Nodes that have `role`, in the inventory's order."""
        return [node for node in self.nodes.values() if role in node.roles]

    def password(self, name: str) -> str:
        """The site's password called `name`."""
        return self.secrets.password(name)

    def public(self, url: str) -> str:
        """A service's URL as its public endpoint has it: on the inventory's `public_host`, where there is one."""
        host = self.inventory.public_host or self.controller.name
        return url.replace(f"//{self.controller.name}:", f"//{host}:", 1)

    @property
    def address_for_guests(self) -> str:
        """Where guests reach the controller, whose name and management address they do not know (erratum E87).

        The host of the public endpoints, else on the provider network: the routers of every project lead there.
        """
        return self.inventory.public_host or str(self.controller.provider.address)

    def tunnel_address(self, node: Node) -> str:
        """Where the node ends its VXLAN tunnels: on the network that the inventory's `tunnel` names."""
        return str(node.provider.address if self.inventory.tunnel == "provider" else node.management.address)


def load_site(path: Path, model: type[Inventory]) -> Site:
    """Load the site that the inventory at `path` describes.

    :param model: the keys that the inventory may have
    :raises InputError: with file:line and what would be right
    """
    inventory = load_inventory(path, model)
    file = path / "site.yaml" if path.is_dir() else path
    _, source = read_yaml(file)
    try:
        release = load_release(inventory.release)
    except InputError as error:
        raise InputError(f"{_line(source, ('release',))}: {error}") from None
    inventory = _with_files(inventory, source)
    state = state_directory() / "sites" / inventory.site
    if inventory.secrets == "guide":
        secrets = Secrets(state / "secrets.json", fixed="000000")
    elif isinstance(inventory.secrets, Path):
        given_path = file.parent / inventory.secrets.expanduser()
        if not given_path.is_file():
            raise InputError(f"{_line(source, ('secrets',))}: secrets: no file {given_path}; name one, or generated")
        try:
            given = load_secrets(given_path)
        except InputError as error:
            raise InputError(f"{_line(source, ('secrets',))}: secrets: {error}") from None
        secrets = Secrets(state / "secrets.json", given=given)
    else:
        secrets = Secrets(state / "secrets.json")
    return Site(inventory, release, secrets, state, file.absolute())


def check_config(site: Site, steps: Collection[str]) -> None:
    """See that the inventory's `config` names steps that there are.

    :raises InputError: with file:line, and the step that was meant
    """
    if unknown := [name for name in site.inventory.config if name not in steps]:
        near = difflib.get_close_matches(unknown[0], steps, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the steps are {', '.join(sorted(steps))}"
        where = _line(read_yaml(site.file)[1], ("config", unknown[0]))
        raise InputError(f"{where}: config.{unknown[0]}: there is no such step; {hint}")


def load_secrets(path: Path) -> dict[str, str]:
    """Secrets that the user gives: a YAML mapping of name -> value in a file that only its owner can read.

    :raises InputError: the file is missing, is readable by others, or holds something else
    """
    if path.exists() and path.stat().st_mode & 0o077:
        mode = path.stat().st_mode & 0o777
        raise InputError(f"{path}: others can read this file of secrets (mode {mode:04o}); chmod 600 it")
    data, source = read_yaml(path)
    for name, value in data.items():
        if not isinstance(value, str):
            raise InputError(f"{path}:{source.line((name,))}: {name}: a text in quotes is expected")
        if not value.startswith("-----BEGIN ") and not re.fullmatch(r"[A-Za-z0-9_.~=-]+", value):
            raise InputError(
                f"{path}:{source.line((name,))}: {name}: letters, digits and _ . ~ = - are expected; it goes into "
                "URLs, SQL and configuration files as it is"
            )
    return {str(name): str(value) for name, value in data.items()}


def _with_files(inventory: Inventory, source: YamlSource) -> Inventory:
    """`inventory` with the files that ssh needs as absolute paths; all files that it names must be there."""
    folder = source.path.parent
    for location, image in inventory.all_images().items():
        if "://" not in image.source and image.source not in BUILT_IMAGES:
            path = folder / image.source
            where = f"{_line(source, (*location, 'source'))}: {'.'.join(location)}.source"
            if not path.is_file():
                raise InputError(f"{where}: no file {path}; name a file, a URL or {' or '.join(BUILT_IMAGES)}")
            if wrong := wrong_format(path, image.disk_format):
                raise InputError(f"{where}: {wrong}")
    found: dict[str, Path] = {}
    for key, value in (("key", inventory.ssh.key), ("config", inventory.ssh.config)):
        if value is not None:
            found[key] = (folder / value.expanduser()).absolute()
            if not found[key].is_file():
                where = _line(source, ("ssh", key))
                raise InputError(
                    f"{where}: ssh.{key}: no file {found[key]}; without the key, ssh uses its own settings"
                )
    return inventory.model_copy(update={"ssh": inventory.ssh.model_copy(update=found)}) if found else inventory


def _line(source: YamlSource, location: tuple[str, ...]) -> str:
    return f"{source.path}:{source.line(location)}"
