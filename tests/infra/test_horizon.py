"""Horizon on its node: effective settings, and the web server."""

from __future__ import annotations

import json
import re

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site


def test_settings_in_force(horizon: object, site: Site, controller: NodeHost) -> None:
    """Django's effective settings: a package's own files are read after the guide's and would override them."""
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
    """Apache's configuration is valid, so it also starts after the next reboot."""
    assert controller.run("apache2ctl configtest").rc == 0
    holders = controller.check_output("ss -Htlnp 'sport = :80'")
    assert "apache2" in holders
    assert "nginx" not in holders


def test_key_of_sessions_is_the_dashboards_only(horizon: object, site: Site, controller: NodeHost) -> None:
    """Only the dashboard's user (from Apache's file) can read the secret key, which signs sessions."""
    apache = controller.file(site.release.path("/etc/apache2/conf-available/openstack-dashboard.conf")).content_string
    user = re.search(r"WSGIDaemonProcess\s+horizon\b.*\buser=(\S+)", apache)
    assert user, "WSGIDaemonProcess of horizon has no user: it runs as Apache's user"
    found = controller.check_output(
        "find /var/lib/openstack-dashboard -type f -name '*secret_key*' ! -name '*.lock' -printf '%m %u %p\\n'"
    ).splitlines()
    assert found
    for line in found:
        mode, owner, path = line.split(" ", 2)
        assert (mode, owner) == ("600", user[1]), f"{path} has mode {mode} and owner {owner}, wanted owner {user[1]}"
