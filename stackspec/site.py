"""A site: a resolved inventory, with its release and its secrets."""

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
    """Directory for secrets and runs: $STACKSPEC_STATE, /var/lib/stackspec (root) or ~/.local/state/stackspec."""
    if named := os.environ.get("STACKSPEC_STATE"):
        return Path(named)
    return Path("/var/lib/stackspec") if os.geteuid() == 0 else Path.home() / ".local/state/stackspec"


def cache_directory() -> Path:
    """Directory for data that can be recreated: $STACKSPEC_CACHE, /var/cache/stackspec (root) or ~/.cache/stackspec."""
    if named := os.environ.get("STACKSPEC_CACHE"):
        return Path(named)
    return Path("/var/cache/stackspec") if os.geteuid() == 0 else Path.home() / ".cache/stackspec"


def default_inventory() -> Path:
    """The folder of the lab's inventory, which is part of stackspec."""
    return Path(str(importlib.resources.files("stackspec.inventories"))) / "lab"


@dataclass(frozen=True)
class ImageBuilder:
    """Builds an image that is neither downloaded nor given.

    :param file_name: name of the image file; it changes with the recipe
    :param build: waits for the image and returns its path
    """

    file_name: str
    build: Callable[[], Path]


@dataclass(frozen=True, eq=False, repr=False)
class Site:
    """The context of steps and tests: nodes, networks, names, release and secrets.

    :param inventory: the checked inventory
    :param release: its release table
    :param secrets: passwords and keys by name
    :param state: folder of the site's state; None for a plan without state
    :param file: path of the inventory
    :param image_builders: build the images that are not downloaded
    :param store: source of downloads
    :param outside: calls a function in the host's own network namespace, outside a lab's
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
        """Base of the inventory's relative paths."""
        return self.file.parent

    @property
    def controller(self) -> Node:
        """The node with the role controller."""
        return self.with_role("controller")[0]

    def with_role(self, role: str) -> list[Node]:
        """Nodes with `role`, in the inventory's order."""
        return [node for node in self.nodes.values() if role in node.roles]

    def password(self, name: str) -> str:
        """The site's password called `name`."""
        return self.secrets.password(name)

    def public(self, url: str) -> str:
        """A service's URL for its public endpoint: on the inventory's `public_host`, if set."""
        host = self.inventory.public_host or self.controller.name
        return url.replace(f"//{self.controller.name}:", f"//{host}:", 1)

    @property
    def address_for_guests(self) -> str:
        """The controller's address for guests, which do not know its name and management address (erratum E87).

        The host of the public endpoints, otherwise its provider address: the routers of all projects lead there.
        """
        return self.inventory.public_host or str(self.controller.provider.address)

    def tunnel_address(self, node: Node) -> str:
        """The node's tunnel endpoint: its address on the network named by the inventory's `tunnel`."""
        return str(node.provider.address if self.inventory.tunnel == "provider" else node.management.address)


def load_site(path: Path, model: type[Inventory]) -> Site:
    """Load the site that the inventory at `path` describes.

    :param model: the allowed keys of the inventory
    :raises InputError: with file:line and how to fix it
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
            raise InputError(f"{_line(source, ('secrets',))}: secrets: no file {given_path}; give a file, or generated")
        try:
            given = load_secrets(given_path)
        except InputError as error:
            raise InputError(f"{_line(source, ('secrets',))}: secrets: {error}") from None
        secrets = Secrets(state / "secrets.json", given=given)
    else:
        secrets = Secrets(state / "secrets.json")
    return Site(inventory, release, secrets, state, file.absolute())


def check_config(site: Site, steps: Collection[str]) -> None:
    """Check that the inventory's `config` names existing steps.

    :raises InputError: with file:line and a suggestion
    """
    if unknown := [name for name in site.inventory.config if name not in steps]:
        near = difflib.get_close_matches(unknown[0], steps, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the steps are {', '.join(sorted(steps))}"
        where = _line(read_yaml(site.file)[1], ("config", unknown[0]))
        raise InputError(f"{where}: config.{unknown[0]}: there is no such step; {hint}")


def load_secrets(path: Path) -> dict[str, str]:
    """Secrets given by the user: a YAML mapping of name -> value in a file that only its owner can read.

    :raises InputError: the file is missing, readable by others, or has other content
    """
    if path.exists() and path.stat().st_mode & 0o077:
        mode = path.stat().st_mode & 0o777
        raise InputError(f"{path}: this secrets file is readable by others (mode {mode:04o}); chmod 600 it")
    data, source = read_yaml(path)
    for name, value in data.items():
        if not isinstance(value, str):
            raise InputError(f"{path}:{source.line((name,))}: {name}: expected a quoted text")
        if not value.startswith("-----BEGIN ") and not re.fullmatch(r"[A-Za-z0-9_.~=-]+", value):
            raise InputError(
                f"{path}:{source.line((name,))}: {name}: only letters, digits and _ . ~ = - are allowed; it goes into "
                "URLs, SQL and configuration files unquoted"
            )
    return {str(name): str(value) for name, value in data.items()}


def _with_files(inventory: Inventory, source: YamlSource) -> Inventory:
    """`inventory` with absolute paths of ssh's files; all files that it names must exist."""
    folder = source.path.parent
    for location, image in inventory.all_images().items():
        if "://" not in image.source and image.source not in BUILT_IMAGES:
            path = folder / image.source
            where = f"{_line(source, (*location, 'source'))}: {'.'.join(location)}.source"
            if not path.is_file():
                raise InputError(f"{where}: no file {path}; give a file, a URL or {' or '.join(BUILT_IMAGES)}")
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
