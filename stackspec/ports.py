"""What a run asks of the machines under a site and of the cloud on it, whatever these are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

from .site import ImageBuilder


class Platform(Protocol):
    """Machines that this one makes for a site, on a network of their own; `stackspec/lab/` has them."""

    @property
    def ssh_config(self) -> Path:
        """The OpenSSH client configuration that knows the nodes."""

    def is_up(self) -> bool:
        """Whether every node runs."""

    def images(
        self, wanted: Collection[str], say: Callable[[str], None], begin: bool = True
    ) -> dict[str, ImageBuilder]:
        """Begin to build those of the `wanted` images that the platform makes itself; a builder waits for its image.

        :param say: called with a line of progress now and then
        :param begin: False: an image is built when its builder is called, if ever
        """

    def up(self, say: Callable[[str], None]) -> None:
        """Bring up what is missing.

        :param say: called with a line of progress now and then
        """

    def enter(self) -> None:
        """Move the calling thread, and what it starts from then on, to where the nodes can be reached."""

    def power_cycle(self, *nodes: str) -> None:
        """Take nodes' power away, all at once, and give it back; returns when they have booted."""


class Cloud(Protocol):
    """The cloud that a run validates; `stackspec/openstack/` has it."""

    def check(self) -> None:
        """See that the cloud that is named admits its user.

        :raises InputError: it does not
        """

    def refusal(self) -> str:
        """Why the site's cloud does not let the administrator in, in one line; empty when it does. Asked once."""

    def types(self) -> set[str]:
        """The types of its services."""

    def leftovers(self, run_id: str, connection: Any | None = None) -> list[str]:
        """Remove what a run has left; a line for each object, and for each that could not be removed.

        :param connection: the one that its tests had
        """
