"""The test guest: a small image that behaves like cirros, built from Debian packages only.

It replaces cirros where only Debian packages can be downloaded: user ``cirros`` (password ``gocubsgo`` on
the console, keys only by ssh), config drive or metadata service, ``#!`` user data once per instance, DHCP with
classless routes and MTU, ACPI power button, hot-plugged disks, busybox tools.
"""

from pathlib import Path

from ..image import Recipe

__all__ = ["TEST_GUEST"]

TEST_GUEST = Recipe("test-guest", Path(__file__).parent)
