"""Load balancers that a dead worker left pending: which are stuck, and what is done about them."""

from __future__ import annotations

from typing import Any

import pytest

from stackspec.openstack import NoStuckLoadBalancer
from stackspec.openstack.load_balancer import PATIENCE
from stackspec.resources.base import unit
from stackspec.site import Site

from .bare import RUNNING, answer, context, differences


class TestStuck:
    """Load balancers that a dead worker left pending."""

    worker, manager = 10_000.0, 8_000.0

    def change(self, site: Site, *rows: tuple[str, str, float, float], only: tuple[str, ...] = ()) -> Any:
        """The change with these pending load balancers: id, status, time of the last change, and the current time."""
        resource = NoStuckLoadBalancer(only=only)
        pending, worker, manager = resource.queries(site, site.controller)
        out = "".join(f"{key}\t{status}\t{changed}\t{now - changed}\n" for key, status, changed, now in rows)
        known = {
            pending: answer(out),
            worker: {**RUNNING, "started": self.worker},
            manager: {**RUNNING, "started": self.manager},
        }
        return next(iter(resource.changes(context(site, site.controller, known))), None)

    def test_no_pending_load_balancers(self, site: Site, change: Any) -> None:
        """None, or no database yet."""
        assert self.change(site) is None
        assert change(NoStuckLoadBalancer(), {unit("octavia-worker"): RUNNING}) is None

    @pytest.mark.parametrize(
        ("status", "changed", "now"),
        [
            pytest.param("PENDING_CREATE", worker + 1, worker + 3_600, id="the worker is at it"),
            pytest.param("PENDING_CREATE", worker - 1, worker + 299, id="the worker may just have been given it"),
            pytest.param("PENDING_UPDATE", worker - 1, worker + 899, id="the manager may be at it"),
        ],
    )
    def test_load_balancer_in_progress_is_left_alone(self, site: Site, status: str, changed: float, now: float) -> None:
        """Until its worker has ended and another one has been up for a while."""
        assert self.change(site, ("lb-1", status, changed, now)) is None

    @pytest.mark.parametrize("status", PATIENCE)
    def test_stuck_load_balancer(self, site: Site, status: str) -> None:
        """It is set to ERROR, and no other one."""
        late = self.worker + PATIENCE[status]
        other = ("lb-2", "PENDING_UPDATE", self.worker + 1, late)
        found = self.change(site, ("lb-1", status, self.worker - 1, late), other)
        assert differences(found) == [
            f"load balancer lb-1: wanted a worker processing it, found {status}, its worker has ended"
        ]
        sql = found.actions[0].stdin
        assert "'lb-1'" in sql
        assert "lb-2" not in sql
        assert "provisioning_status LIKE 'PENDING%'" in sql, "it may have come to its end meanwhile"

    def test_pending_for_too_long(self, site: Site) -> None:
        """Nothing takes an hour, whatever was restarted."""
        assert self.change(site, ("lb-1", "PENDING_DELETE", self.worker + 1, self.worker + 3_601)) is not None

    def test_only_load_balancers_of_the_run(self, site: Site) -> None:
        """A cleanup does not change other users' load balancers."""
        row = ("lb-1", "PENDING_CREATE", self.worker - 1, self.worker + 300)
        assert self.change(site, row, only=("lb-2",)) is None
        assert self.change(site, row, only=("lb-1",)) is not None
