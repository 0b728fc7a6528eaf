"""Cache of tokens. Guide: 安装Memcached."""

from __future__ import annotations

from stackspec.resources import Lines, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step


@step(role="controller")
def memcached(site: Site, base: Step) -> Resources:
    """Memcached on the management address."""
    yield Packages("memcached", "python3-memcache")
    yield Lines("/etc/memcached.conf", (f"-l {site.controller.address}",), replaces=r"^-l\s")
    yield Service("memcached")
