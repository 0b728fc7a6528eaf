"""Detects and repairs stuck load balancers, which no worker is processing any more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..inventory import Node
from ..resources.actions import Execute, NodeAction
from ..resources.base import Change, Context, Difference, Query, Resource, Shared, run, unit
from ..site import Site
from ..transport import NodeConnection
from .database import CLIENT

WORKER, MANAGER = "octavia-worker", "octavia-health-manager"
PATIENCE = {"PENDING_CREATE": 300, "PENDING_DELETE": 300, "PENDING_UPDATE": 900}
"""Seconds after the start of the worker in which a load balancer may still be processed: its request may have been
queued. Updates are done by the worker or, if an amphora is lost, by the health manager."""
PENDING_LIMIT = 3600
"""Seconds after which it is stuck in any case: all operations have shorter timeouts."""
# Heartbeats of its amphora may update updated_at, so for a new one created_at counts.
_SINCE = "IF(provisioning_status='PENDING_CREATE', created_at, COALESCE(updated_at, created_at))"
_PENDING = run(
    *CLIENT,
    stdin=f"SELECT id, provisioning_status, TIMESTAMPDIFF(SECOND, '1970-01-01', {_SINCE}),"
    f" TIMESTAMPDIFF(SECOND, {_SINCE}, UTC_TIMESTAMP())"
    " FROM octavia.load_balancer WHERE provisioning_status LIKE 'PENDING%'",
)


@dataclass(frozen=True)
class NoStuckLoadBalancer(Resource):
    """No load balancer is stuck in PENDING after its worker has ended.

    A killed worker leaves its load balancer in PENDING for ever: the API refuses every request for it, even an
    administrator's, and has no call to reset it. In ERROR it can be deleted or failed over.

    :param only: ids of the load balancers to check; default: all
    """

    only: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return "no stuck load balancer"

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
            if (restarted or float(age) >= PENDING_LIMIT) and key in (self.only or (key,)):
                left.append((key, status))
        if not left:
            return []
        differences = tuple(
            Difference(f"load balancer {key}", "a worker processing it", f"{status}, its worker has ended")
            for key, status in left
        )
        keys = ", ".join(f"'{key}'" for key, _ in left)
        sql = (
            "UPDATE octavia.load_balancer SET provisioning_status='ERROR', updated_at=UTC_TIMESTAMP()"
            f" WHERE id IN ({keys}) AND provisioning_status LIKE 'PENDING%'"
        )
        action = Execute(CLIENT, sql, what="set load balancers to ERROR")
        return [Change("set stuck load balancers to ERROR", differences, "", (action,))]


def set_free(site: Site, keys: Iterable[str]) -> list[str]:
    """Set the stuck ones among the load balancers `keys` to ERROR, so that they can be deleted.

    :param site: the site; its controller is accessed by ssh
    :returns: a line for each
    """
    resource = NoStuckLoadBalancer(only=tuple(keys))
    if not resource.only:
        return []
    node = site.controller
    connection = NodeConnection(node, site.inventory.ssh)
    try:
        facts = connection.facts(resource.queries(site, node))
        changes = resource.changes(Context(site, node, facts, Shared(site)))
        connection.apply([action for change in changes for action in change.actions if isinstance(action, NodeAction)])
    finally:
        connection.close()
    return [f"set to ERROR: {difference}" for change in changes for difference in change.differences]
