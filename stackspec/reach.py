"""Makes a site reachable for this process: node names, and the network of a lab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from . import suite
from .errors import InputError
from .names import learn_names
from .ports import Platform
from .site import ImageBuilder, Site
from .step import STEPS, closure

Up = Callable[[Platform], dict[str, ImageBuilder]]
"""Starts a platform, and returns builders of the images that it builds itself."""


def reach(site: Site, up: Up | None = None) -> tuple[Site, Platform | None]:
    """Make the site reachable for this process: resolve its names and, for a lab, enter the lab's network.

    :param up: starts the lab; without it a lab that is down is an error
    :returns: the reachable site, and its lab, if it is one
    :raises InputError: the lab is down or cannot be created
    """
    learn_names(site)
    if site.inventory.lab is None:
        return site, None
    # Imported here: only labs need it.
    from .lab import Lab, LabError, load

    builders: dict[str, ImageBuilder] = {}
    try:
        lab: Platform = Lab(load(site.file))
        if up is not None:
            builders = up(lab)
        elif not lab.is_up():
            raise InputError(
                f"the lab {site.inventory.lab.name} is not running; start it with: {suite.command()} --deploy"
                " (or select your own site with --inventory, or an existing cloud with --os-cloud NAME, OS_CLOUD"
                " or an openrc file)"
            )
        outside = _outside()
        lab.enter()
    except LabError as error:
        raise InputError(str(error)) from None
    ssh = site.inventory.ssh.model_copy(update={"config": lab.ssh_config})
    inventory = site.inventory.model_copy(update={"ssh": ssh})
    return replace(site, inventory=inventory, image_builders=builders, outside=outside), lab


def bring_up(
    platform: Platform, site: Site, steps: Sequence[str], say: Callable[[str], None]
) -> dict[str, ImageBuilder]:
    """Start a platform and, in parallel, build the images that it builds itself.

    A step that needs an unfinished image waits for it.

    :param steps: the steps to be deployed
    :param say: called with progress lines
    :returns: builders of the images
    """
    # The image of a section is needed only by the steps of that section.
    sections = {"images", *(section for name in closure(steps) for section in STEPS[name].sections)}
    images = site.inventory.all_images()
    sources = {image.source for (section, *_), image in images.items() if section in sections}
    builders = platform.images(sources, say, begin=site.store.fetches)
    platform.up(say)
    return builders


def _outside() -> Callable[[Callable[[], Any]], Any]:
    """Calls functions in a thread that stays in this thread's current network namespace: the host's."""
    executor = ThreadPoolExecutor(1, "outside")
    # The thread starts with the first call, in the namespace of the caller.
    executor.submit(int).result()
    return lambda call: executor.submit(call).result()
