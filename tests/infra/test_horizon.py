"""Horizon on its node: the settings in force, and the web server around it."""

from __future__ import annotations

import json
import re

from stackspec.fixtures import programs
from stackspec.site import Site
from stackspec.testinfra_backend import NodeHost


def test_settings_in_force(horizon: object, site: Site, controller: NodeHost) -> None:
    """What Django has read in the end: a package's own files are read after the guide's and would win."""
    shell = "python3 /usr/share/openstack-dashboard/manage.py shell -c %s 2>/dev/null"
    out = controller.check_output(shell, programs.text("horizon_settings"))
    found = json.loads(out.split("found:")[1].splitlines()[0])
    cache = found.pop("CACHES")["default"]
    assert cache["BACKEND"].endswith("PyMemcacheCache"), cache
    assert cache["LOCATION"] == f"{site.controller.name}:11211"
    assert "*" not in found.pop("ALLOWED_HOSTS")
    assert found == {
        "DEBUG": False,
        "WEBROOT": "/horizon/",
        "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
        "OPENSTACK_KEYSTONE_URL": f"http://{site.controller.name}:5000/v3",
        "TIME_ZONE": "Asia/Shanghai",
    }


def test_web_server_is_sound_and_holds_port_80(horizon: object, controller: NodeHost) -> None:
    """Apache accepts its own configuration, and starts with it after the next reboot, too."""
    assert controller.run("apache2ctl configtest").rc == 0
    holders = controller.check_output("ss -Htlnp 'sport = :80'")
    assert "apache2" in holders
    assert "nginx" not in holders


def test_key_of_sessions_is_the_dashboards_only(horizon: object, site: Site, controller: NodeHost) -> None:
    """Who can read it can forge sessions. The dashboard's user is the one that Apache's file names."""
    apache = controller.file(site.release.path("/etc/apache2/conf-available/openstack-dashboard.conf")).content_string
    user = re.search(r"WSGIDaemonProcess\s+horizon\b.*\buser=(\S+)", apache)
    assert user, "WSGIDaemonProcess of horizon has no user: its processes are Apache's"
    found = controller.check_output(
        "find /var/lib/openstack-dashboard -type f -name '*secret_key*' ! -name '*.lock' -printf '%m %u %p\\n'"
    ).splitlines()
    assert found
    for line in found:
        mode, owner, path = line.split(" ", 2)
        assert (mode, owner) == ("600", user[1]), f"{path} has mode {mode} and is {owner}'s, not {user[1]}'s"
