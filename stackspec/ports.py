"""Interfaces of a run to the machines below a site and to the cloud on it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

from .site import ImageBuilder


class Platform(Protocol):
    """Machines that this host creates for a site, on a separate network; implemented by `stackspec/lab/`."""

    @property
    def ssh_config(self) -> Path:
        """The OpenSSH client configuration that knows the nodes."""

    def is_up(self) -> bool:
        """Whether every node is running."""

    def images(
        self, wanted: Collection[str], say: Callable[[str], None], begin: bool = True
    ) -> dict[str, ImageBuilder]:
        """Start building those of the `wanted` images that the platform builds itself; a builder waits for its image.

        :param say: called with progress lines
        :param begin: False: build an image only when its builder is called
        """

    def up(self, say: Callable[[str], None]) -> None:
        """Start what is not running.

        :param say: called with a line of progress now and then
        """

    def enter(self) -> None:
        """Move the calling thread and its future children into the network namespace of the nodes."""

    def power_cycle(self, *nodes: str) -> None:
        """Cut the power of nodes, all at once, and restore it; returns when they have booted."""


class Cloud(Protocol):
    """The cloud that a run validates; implemented by `stackspec/openstack/`."""

    def check(self) -> None:
        """Check that the user can log in to the named cloud.

        :raises InputError: the login fails
        """

    def refusal(self) -> str:
        """Why the administrator cannot log in to the site's cloud, in one line; empty if the login works. Cached."""

    def types(self) -> set[str]:
        """The types of its services."""

    def leftovers(self, run_id: str, connection: Any | None = None) -> list[str]:
        """Remove the leftovers of a run; a line for each object, and for each that could not be removed.

        :param connection: the one used by its tests
        """
