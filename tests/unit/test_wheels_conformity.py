"""The guide's facts and its order hold for releases from wheels as well: the steps are the same."""

from __future__ import annotations

import pytest

from . import conformity
from .guide_order import order_problems
from .wheels_sites import RELEASE, SITES, wheels_of

FACTS = conformity.load_facts()


NOT_IN_APACHE = {
    "keystone.apache.ServerName",
    "keystone.unit.apache2.restart",
    "placement.unit.apache2.restart",
    "barbican.unit.apache2.restart",
    "cinder.unit.apache2.restart",
}
"""The guide's facts about Apache, which does not run these APIs here: each has its own unit."""
CONSOLE = {"nova.compute.conf.vnc.novncproxy_base_url"}
"""The guide's noVNC page shows a button first, like the noVNC of Debian 12."""
NO_MORE = {
    # Nova no longer has this option.
    "nova.conf.api.auth_strategy",
    "nova.compute.conf.api.auth_strategy",
    # Neutron's server is split into three units.
    "neutron.unit.neutron-server.restart",
}
"""Facts of the guide that differ in Gazpacho."""
CORE = ("keystone", "glance", "placement", "nova", "neutron")
OTHERWISE = {
    **{(RELEASE.name, name): NOT_IN_APACHE | CONSOLE for name in (*CORE, "cinder", "heat", "barbican")},
    **{("gazpacho-bookworm", name): NOT_IN_APACHE | CONSOLE | NO_MORE for name in CORE},
}
"""Release and chapter of the guide -> what differs there."""


class TestConformity:
    """The guide's facts and its order hold for these releases as well: the steps are the same."""

    @pytest.mark.parametrize(("release", "chapter"), OTHERWISE)
    def test_facts_of_the_guide(self, release: str, chapter: str) -> None:
        plan, deliberate = conformity.guide_plan(release), conformity.load_deliberate(release)
        verdicts = {each["id"]: conformity.judge(each, deliberate, plan) for each in FACTS if each["step"] == chapter}
        missing = {name for name, each in verdicts.items() if each.status == "missing"}
        packages = {name for name in missing if ".package." in name}
        assert {name.rsplit(".", 1)[1] for name in packages} <= wheels_of(plan.site).packages.keys()
        assert missing - packages == OTHERWISE[release, chapter] & verdicts.keys()

    @pytest.mark.parametrize("release", SITES)
    def test_order_and_guards_are_right(self, release: str) -> None:
        for here in conformity.guide_plan(release).nodes.values():
            assert list(order_problems(here, FACTS)) == [], here.node.name
            assert here.after.guards == [], here.node.name
