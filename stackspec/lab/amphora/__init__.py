"""The lab's amphora: the system in which Octavia's load balancers run, built from Debian packages only.

It has no cloud-init: a shell script copies the agent's files from the config drive while the agent imports its modules.
On an emulated processor that halves the time to the first response. There is no login and no ssh server. Its
management network must have DHCP.
"""

from pathlib import Path

from ..image import Recipe

__all__ = ["TEST_AMPHORA"]

TEST_AMPHORA = Recipe(
    "test-amphora",
    Path(__file__).parent,
    system=(
        *("systemd-sysv", "udev", "dbus", "iproute2", "kmod", "busybox-static"),
        *("octavia-agent", "haproxy", "keepalived"),
    ),
)
