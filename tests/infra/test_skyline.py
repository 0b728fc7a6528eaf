"""Skyline on the node: listeners, users, files."""

from __future__ import annotations

import errno
import socket

import pytest
import requests
from openstack.connection import Connection

from stackspec.fixtures.connections import service_types
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site
from stackspec.waiting import wait_for

pytestmark = pytest.mark.disturbs("skyline_apiserver")

PORT, BEHIND = 9999, 28000
NAMES = {
    "compute": "nova",
    "container-infra": "magnum",
    "identity": "keystone",
    "image": "glance",
    "key-manager": "barbican",
    "load-balancer": "octavia",
    "network": "neutron",
    "object-store": "swift",
    "orchestration": "heat",
    "placement": "placement",
    "volumev3": "cinder",
}
"""Type in the catalog -> the dashboard's name for it (errata E100, E105)."""


def test_every_service_has_its_place_behind_nginx(skyline_url: str, site: Site, user_cloud: Connection) -> None:
    """nginx forwards each API of the catalog, so that the API responds instead of the dashboard's own page."""
    services = service_types(user_cloud) & NAMES.keys()
    assert {"compute", "identity", "image", "network"} <= services
    for kind in sorted(services):
        url = f"{skyline_url}/api/openstack/{site.region.lower()}/{NAMES[kind]}/"
        answer = requests.get(url, timeout=30, allow_redirects=False)
        own = "text/html" in answer.headers.get("Content-Type", "") and "<title>Cloud</title>" in answer.text
        assert not own, f"{kind}: nginx has no location for {url}"
        assert answer.status_code < 500, f"{kind}: {url}: HTTP {answer.status_code}: {answer.text[:100]}"


def test_api_server_is_behind_nginx_only(skyline: object, site: Site, controller: NodeHost) -> None:
    """The API server is not reachable directly from other hosts (erratum E94)."""
    for address in (site.controller.address, str(site.controller.provider.address)):
        with socket.socket() as client:
            client.settimeout(5)
            refused = client.connect_ex((address, BEHIND))
        assert refused == errno.ECONNREFUSED, f"the API server is reachable without nginx: {address}, port {BEHIND}"
    assert controller.socket(f"tcp://127.0.0.1:{BEHIND}").is_listening, f"nothing listens on 127.0.0.1:{BEHIND}"
    assert controller.socket(f"tcp://0.0.0.0:{PORT}").is_listening


def test_default_site_of_nginx_is_gone(skyline: object, controller: NodeHost) -> None:
    """Port 80 belongs to horizon, even after a reboot, whichever dashboard starts first."""
    assert controller.file("/etc/nginx/sites-enabled").listdir() == []
    holders = controller.check_output("ss -Htlnp 'sport = :80'")
    assert "nginx" not in holders
    loaded = controller.check_output("nginx -T 2>/dev/null")
    listens = [line.strip() for line in loaded.splitlines() if line.strip().startswith("listen ")]
    assert listens == [f"listen 0.0.0.0:{PORT} default_server;"]


def test_api_server_is_not_root(skyline: object, controller: NodeHost) -> None:
    """The API server runs as its own user, which cannot change the program (erratum E102)."""
    pid = controller.check_output("systemctl show -p MainPID --value skyline-apiserver")
    assert controller.check_output("stat -c %%U /proc/%s", pid) == "skyline"
    written = controller.check_output("find /opt/skyline ! -user root -o -perm /022 ! -type l | head -3")
    assert not written, f"writable for others than root: {written}"


def test_settings_are_not_for_everybody(skyline: object, controller: NodeHost) -> None:
    """skyline.yaml, which contains passwords and the session key, is protected."""
    file = controller.file("/etc/skyline/skyline.yaml")
    assert (file.user, file.group, file.mode) == ("root", "skyline", 0o640)


def test_system_python_is_left_alone(skyline: object, controller: NodeHost) -> None:
    """Other services do not see the dashboard's libraries (errata E92, E93), and no wheel is left over."""
    found = controller.run("python3 -c 'import skyline_apiserver'")
    assert found.rc != 0, "skyline_apiserver is among the libraries of the system's Python"
    # If the other services have their own environments, the system's Python does not have it at all.
    place = controller.run("python3 -c 'import sqlalchemy; print(sqlalchemy.__file__)'")
    assert place.rc != 0 or place.stdout.startswith("/usr/lib/python3/"), f"nova and the others use {place.stdout}"
    for path in ("/opt/skyline.tar", "/opt/skyline.wheels"):
        assert not controller.file(path).exists, f"{path} was left over"


def test_comes_back_after_a_crash(skyline: object, skyline_url: str, controller: NodeHost) -> None:
    """systemd restarts the unit (erratum E102)."""
    before = controller.check_output("systemctl show -p MainPID --value skyline-apiserver")
    controller.check_output("systemctl kill --kill-whom=all --signal=KILL skyline-apiserver")

    def back() -> bool:
        pid = controller.check_output("systemctl show -p MainPID --value skyline-apiserver")
        answer = requests.get(f"{skyline_url}/api/openstack/skyline/api/v1/contrib/regions", timeout=30)
        return pid not in ("0", before) and answer.status_code == 200

    wait_for("skyline-apiserver responds again", back, 60)
