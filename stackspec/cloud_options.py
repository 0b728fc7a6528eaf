"""Options that tell tests what a cloud has, where its own answers do not; `stackspec.fixtures` reads them.

Beside `stackspec.openstack`, whose client takes a second to import.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """An option of the command line.

    :param name: without the hyphens in front of it
    :param help: what --help says
    :param metavar: what its value is called there
    :param default: its value when it is not given
    """

    name: str
    help: str
    metavar: str = "NAME"
    default: str | None = None


OPTIONS = (
    Option("guest-image", "image of test servers (default: cirros)"),
    Option("guest-user", "user to log in to test servers", default="cirros"),
    Option("external-network", "network of floating addresses (default: provider, else the first)"),
    Option("volume-zone", "availability zone of servers with volumes (default: the site's, else any)"),
    Option("horizon-url", "address of Horizon (default: the site's)", "URL"),
    Option("skyline-url", "address of Skyline (default: the site's)", "URL"),
    Option("flavor", "flavor of test servers (default: the smallest that fits)"),
)
