"""Commands that run until their effect exists."""

from __future__ import annotations

import pytest

from stackspec.resources import Command, Service
from stackspec.resources.base import file, unit
from stackspec.site import Site

from .bare import RUNNING, ChangeOf, answer, look, text_file


class TestCommand:
    """A command that runs until its effect exists."""

    def test_creates(self, change: ChangeOf) -> None:
        """Due if the file does not exist."""
        resource = Command(("make", "keys"), creates="/etc/keys/0", user="keystone")
        found = change(resource)
        assert (found.actions[0].argv, found.actions[0].user) == (("make", "keys"), "keystone")
        assert change(resource, {file("/etc/keys/0"): text_file("")}) is None

    def test_unless(self, change: ChangeOf, site: Site) -> None:
        """Due if the guard does not exit with 0."""
        resource = Command(("hostname", "a"), unless=("test", "a"), unless_stdin="x")
        (query,) = resource.queries(site, site.controller)
        assert change(resource, {query: answer(status=1)}) is not None
        assert change(resource, {query: answer()}) is None

    def test_command_without_a_guard_is_refused(self) -> None:
        """It would run at every deployment."""
        with pytest.raises(ValueError, match="creates= or unless="):
            Command(("date",))

    def test_secrets_are_not_shown(self, change: ChangeOf) -> None:
        """Neither input nor environment is in its printed form."""
        resource = Command(("a",), creates="/b", stdin="hidden", env={"PASSWORD": "hidden"})
        found = change(resource)
        assert "hidden" not in repr(resource) + found.title + repr(found.differences)
        assert (found.actions[0].stdin, found.actions[0].env) == ("hidden", {"PASSWORD": "hidden"})

    @pytest.mark.parametrize(("restarts", "expected"), [(True, 1), (False, 0)])
    def test_restarts(self, site: Site, restarts: bool, expected: int) -> None:
        """Services of the step restart after it, if it says so."""
        resource = Command(("a",), creates="/b", restarts=restarts)
        _, service = look(site, [resource, Service("etcd")], {unit("etcd"): RUNNING})
        assert len(service.changes) == expected
