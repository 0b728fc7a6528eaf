"""How this process reaches a site: the names of its nodes, and the network of a lab."""

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
"""Brings a platform up, and returns builders of the images that it makes itself."""


def reach(site: Site, up: Up | None = None) -> tuple[Site, Platform | None]:
    """Let this process reach the site: learn its names and, if it is a lab's, enter the lab's network.

    :param up: brings the lab up; without it a lab that is down is an error
    :returns: the site as it is reached from here, and its lab, if it is one
    :raises InputError: the lab is down or cannot be made
    """
    learn_names(site)
    if site.inventory.lab is None:
        return site, None
    # Imported here: the lab and what makes its images are nothing to other sites.
    from .lab import Lab, LabError, load

    builders: dict[str, ImageBuilder] = {}
    try:
        lab: Platform = Lab(load(site.file))
        if up is not None:
            builders = up(lab)
        elif not lab.is_up():
            raise InputError(
                f"the lab {site.inventory.lab.name} is not up; bring it up and install with: {suite.command()} --deploy"
                " (or name your own site with --inventory)"
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
    """Bring a platform up and, beside it, build the images that it makes itself.

    A step that needs an image which is still being built waits for it.

    :param steps: those that are to be done there
    :param say: called with a line of progress now and then
    :returns: builders of the images
    """
    # A section's image is for the steps of that section only.
    sections = {"images", *(section for name in closure(steps) for section in STEPS[name].sections)}
    images = site.inventory.all_images()
    sources = {image.source for (section, *_), image in images.items() if section in sections}
    builders = platform.images(sources, say, begin=site.store.fetches)
    platform.up(say)
    return builders


def _outside() -> Callable[[Callable[[], Any]], Any]:
    """Calls functions in a thread that stays where this one is now: in the machine's own network."""
    executor = ThreadPoolExecutor(1, "outside")
    # Its thread begins with the first call, and where the caller is.
    executor.submit(int).result()
    return lambda call: executor.submit(call).result()
