"""The objects of a run in a cloud: found and removed, even by another process after a kill.

Every object carries the run id in its name, or in its description if it has no name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

import tenacity
from keystoneauth1.exceptions import ClientException, ConnectFailure
from openstack import exceptions

from ..site import Site
from ..waiting import NotInTime, wait_for
from .kind import Connection, Found, Kind
from .kinds import KINDS, RANK
from .repair import repair
from .run_names import EVERY_RUN, belongs, run_of

RELEASED_WITHIN = 30
"""Seconds for which a conflict is attributed to a port that nova is still releasing."""
BACK_WITHIN = 120
"""Timeout in seconds for a service that is unavailable: another worker's test may have just restarted it."""
UNAVAILABLE = (502, 503, 504)
GONE = (exceptions.NotFoundException,)
DENIED = (exceptions.ForbiddenException,)


def is_admin(connection: Connection) -> bool:
    """Whether this user is an administrator; tested by a request, since role names are the cloud's own."""
    response = connection.identity.get("/projects", params={"limit": 1})
    if response.status_code not in (401, 403, 404):
        # A keystone error does not mean that this is an ordinary user, who cannot see the objects of others.
        exceptions.raise_from_response(response)
    return bool(response.status_code == 200)


def leftovers(
    connection: Connection,
    run_id: str | Callable[[str], bool] = EVERY_RUN,
    *,
    projects: Collection[str] | None = None,
) -> list[Found]:
    """Objects in the cloud that carry `run_id` or belong to a project that does.

    :param connection: administrators see the objects of all projects and users, others only their own
    :param run_id: a run id, a prefix (default: of every run), or a predicate for run ids
    :param projects: ids of projects; if given, only objects in them count, not those with the run id
    :raises SDKException: something cannot be listed, so that leftovers are unknown
    """

    def meant(label: str | None) -> bool:
        if isinstance(run_id, str):
            return belongs(label, run_id)
        return (run := run_of(label)) is not None and run_id(run)

    everyone = is_admin(connection)
    inside = set(projects or ())
    if projects is None and everyone:
        inside = {each.id for each in connection.identity.projects() if meant(each.name)}
    found: list[Found] = []
    scoped: dict[str, Connection] = {}
    for kind in KINDS:
        if kind.service != "identity" and not connection.has_service(kind.service.replace("_", "-")):
            continue
        try:
            for each in kind.list(connection, everyone):
                owner = _owner(kind, each)
                label = getattr(each, kind.label, None)
                if (projects is None and meant(label)) or owner in inside:
                    found.append(Found(connection, kind, _key(kind, each, everyone), label or "without a name", owner))
            for project in inside if kind.inside else ():
                scoped[project] = scoped.get(project) or within(connection, project)
                for each in kind.list(scoped[project], False):
                    label = getattr(each, kind.label, None) or "without a name"
                    found.append(Found(scoped[project], kind, _key(kind, each, False), label, project))
        except (*DENIED, *GONE):
            # Not an administrator: objects that this user cannot list cannot be from this user's run.
            if everyone:
                raise
    return found


def within(connection: Connection, project: str) -> Connection:
    """An administrator's connection to a project of a run; grants the administrator the role there."""
    role = connection.identity.find_role("admin", ignore_missing=False)
    connection.identity.assign_project_role_to_user(project, connection.current_user_id, role)
    scoped = connection.connect_as(project_id=project)
    # openstacksdk stores a used endpoint as if it were configured; here each project has its own.
    scoped.config.config.pop("object_store_endpoint_override", None)
    return scoped


def _owner(kind: Kind, each: Any) -> str | None:
    # The parent of a project and the owner of an identity object are domains, which do not count here.
    if kind.service == "identity":
        return None
    owner = getattr(each, "project_id", None) or getattr(each, "owner_id", None)
    return owner if isinstance(owner, str) else None


def _key(kind: Kind, each: Any, everyone: bool) -> str:
    key = str(getattr(each, kind.key))
    user = getattr(each, "user_id", None) if kind.name == "keypair" else None
    return f"{key}@{user}" if user and everyone else key


def destroy(objects: Iterable[Found], *, seconds: float = 120) -> list[str]:
    """Delete `objects` in the order of KINDS, within a kind the last first; missing objects are ignored.

    :param seconds: timeout for asynchronous deletions
    :returns: a line for each that could not be deleted
    """
    problems: list[str] = []
    ordered = sorted(objects, key=lambda each: RANK[each.kind.name])
    for _, same in itertools.groupby(ordered, key=lambda each: each.kind.name):
        going: list[Found] = []
        for each in reversed(list(same)):
            problem = _destroy(each, seconds)
            if problem:
                problems.append(problem)
            else:
                going.append(each)
        # Request all deletions before waiting for the first.
        for each in going:
            if (is_gone := each.kind.is_gone) is not None:
                try:
                    wait_for(f"{each} is deleted", partial(is_gone, each.connection, each.key), seconds)
                except (NotInTime, exceptions.SDKException) as error:
                    problems.append(f"{each} could not be deleted: {error}")
    return problems


def remove(connection: Connection, objects: Sequence[Found], site: Site | None) -> tuple[list[str], list[str]]:
    """Repair stuck `objects`, and delete all of them.

    Remaining objects are repaired and deleted once more: after the wait, they may now count as stuck.

    :param site: provides the start times of services; None if its nodes are not accessible
    :returns: a line for each repair and for each object that could not be deleted
    """
    if not objects:
        return [], []
    admin = is_admin(connection)
    repaired = list(repair(connection, objects, site, admin=admin))
    problems = destroy(objects)
    if problems and (more := list(repair(connection, objects, site, admin=admin))):
        return [*repaired, *more], destroy(objects)
    return repaired, problems


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
    except Exception as error:  # report every failure, but continue with the other objects
        return f"{each} could not be deleted: {type(error).__name__}: {error}"
    return None


class _Unavailable(Exception):
    pass


def leftovers_when_available(
    connection: Connection, run_id: str, *, projects: Collection[str] | None = None
) -> list[Found]:
    """What `leftovers` finds, asked again while a service is unavailable.

    :param connection: as for `leftovers`
    :param run_id: a run id
    :param projects: as for `leftovers`
    :raises SDKException: something cannot be listed for another reason
    :raises NotInTime: a service stayed unavailable
    """

    def look() -> tuple[list[Found]]:
        try:
            return (leftovers(connection, run_id, projects=projects),)
        except exceptions.HttpException as error:
            if error.status_code not in UNAVAILABLE:
                raise
            raise _Unavailable(str(error)) from error

    (found,) = wait_for("all services list the objects of tests", look, BACK_WITHIN, retry_on=(_Unavailable,))
    return found


def check_leftovers(connection: Connection, run_id: str, site: Site | None) -> list[str]:
    """Remove the leftovers of a run's tests after all of them are done.

    :param site: provides the start times of services; None if its nodes are not accessible
    :returns: a line for each object, and for each that could not be removed; empty if the run left nothing
    """
    try:
        found = leftovers_when_available(connection, run_id)
    except (exceptions.SDKException, ClientException, NotInTime) as error:
        return [f"cannot look for leftovers of tests in the cloud: {type(error).__name__}: {error}"]
    repaired, stayed = remove(connection, found, site)
    return [*(f"left by a test: {each}" for each in found), *repaired, *stayed]
