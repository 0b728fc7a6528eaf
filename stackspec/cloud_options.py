"""Options that describe a cloud to the tests where its APIs do not; `stackspec.fixtures` reads them.

Not part of `stackspec.openstack`, whose client takes a second to import.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """An option of the command line.

    :param name: without leading hyphens
    :param help: text for --help
    :param metavar: name of the value in --help
    :param default: default value
    """

    name: str
    help: str
    metavar: str = "NAME"
    default: str | None = None


OPTIONS = (
    Option("guest-image", "image of test servers (default: cirros)"),
    Option("guest-user", "user to log in to test servers", default="cirros"),
    Option("external-network", "network of floating addresses (default: provider, otherwise the first)"),
    Option("volume-zone", "availability zone of servers with volumes (default: the site's, otherwise any)"),
    Option("horizon-url", "address of Horizon (default: the site's)", "URL"),
    Option("skyline-url", "address of Skyline (default: the site's)", "URL"),
    Option("flavor", "flavor of test servers (default: the smallest that fits)"),
)
