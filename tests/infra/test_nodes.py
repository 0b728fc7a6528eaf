"""General state of nodes: free disk space, intact packages, valid certificates."""

from __future__ import annotations

import re

import pytest

from stackspec.plugin.testinfra_backend import HostOf
from stackspec.site import Site

# Not run while another test cuts the power of a node: that test disturbs nova_compute.
pytestmark = pytest.mark.steps("nova_compute")

FULL = 95
"""Per cent of used space or inodes above which services that write there fail."""
MONTH = 30 * 24 * 3600
NOT_DISKS = ("tmpfs", "devtmpfs", "squashfs", "iso9660", "efivarfs", "fuse.snapfuse")


def test_disks_have_room(base: object, site: Site, node_host: HostOf) -> None:
    """No file system is full, out of inodes, or read-only, which would stop databases, queues and images."""
    problems = []
    for name in site.nodes:
        for what, option in (("room", ""), ("inodes", "-i")):
            options = " ".join(f"-x {kind}" for kind in NOT_DISKS)
            rows = node_host(name).check_output(f"df -lP {option} {options}").splitlines()[1:]
            for *_, used, mount in (row.split(maxsplit=5) for row in rows):
                if used != "-" and int(used.rstrip("%")) >= FULL:
                    problems.append(f"{name}: {mount} has no {what}: {used} used")
        for folder in ("/etc", "/var/lib", "/var/log", "/tmp"):
            if node_host(name).run("test -w %s", folder).rc != 0:
                problems.append(f"{name}: {folder} is read-only")
    assert not problems, "\n".join(problems)


def test_packages_are_whole(deployed: None, base: object, site: Site, node_host: HostOf) -> None:
    """dpkg has no unfinished packages, and apt's dependencies are consistent."""
    problems = []
    for name in site.nodes:
        host = node_host(name)
        listed = host.check_output("dpkg-query -W -f '${Status} ${Package}\\n'").splitlines()
        states = {line.split()[3]: line.split()[2] for line in listed}
        half = [each for each, state in states.items() if state not in ("installed", "config-files", "not-installed")]
        if half:
            problems.append(f"{name}: dpkg has not configured {', '.join(half)}; run: dpkg --configure -a")
        check = host.run("apt-get check -qq")
        problems += [f"{name}: apt-get check: {line}" for line in check.stderr.splitlines() if check.rc != 0]
        if re.search(r"^\s*exit 101", host.run("cat /usr/sbin/policy-rc.d").stdout, re.MULTILINE):
            problems.append(f"{name}: /usr/sbin/policy-rc.d blocks service starts; remove it")
    assert not problems, "\n".join(problems)


def test_no_certificate_expires_soon(deployed: None, base: object, site: Site, node_host: HostOf) -> None:
    """No service certificate in /etc expires within a month, except those of the distribution."""
    find = (
        "grep -rlsI -e '-----BEGIN CERTIFICATE' --include='*.pem' --include='*.crt' --include='*.cert'"
        " --exclude-dir=ssl --exclude-dir=ca-certificates /etc"
    )
    problems = []
    for name in site.nodes:
        host = node_host(name)
        for path in host.run(find).stdout.splitlines():
            date = host.check_output("openssl x509 -noout -enddate -in %s", path).partition("=")[2]
            if host.run("openssl x509 -noout -checkend %s -in %s", str(MONTH), path).rc != 0:
                problems.append(f"{name}: the certificate in {path} expires on {date}")
    assert not problems, "\n".join(problems)
