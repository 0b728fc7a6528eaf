"""Dashboard. Guide: 安装openstack服务 / Dashboard."""

from __future__ import annotations

from stackspec.cloud_inventory import inventory_of
from stackspec.resources import Answers, Command, Lines, Packages, PythonSettings, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step

__all__ = ["horizon"]

SETTINGS = "/etc/openstack-dashboard/local_settings.py"
APACHE = "/etc/apache2/conf-available/openstack-dashboard.conf"
BUILT = "/var/lib/openstack-dashboard/static/dashboard/manifest.json"
"""Written last when static files are built, by us or by a package with a panel."""


@step(role="controller")
def horizon(site: Site, keystone: Step, memcached: Step, glance: Step, nova: Step, neutron: Step) -> Resources:
    """Horizon below /horizon of the controller's Apache."""
    controller = site.controller
    # The guide lacks the distribution's pymemcache, not newer libraries from pip (erratum E52).
    yield Packages("openstack-dashboard", "python3-pymemcache")
    yield PythonSettings(
        SETTINGS,
        {
            "DEBUG": False,  # erratum E55
            "WEBROOT": "/horizon/",
            "OPENSTACK_HOST": controller.name,
            # No wildcard: a forged Host header would appear in links (erratum E51).
            "ALLOWED_HOSTS": [
                controller.name,
                controller.address,
                str(controller.provider.address),
                *inventory_of(site).dashboard_names,
            ],
            "SESSION_ENGINE": "django.contrib.sessions.backends.cache",
            "CACHES": {
                "default": {
                    "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
                    "LOCATION": f"{controller.name}:11211",
                }
            },
            "OPENSTACK_KEYSTONE_URL": f"http://{controller.name}:5000/v3",  # erratum E53
            "OPENSTACK_KEYSTONE_MULTIDOMAIN_SUPPORT": True,
            "OPENSTACK_API_VERSIONS": {"identity": 3, "image": 2, "volume": 3},
            "OPENSTACK_KEYSTONE_DEFAULT_DOMAIN": "Default",
            "OPENSTACK_KEYSTONE_DEFAULT_ROLE": "member",  # erratum E54
            "TIME_ZONE": "Asia/Shanghai",
            # Not in the package's own settings.py, which the next upgrade overwrites (erratum E56).
            "COMPRESS_ENABLED": True,
            "COMPRESS_OFFLINE": True,
        },
    )
    # Without the application group C extensions fail in Apache's sub-interpreters; without the process group the
    # declared daemon is unused, and each of Apache's own processes loads the dashboard.
    yield Lines(APACHE, ("WSGIApplicationGroup %{GLOBAL}", "WSGIProcessGroup horizon"))
    # The package may enable Apache's TLS example site without its module; Apache then fails to start.
    tls = "/etc/apache2/sites-enabled/default-ssl.conf"
    plain = Command(("a2dissite", "--quiet", "default-ssl"), unless=("test", "!", "-L", tls), restarts=True)
    yield plain
    compress = Command(
        ("python3", "/usr/share/openstack-dashboard/manage.py", "compress"), creates=BUILT, restarts=True
    )
    yield compress
    # A running process uses the list of static files from its start.
    reads = (site.release.path(SETTINGS), site.release.path(APACHE), BUILT, compress.title, plain.title)
    yield Service("apache2", reads=reads)
    yield Answers(f"http://{controller.name}/horizon/auth/login/", service="apache2")
