"""Services can write to their folders."""

from __future__ import annotations

import pytest

from stackspec.plugin.testinfra_backend import HostOf
from stackspec.site import Site

FOLDERS = {
    "/var/lib/glance/images": ("glance", "glance"),
    "/var/lib/nova/instances": ("nova", "nova_compute"),
    "/var/lib/nova/tmp": ("nova", "nova_compute"),
    "/var/lib/neutron/tmp": ("neutron", "neutron_compute"),
    "/var/lib/cinder/tmp": ("cinder", "cinder_volume"),
}
"""Folder -> user that must be able to write there, and the step that needs it."""


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=pytest.mark.steps(step)) for path, (_, step) in FOLDERS.items()]
)
def test_folders_can_be_written_to(path: str, site: Site, node_host: HostOf) -> None:
    """The service's user can write to its folders of images, server disks and locks."""
    user, here = FOLDERS[path][0], []
    for name in site.nodes:
        host = node_host(name)
        if host.run("test -d %s && getent passwd %s", path, user).rc == 0:
            here.append(name)
            can = host.run("setpriv --reuid %s --regid %s --init-groups test -w %s -a -x %s", user, user, path, path)
            assert can.rc == 0, f"{name}: {user} cannot write to {path}: {host.run('ls -ld %s', path).stdout.strip()}"
    assert here, f"{path} is on no node"
