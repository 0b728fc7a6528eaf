"""The kinds of objects that tests create: how each is created, listed and deleted, in order of deletion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from openstack import exceptions

from ..waiting import wait_for
from .block_storage import AT_WORK
from .kind import Connection, Kind, ListObjects
from .run_names import belongs


def _without(service: str, name: str, *gone: str) -> Callable[[Connection, str], bool]:
    """Whether an object no longer exists, or is in one of the states `gone`."""

    def is_gone(connection: Connection, key: str) -> bool:
        try:
            found = getattr(getattr(connection, service), f"get_{name}")(key)
        except exceptions.NotFoundException:
            return True
        return found.status in gone

    return is_gone


def _delete_router(connection: Connection, router: str) -> None:
    for port in connection.network.ports(device_id=router):
        # Also network:ha_router_replicated_interface and network:router_interface_distributed.
        if "router" in port.device_owner and "interface" in port.device_owner and "gateway" not in port.device_owner:
            connection.network.remove_interface_from_router(router, None, port.id)
    connection.network.delete_router(router)


def _delete_image(connection: Connection, image: str) -> None:
    found = connection.image.get_image(image)
    if found.is_protected:
        connection.image.update_image(found, is_protected=False)
    connection.image.delete_image(image)


def _delete_aggregate(connection: Connection, aggregate: str) -> None:
    found = connection.compute.get_aggregate(aggregate)
    for host in found.hosts or ():
        connection.compute.remove_host_from_aggregate(aggregate, host)
    connection.compute.delete_aggregate(aggregate)


def _delete_domain(connection: Connection, domain: str) -> None:
    connection.identity.update_domain(domain, is_enabled=False)
    connection.identity.delete_domain(domain)


def _keypairs(connection: Connection, everyone: bool) -> Iterator[Any]:
    yield from connection.compute.keypairs()
    if everyone:
        # Nova lists keypairs by user; a deleted user's keypairs become orphans, so delete them before their users.
        for user in connection.identity.users():
            if belongs(user.name):
                yield from connection.compute.keypairs(user_id=user.id)


def _delete_keypair(connection: Connection, key: str) -> None:
    name, _, user = key.partition("@")
    connection.compute.delete_keypair(name, **({"user_id": user} if user else {}))


def _ports(connection: Connection, everyone: bool) -> Iterator[Any]:
    # Ports of routers and of DHCP are deleted with their router and network.
    return (port for port in connection.network.ports() if not (port.device_owner or "").startswith("network:"))


def _named_networks(connection: Connection, everyone: bool) -> Iterator[Any]:
    return (network for network in connection.network.networks() if not network.is_router_external)


def _plain(service: str, plural: str, **query: Any) -> ListObjects:
    return lambda connection, everyone: getattr(getattr(connection, service), plural)(**query)


def _everyone(service: str, plural: str, **query: Any) -> ListObjects:
    def listed(connection: Connection, everyone: bool) -> Any:
        everywhere = {"all_projects": True} if everyone else {}
        return getattr(getattr(connection, service), plural)(**query, **everywhere)

    return listed


def _delete(service: str, name: str) -> Callable[[Connection, str], None]:
    return lambda connection, key: getattr(getattr(connection, service), f"delete_{name}")(key, ignore_missing=False)


def _kind(service: str, name: str, plural: str = "", **more: Any) -> Kind:
    settings = {"list": _plain(service, plural or f"{name}s"), "delete": _delete(service, name), **more}
    return Kind(name, service, **settings)


def _application_credentials(connection: Connection, everyone: bool) -> Any:
    return connection.identity.application_credentials(connection.current_user_id)


def _delete_application_credential(connection: Connection, key: str) -> None:
    user = connection.current_user_id
    connection.identity.delete_application_credential(user, key, ignore_missing=False)


def _listed(service: Any, plural: str) -> Any:
    response = service.get(f"/{plural}")
    exceptions.raise_from_response(response)
    return response.json()[plural]


def _disabled(connection: Connection, everyone: bool) -> Iterator[Any]:
    # Only an administrator can disable or list them.
    return (each for each in connection.compute.services() if each.status == "disabled")


def _enable(connection: Connection, key: str) -> None:
    for each in connection.compute.services():
        if str(each.id) == key and each.status == "disabled":
            connection.compute.enable_service(each, each.host, each.binary)


def _stacks(connection: Connection, everyone: bool) -> Iterator[Any]:
    # Heat shows administrators the stacks of all projects, and only to them each stack's project.
    for each in _listed(connection.orchestration, "stacks"):
        if each["stack_status"] != "DELETE_COMPLETE":
            yield SimpleNamespace(id=each["id"], name=each["stack_name"], project_id=each.get("project"))


def _delete_object_container(connection: Connection, container: str) -> None:
    store = connection.object_store
    for each in store.objects(container):
        store.delete_object(each, ignore_missing=True)
    store.delete_container(container, ignore_missing=False)


def _of_magnum(plural: str) -> ListObjects:
    def listed(connection: Connection, everyone: bool) -> Iterator[Any]:
        # As with stacks; an older magnum does not return the project, which is not needed.
        for each in _listed(connection.container_infrastructure_management, plural):
            yield SimpleNamespace(id=each["uuid"], name=each["name"], project_id=each.get("project_id"))

    return listed


SETTLED_WITHIN = 300
"""Timeout in seconds for a change of a volume, a snapshot, an attachment or a load balancer."""


def _delete_load_balancer(connection: Connection, key: str) -> None:
    service = connection.load_balancer

    def state() -> str:
        return str(service.get_load_balancer(key).provisioning_status)

    # Objects that are being created or changed cannot be deleted.
    wait_for(
        f"load balancer {key} is idle",
        lambda: state() in ("ACTIVE", "ERROR", "DELETED"),
        SETTLED_WITHIN,
        every=2,
        detail=lambda: f"it is {state()}; `stackspec cleanup --inventory SITE` frees it if its worker was killed",
    )
    if state() != "DELETED":
        service.delete_load_balancer(key, ignore_missing=False, cascade=True)


def _load_balancer_is_gone(connection: Connection, key: str) -> bool:
    try:
        found = connection.load_balancer.get_load_balancer(key)
    except exceptions.NotFoundException:
        return True
    if found.provisioning_status == "ERROR":
        raise exceptions.SDKException("its deletion ended in ERROR; octavia-worker's log has the reason")
    return bool(found.provisioning_status == "DELETED")


def _at_rest(connection: Connection, kind: str, key: str) -> Any:
    """The volume, snapshot or backup if it is idle or already being deleted."""
    get = getattr(connection.block_storage, f"get_{kind.removeprefix('volume_')}")
    busy = set(AT_WORK[kind]) - {"deleting"}
    return wait_for(
        f"{kind} {key} is idle",
        lambda: None if (found := get(key)).status in busy else found,
        SETTLED_WITHIN,
        detail=lambda: f"it is {get(key).status}; `stackspec cleanup --inventory SITE` frees it if it is stuck",
    )


def _delete_volume(connection: Connection, key: str) -> None:
    found = _at_rest(connection, "volume", key)
    for each in found.attachments or ():
        connection.compute.delete_volume_attachment(each["server_id"], key)
        found = _at_rest(connection, "volume", key)
    if found.status != "deleting":
        connection.block_storage.delete_volume(key, ignore_missing=False)


def _delete_snapshot(connection: Connection, key: str) -> None:
    if _at_rest(connection, "volume_snapshot", key).status != "deleting":
        connection.block_storage.delete_snapshot(key, ignore_missing=False)


def _delete_backup(connection: Connection, key: str) -> None:
    # The deletion of dependent backups was requested before.
    wait_for(
        f"no backup depends on backup {key}",
        lambda: not connection.block_storage.get_backup(key).has_dependent_backups,
        SETTLED_WITHIN,
        detail=lambda: "there are incremental backups of it, which must be deleted first",
    )
    if _at_rest(connection, "backup", key).status != "deleting":
        connection.block_storage.delete_backup(key, ignore_missing=False)


def _erased(name: str, service: str) -> Callable[[Connection, str], bool]:
    """Whether a volume, snapshot or backup no longer exists."""

    def is_gone(connection: Connection, key: str) -> bool:
        try:
            found = getattr(connection.block_storage, f"get_{name}")(key)
        except exceptions.NotFoundException:
            return True
        if found.status.startswith("error"):
            raise exceptions.SDKException(f"its deletion ended in {found.status}; {service}'s log has the reason")
        return False

    return is_gone


def _delete_qos_spec(connection: Connection, key: str) -> None:
    connection.block_storage.delete_qos_spec(key, ignore_missing=False, force=True)


KINDS: tuple[Kind, ...] = (
    # In order of deletion: each comes before the objects it uses. Services that a run disabled are enabled again
    # first.
    Kind("disabled_service", "compute", _disabled, _enable, label="disabled_reason"),
    _kind(
        "container_infrastructure_management",
        "cluster",
        list=_of_magnum("clusters"),
        is_gone=_without("container_infrastructure_management", "cluster"),
    ),
    _kind("container_infrastructure_management", "cluster_template", list=_of_magnum("clustertemplates")),
    _kind("orchestration", "stack", list=_stacks, is_gone=_without("orchestration", "stack", "DELETE_COMPLETE")),
    _kind("load_balancer", "load_balancer", delete=_delete_load_balancer, is_gone=_load_balancer_is_gone),
    Kind(
        "load_balancer_flavor",
        "load_balancer",
        _plain("load_balancer", "flavors"),
        _delete("load_balancer", "flavor"),
        create="create_flavor",
    ),
    _kind("load_balancer", "flavor_profile"),
    _kind(
        "compute",
        "server",
        list=_everyone("compute", "servers"),
        is_gone=_without("compute", "server", "DELETED", "SOFT_DELETED"),
    ),
    _kind("compute", "server_group", list=_everyone("compute", "server_groups")),
    _kind(
        "block_storage",
        "volume_transfer",
        list=_everyone("block_storage", "transfers"),
        create="create_transfer",
        delete=_delete("block_storage", "transfer"),
    ),
    _kind(
        "block_storage",
        "backup",
        # Oldest first; the last in a list is deleted first, and a backup after those that depend on it.
        list=_everyone("block_storage", "backups", sort="created_at:asc"),
        delete=_delete_backup,
        is_gone=_erased("backup", "cinder-backup"),
    ),
    _kind(
        "block_storage",
        "volume_snapshot",
        list=_everyone("block_storage", "snapshots"),
        delete=_delete_snapshot,
        create="create_snapshot",
        is_gone=_erased("snapshot", "cinder-volume"),
    ),
    _kind(
        "block_storage",
        "volume",
        list=_everyone("block_storage", "volumes"),
        delete=_delete_volume,
        is_gone=_erased("volume", "cinder-volume"),
    ),
    _kind(
        "block_storage",
        "volume_type",
        list=_plain("block_storage", "types", is_public=None),
        delete=_delete("block_storage", "type"),
        create="create_type",
    ),
    _kind("block_storage", "qos_spec", delete=_delete_qos_spec),
    _kind("network", "floating_ip", "ips", delete=_delete("network", "ip"), label="description", create="create_ip"),
    _kind("network", "router", delete=_delete_router),
    _kind("network", "port", list=_ports),
    _kind("network", "subnet"),
    _kind("network", "network", list=_named_networks),
    _kind("network", "security_group"),
    _kind("key_manager", "order", key="order_id", inside=True),
    _kind("key_manager", "container", key="container_id", inside=True),
    _kind("key_manager", "secret", key="secret_id", inside=True),
    Kind(
        "object_container",
        "object_store",
        _plain("object_store", "containers"),
        _delete_object_container,
        key="name",
        create="create_container",
        inside=True,
    ),
    Kind("keypair", "compute", _keypairs, _delete_keypair, key="name"),
    _kind("image", "image", delete=_delete_image),
    _kind("compute", "flavor", list=_plain("compute", "flavors", is_public=None)),
    _kind("compute", "aggregate", delete=_delete_aggregate),
    _kind("placement", "resource_provider"),
    _kind("placement", "resource_class", "resource_classes", key="name"),
    _kind("placement", "trait", key="name"),
    _kind("identity", "limit", label="description"),
    Kind("application_credential", "identity", _application_credentials, _delete_application_credential),
    _kind("identity", "group"),
    _kind("identity", "user"),
    _kind("identity", "project"),
    _kind("identity", "role"),
    _kind("identity", "service"),
    _kind("identity", "region", label="id"),
    _kind("identity", "domain", delete=_delete_domain),
)
BY_NAME = {kind.name: kind for kind in KINDS}
RANK = {kind.name: rank for rank, kind in enumerate(KINDS)}
