"""What a run made in a cloud: how it is named, found again and removed, also by another process after a kill.

Every object carries the run id in its name, or in its description where it has no name. A run id has a shape of its
own, so that a sweep never takes what somebody else called `ss-something`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import tenacity
from keystoneauth1.exceptions import ConnectFailure
from openstack import exceptions

from .waiting import NotInTime, wait_for

Cloud: TypeAlias = Any
"""An openstacksdk connection; its proxies are unions over API versions, which a type checker cannot tell apart."""

RUN_ID = re.compile(r"^(ss-\d{8}-\d{6}-[0-9a-f]{4})(?:-.*)?$")
EVERY_RUN = "ss-"


def run_of(label: str | None) -> str | None:
    """The id of the run that `label` (a name or a description) belongs to; None when it belongs to none.

    Placement takes only upper case, digits and `_`, after `CUSTOM_`: such names are read, too.
    """
    if not label:
        return None
    if label.startswith("CUSTOM_"):
        label = label.removeprefix("CUSTOM_").lower().replace("_", "-")
    found = RUN_ID.match(label)
    return found.group(1) if found else None


def belongs(label: str | None, run_id: str = EVERY_RUN) -> bool:
    """Whether `label` is of the run `run_id`, or of a run whose id begins so."""
    run = run_of(label)
    return run is not None and run.startswith(run_id)


def custom_name(name: str) -> str:
    """`name` as a resource class or trait can be called."""
    return "CUSTOM_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


Listing: TypeAlias = Callable[[Cloud, bool], Any]


@dataclass(frozen=True)
class Kind:
    """A kind of object that tests make.

    :param name: as in messages, and in openstacksdk's `create_<name>`
    :param service: attribute of a connection
    :param list: lists what this user sees; with True what all projects have
    :param delete: deletes one object by what `key` says
    :param label: attribute that carries the run id
    :param key: attribute by which it is deleted
    """

    name: str
    service: str
    list: Listing
    delete: Callable[[Cloud, str], None]
    label: str = "name"
    key: str = "id"
    create: str = ""

    def make(self, connection: Cloud, label: str, **attributes: Any) -> Any:
        """Create one, marked with `label`."""
        proxy = getattr(connection, self.service)
        return getattr(proxy, self.create or f"create_{self.name}")(**{self.label: label}, **attributes)


@dataclass(frozen=True)
class Found:
    """An object of a run that is in the cloud."""

    connection: Cloud
    kind: Kind
    key: str
    label: str
    project: str | None = None

    def __str__(self) -> str:
        where = f" of project {self.project}" if self.project else ""
        return f"{self.kind.name} {self.label} ({self.key}){where}"


def _delete_router(connection: Cloud, router: str) -> None:
    for port in connection.network.ports(device_id=router):
        # Also network:ha_router_replicated_interface and network:router_interface_distributed.
        if "router" in port.device_owner and "interface" in port.device_owner and "gateway" not in port.device_owner:
            connection.network.remove_interface_from_router(router, None, port.id)
    connection.network.delete_router(router)


def _delete_image(connection: Cloud, image: str) -> None:
    found = connection.image.get_image(image)
    if found.is_protected:
        connection.image.update_image(found, is_protected=False)
    connection.image.delete_image(image)


def _delete_aggregate(connection: Cloud, aggregate: str) -> None:
    found = connection.compute.get_aggregate(aggregate)
    for host in found.hosts or ():
        connection.compute.remove_host_from_aggregate(aggregate, host)
    connection.compute.delete_aggregate(aggregate)


def _delete_domain(connection: Cloud, domain: str) -> None:
    connection.identity.update_domain(domain, is_enabled=False)
    connection.identity.delete_domain(domain)


def _keypairs(connection: Cloud, everyone: bool) -> Iterator[Any]:
    yield from connection.compute.keypairs()
    if everyone:
        # Nova lists keypairs by user; a deleted user's stay behind unseen, so they go while their users are there.
        for user in connection.identity.users():
            if belongs(user.name):
                yield from connection.compute.keypairs(user_id=user.id)


def _delete_keypair(connection: Cloud, key: str) -> None:
    name, _, user = key.partition("@")
    connection.compute.delete_keypair(name, **({"user_id": user} if user else {}))


def _ports(connection: Cloud, everyone: bool) -> Iterator[Any]:
    # Ports of routers and of DHCP go with their router and network.
    return (port for port in connection.network.ports() if not (port.device_owner or "").startswith("network:"))


def _named_networks(connection: Cloud, everyone: bool) -> Iterator[Any]:
    return (network for network in connection.network.networks() if not network.is_router_external)


def _plain(service: str, plural: str, **query: Any) -> Listing:
    return lambda connection, everyone: getattr(getattr(connection, service), plural)(**query)


def _everyone(service: str, plural: str, **query: Any) -> Listing:
    def listed(connection: Cloud, everyone: bool) -> Any:
        everywhere = {"all_projects": True} if everyone else {}
        return getattr(getattr(connection, service), plural)(**query, **everywhere)

    return listed


def _delete(service: str, name: str) -> Callable[[Cloud, str], None]:
    return lambda connection, key: getattr(getattr(connection, service), f"delete_{name}")(key, ignore_missing=False)


def _kind(service: str, name: str, plural: str = "", **more: Any) -> Kind:
    settings = {"list": _plain(service, plural or f"{name}s"), "delete": _delete(service, name), **more}
    return Kind(name, service, **settings)


def _application_credentials(connection: Cloud, everyone: bool) -> Any:
    return connection.identity.application_credentials(connection.current_user_id)


def _delete_application_credential(connection: Cloud, key: str) -> None:
    user = connection.current_user_id
    connection.identity.delete_application_credential(user, key, ignore_missing=False)


KINDS: tuple[Kind, ...] = (
    # In the order in which they can be deleted: each stands before what it uses.
    _kind("compute", "server", list=_everyone("compute", "servers")),
    _kind("compute", "server_group", list=_everyone("compute", "server_groups")),
    _kind("network", "floating_ip", "ips", delete=_delete("network", "ip"), label="description", create="create_ip"),
    _kind("network", "router", delete=_delete_router),
    _kind("network", "port", list=_ports),
    _kind("network", "subnet"),
    _kind("network", "network", list=_named_networks),
    _kind("network", "security_group"),
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
_TYPES = {"network": "network", "compute": "compute", "image": "image", "placement": "placement"}

RELEASED_WITHIN = 30
"""Seconds for which a conflict is taken for a port that nova is about to give back."""
GONE = (exceptions.NotFoundException,)
DENIED = (exceptions.ForbiddenException,)


def is_admin(connection: Cloud) -> bool:
    """Whether this user may do what only an administrator may; asked of the cloud, since role names are its own."""
    response = connection.identity.get("/projects", params={"limit": 1})
    return bool(response.status_code == 200)


def leftovers(connection: Cloud, run_id: str = EVERY_RUN, *, projects: Collection[str] | None = None) -> list[Found]:
    """Objects in the cloud that carry `run_id` or belong to a project that does.

    :param connection: an administrator sees what all projects and users have, anybody else what is theirs
    :param run_id: a run id, or the beginning of some; every run's by default
    :param projects: ids of the projects to look into, when only what is in them counts, not what carries the name
    """
    everyone = is_admin(connection)
    inside = set(projects or ())
    if projects is None and everyone:
        inside = {each.id for each in connection.identity.projects() if belongs(each.name, run_id)}
    found: list[Found] = []
    for kind in KINDS:
        wanted = _TYPES.get(kind.service)
        if wanted and not connection.has_service(wanted):
            continue
        try:
            for each in kind.list(connection, everyone):
                owner = _owner(kind, each)
                label = getattr(each, kind.label, None)
                if (projects is None and belongs(label, run_id)) or owner in inside:
                    found.append(Found(connection, kind, _key(kind, each, everyone), label or "without a name", owner))
        except (*DENIED, *GONE):
            # Not an administrator: what this user cannot list, this user's run cannot have made.
            if everyone:
                raise
    return found


def _owner(kind: Kind, each: Any) -> str | None:
    # A project's own parent, and the owner of an identity object, is a domain: not what is meant here.
    if kind.service == "identity":
        return None
    owner = getattr(each, "project_id", None) or getattr(each, "owner_id", None)
    return owner if isinstance(owner, str) else None


def _key(kind: Kind, each: Any, everyone: bool) -> str:
    key = str(getattr(each, kind.key))
    user = getattr(each, "user_id", None) if kind.name == "keypair" else None
    return f"{key}@{user}" if user and everyone else key


def destroy(objects: Iterable[Found], *, seconds: float = 120) -> list[str]:
    """Delete `objects` in the order of KINDS; one that is gone already is no error.

    :param seconds: deadline for servers to be gone
    :returns: a line for each that could not be deleted
    """
    problems: list[str] = []
    ordered = sorted(objects, key=lambda each: RANK[each.kind.name])
    servers = [each for each in ordered if each.kind.name == "server"]
    others = [each for each in ordered if each.kind.name != "server"]
    going: list[Found] = []
    for each in servers:
        problem = _destroy(each, seconds)
        if problem:
            problems.append(problem)
        else:
            going.append(each)
    # All are asked to go before the first is waited for.
    for each in going:
        try:
            wait_for(f"{each} is deleted", partial(_is_gone, each), seconds)
        except NotInTime as error:
            problems.append(str(error))
    problems += [problem for problem in (_destroy(each, seconds) for each in others) if problem]
    return problems


def _is_gone(server: Found) -> bool:
    try:
        found = server.connection.compute.get_server(server.key)
    except GONE:
        return True
    return bool(found.status in ("DELETED", "SOFT_DELETED"))


def _destroy(each: Found, seconds: float) -> str | None:
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(min(seconds, RELEASED_WITHIN)),
        wait=tenacity.wait_fixed(1),
        retry=tenacity.retry_if_exception_type((exceptions.ConflictException, ConnectFailure)),
        reraise=True,
    )
    try:
        retrying(each.kind.delete, each.connection, each.key)
    except GONE:
        return None
    except Exception as error:  # any failure is reported, and none may keep the others from being deleted
        return f"{each} could not be deleted: {type(error).__name__}: {error}"
    return None


def sweep(connection: Cloud, run_id: str = EVERY_RUN, *, seconds: float = 120) -> list[str]:
    """Delete everything that `leftovers` finds.

    :returns: a line for each object that could not be deleted
    """
    return destroy(leftovers(connection, run_id), seconds=seconds)
