"""Load balancers that nobody works on any more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..inventory import Node
from ..resources.actions import Execute, NodeAction
from ..resources.base import Change, Context, Difference, Query, Resource, Shared, run, unit
from ..site import Site
from ..transport import Connection
from .database import CLIENT

WORKER, MANAGER = "octavia-worker", "octavia-health-manager"
PATIENCE = {"PENDING_CREATE": 300, "PENDING_DELETE": 300, "PENDING_UPDATE": 900}
"""Seconds after the start of what works on it for which a load balancer may still be waited for: the request for it may
have been in the queue. Updates are the worker's or, when an amphora is lost, the health manager's."""
LONGEST = 3600
"""Seconds after which nobody is at work on it, whatever runs: everything that is done has a deadline before."""
# Heartbeats of its amphora may set the time of the last change, so for a new one the time of its request counts.
_SINCE = "IF(provisioning_status='PENDING_CREATE', created_at, COALESCE(updated_at, created_at))"
_PENDING = run(
    *CLIENT,
    stdin=f"SELECT id, provisioning_status, TIMESTAMPDIFF(SECOND, '1970-01-01', {_SINCE}),"
    f" TIMESTAMPDIFF(SECOND, {_SINCE}, UTC_TIMESTAMP())"
    " FROM octavia.load_balancer WHERE provisioning_status LIKE 'PENDING%'",
)


@dataclass(frozen=True)
class NoStuckLoadBalancer(Resource):
    """No load balancer is PENDING for a worker that has ended.

    A worker that is killed leaves what it was at so for ever: the API refuses every request for it, an administrator's
    too, and has no call to set it free. In ERROR it can be deleted or failed over.

    :param only: ids of the load balancers to look at; all when not given
    """

    only: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return "no load balancer left by its worker"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [_PENDING, *(unit(name) for service in (WORKER, MANAGER) for name in site.release.unit(service))]

    def changes(self, context: Context) -> list[Change]:
        def started(service: str) -> float:
            return max(float(context.facts[unit(name)]["started"]) for name in context.site.release.unit(service))

        left = []
        for line in str(context.facts[_PENDING]["out"]).splitlines():
            key, status, changed, age = line.split("\t")
            update = status == "PENDING_UPDATE"
            since = max(started(WORKER), started(MANAGER)) if update else started(WORKER)
            up_for = float(changed) + float(age) - since
            restarted = float(changed) < since and up_for >= PATIENCE.get(status, 0)
            if (restarted or float(age) >= LONGEST) and key in (self.only or (key,)):
                left.append((key, status))
        if not left:
            return []
        differences = tuple(
            Difference(f"load balancer {key}", "somebody at work on it", f"{status}, its worker has ended")
            for key, status in left
        )
        keys = ", ".join(f"'{key}'" for key, _ in left)
        sql = (
            "UPDATE octavia.load_balancer SET provisioning_status='ERROR', updated_at=UTC_TIMESTAMP()"
            f" WHERE id IN ({keys}) AND provisioning_status LIKE 'PENDING%'"
        )
        action = Execute(CLIENT, sql, what="set load balancers to ERROR")
        return [Change("set load balancers to ERROR that their worker left", differences, "", (action,))]


def set_free(site: Site, keys: Iterable[str]) -> list[str]:
    """Set those of the load balancers `keys` to ERROR that their worker left, so that they can be deleted.

    :param site: the site, whose controller is reached by ssh
    :returns: a line for each
    """
    resource = NoStuckLoadBalancer(only=tuple(keys))
    if not resource.only:
        return []
    node = site.controller
    connection = Connection(node, site.inventory.ssh)
    try:
        facts = connection.facts(resource.queries(site, node))
        changes = resource.changes(Context(site, node, facts, Shared(site)))
        connection.apply([action for change in changes for action in change.actions if isinstance(action, NodeAction)])
    finally:
        connection.close()
    return [f"set to ERROR: {difference}" for change in changes for difference in change.differences]
