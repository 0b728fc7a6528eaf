"""The environment of a release from wheels on a node: when it is made, and which nodes are refused."""

from __future__ import annotations

from typing import Any

import pytest

from stackspec import wheels as wheels_module
from stackspec.release import Wheels
from stackspec.resources import environment as environment_module
from stackspec.resources.base import Context, Query, file, run
from stackspec.resources.environment import _PYTHON, Environment
from stackspec.site import Site

from . import wheels_sites
from .bare import ABSENT, answer, context, text_file
from .wheels_sites import WHEELS

site = wheels_sites.site


class TestEnvironment:
    def facts(self, resource: Environment, site: Site, **given: Any) -> dict[Query, Any]:
        node = site.controller
        facts = {query: answer() for query in resource.queries(site, node)}
        facts[file(resource.stamp)] = given.get("stamp", ABSENT)
        facts[run(*_PYTHON)] = answer(given.get("python", "3.11 x86_64\n"))
        facts[resource._room()] = answer(given.get("room", "Avail\n 9000\n"))
        facts[resource._astray()] = given.get("astray", answer())
        return facts

    @pytest.fixture(autouse=True)
    def checked(self, monkeypatch: pytest.MonkeyPatch) -> list[Wheels]:
        """What was resolved."""
        found: list[Wheels] = []
        monkeypatch.setattr(environment_module, "check_requirements", found.append)
        return found

    @pytest.fixture
    def resource(self) -> Environment:
        return Environment(wheels_module.folder_of(WHEELS))

    def look(self, resource: Environment, site: Site, **given: Any) -> Context:
        found = context(site, site.controller)
        found.facts = self.facts(resource, site, **given)
        return found

    def test_bare_node(self, resource: Environment, site: Site, checked: list[Wheels]) -> None:
        found = self.look(resource, site)
        assert resource.obstacles(found) == []
        assert checked == [site.release.wheels]
        (change,) = resource.changes(found)
        assert change.touches == (resource.stamp,)

    def test_nothing_to_do(self, resource: Environment, site: Site) -> None:
        stamp = text_file(f"{resource.path}\n")
        assert resource.changes(self.look(resource, site, stamp=stamp)) == []

    def test_killed_before_the_stamp(self, resource: Environment, site: Site) -> None:
        stamp = text_file("")
        assert len(resource.changes(self.look(resource, site, stamp=stamp))) == 1

    def test_deleted_command(self, resource: Environment, site: Site) -> None:
        stamp = text_file(f"{resource.path}\n")
        found = self.look(resource, site, stamp=stamp, astray=answer("nova-manage\n"))
        (change,) = resource.changes(found)
        assert "/usr/bin/nova-manage" in str(change.differences[0])

    @pytest.mark.parametrize("python", ["3.13 x86_64", "3.11 aarch64", ""])
    def test_node_with_another_python(self, resource: Environment, site: Site, python: str) -> None:
        (text,) = resource.obstacles(self.look(resource, site, python=f"{python}\n"))
        assert text == (f"python3 is {python or 'missing'}, but caracal-bookworm has wheels for Python 3.11 x86_64")

    def test_full_disk(self, resource: Environment, site: Site) -> None:
        (text,) = resource.obstacles(self.look(resource, site, room="Avail\n  300\n"))
        assert text.startswith("/opt: 300 MiB free")
