"""Distributed key-value store. Guide: 安装Etcd."""

from __future__ import annotations

from stackspec.resources import Answers, Lines, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step


@step(role="controller")
def etcd(site: Site, base: Step) -> Resources:
    """etcd on the management address only, including its peer port (erratum E21)."""
    address = site.controller.address
    settings = {
        "NAME": site.controller.name,
        "DATA_DIR": "/var/lib/etcd",
        "INITIAL_CLUSTER_STATE": "new",
        "INITIAL_CLUSTER_TOKEN": "etcd-cluster-01",
        "INITIAL_CLUSTER": f"{site.controller.name}=http://{address}:2380",
        "INITIAL_ADVERTISE_PEER_URLS": f"http://{address}:2380",
        "ADVERTISE_CLIENT_URLS": f"http://{address}:2379",
        "LISTEN_PEER_URLS": f"http://{address}:2380",
        "LISTEN_CLIENT_URLS": f"http://{address}:2379",
    }
    yield Packages("etcd-server")
    yield Lines(
        "/etc/default/etcd",
        tuple(f'ETCD_{name}="{value}"' for name, value in settings.items()),
        replaces=rf"^ETCD_({'|'.join(settings)})=",
    )
    yield Service("etcd")
    yield Answers(f"http://{address}:2379/health", service="etcd")
