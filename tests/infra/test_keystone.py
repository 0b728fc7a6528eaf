"""Keystone on the node: its keys, and the login files of the administrator and the demo user."""

from __future__ import annotations

import json

import pytest

from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site


def test_credentials_are_the_owners_only(keystone: object, site: Site, controller: NodeHost) -> None:
    """openrc and clouds.yaml, which contain the administrator's password, are root's alone (erratum E13)."""
    controller_name = site.controller.name
    for path in ("/etc/keystone/admin-openrc.sh", "/etc/openstack/clouds.yaml"):
        file = controller.file(path)
        assert file.exists, f"{controller_name}: {path} does not exist"
        found = f"{file.user}, {file.mode:04o}"
        assert found == "root, 0600", f"{controller_name}: {path} has {found}, wanted root, 0600"


def test_openrc_works(keystone: object, controller: NodeHost) -> None:
    """The guide's verification of keystone: source the file, issue a token."""
    done = controller.run(". /etc/keystone/admin-openrc.sh && openstack token issue -f json -c project_id -c expires")
    assert done.rc == 0, done.stderr
    assert json.loads(done.stdout)["project_id"]


def test_clouds_yaml_works_for_the_member(keystone: object, site: Site, controller: NodeHost) -> None:
    """The cloud `<site>-demo` of clouds.yaml can log in as an ordinary user."""
    done = controller.run("openstack --os-cloud %s token issue -f value -c project_id", f"{site.name}-demo")
    assert done.rc == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("folder", ["/etc/keystone/fernet-keys", "/etc/keystone/credential-keys"])
def test_keys_are_keystones_only(folder: str, keystone: object, controller: NodeHost) -> None:
    """Only keystone can read the keys, with which tokens could be forged."""
    keys = controller.file(folder).listdir()
    assert {"0", "1"} <= set(keys), f"{folder} has no keys 0 and 1: {', '.join(sorted(keys)) or 'none'}"
    for path in (folder, *(f"{folder}/{key}" for key in keys)):
        file = controller.file(path)
        found = f"{file.user}, {file.mode & 0o077:03o}"
        assert found == "keystone, 000", f"{path} has owner and mode for others {found}, wanted keystone, 000"
