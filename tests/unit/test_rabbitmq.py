"""RabbitMQ users, according to the broker's own definitions; passwords are never written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stackspec.openstack.rabbitmq import NoRabbitUser, RabbitUser, password_hash
from stackspec.resources.actions import Remove
from stackspec.resources.base import Query
from stackspec.site import Site

from .bare import ChangeOf, answer, differences, text_file


class TestRabbitUser:
    """A RabbitMQ user, according to the broker's definitions."""

    resource = RabbitUser("openstack")
    permissions = {"user": "openstack", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}  # noqa: RUF012

    def known(
        self, site: Site, *, password: str | None = "pass-1", permissions: dict[str, str] | None = None
    ) -> dict[Query, Any]:
        """A broker with the user guest and, unless its password is None, this user."""
        exported, _ = self.resource.queries(site, site.controller)
        users = [{"name": "guest", "password_hash": password_hash("guest", b"salt")}]
        if password is not None:
            users.append({"name": "openstack", "password_hash": password_hash(password, b"\0\1\2\3")})
        given = self.permissions if permissions is None else permissions
        return {exported: answer(json.dumps({"users": users, "permissions": [given]}))}

    def test_hash_matches_the_broker(self) -> None:
        """The example from RabbitMQ's documentation: password test12, salt 908D C60A."""
        salt = bytes.fromhex("908DC60A")
        assert password_hash("test12", salt) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"

    def test_correct_state(self, site: Site, change: ChangeOf) -> None:
        """With any salt; other users do not matter."""
        assert change(self.resource, self.known(site)) is None

    @pytest.mark.parametrize(
        ("state", "count"),
        [
            pytest.param({"password": None, "permissions": {}}, 2, id="no user"),
            pytest.param({"password": "other"}, 1, id="another password"),
            pytest.param({"permissions": {**permissions, "read": ""}}, 1, id="may not read"),
            pytest.param({"permissions": {**permissions, "vhost": "/other"}}, 1, id="elsewhere"),
        ],
    )
    def test_wrong_user_is_imported_again(
        self, site: Site, change: ChangeOf, state: dict[str, Any], count: int
    ) -> None:
        """The imported definitions match what is checked."""
        found = change(self.resource, self.known(site, **state))
        assert len(differences(found)) == count
        exported, _ = self.resource.queries(site, site.controller)
        assert change(self.resource, {exported: answer(found.actions[0].content)}) is None

    def test_file_left_by_a_killed_run(self, site: Site, change: ChangeOf) -> None:
        """It contains the password's hash."""
        _, left = self.resource.queries(site, site.controller)
        found = change(self.resource, {**self.known(site), left: text_file("{}")})
        assert found.actions[-1] == Remove(left.args[0])

    def test_no_broker(self, change: ChangeOf) -> None:
        """Not installed yet."""
        assert len(differences(change(self.resource))) == 2

    def test_password_is_never_written(self, site: Site, change: ChangeOf) -> None:
        """Only its hash goes to the node, in a file that only the broker can read and that is deleted afterwards."""
        write, load, remove = change(self.resource).actions
        assert "pass-1" not in repr([each.message() for each in (write, load, remove)])
        assert (write.mode, write.owner, write.path) == (0o600, "rabbitmq", remove.path)
        assert load.argv[-1] == write.path
        assert isinstance(remove, Remove)


class TestNoRabbitUser:
    """The user guest with its well-known password."""

    resource = NoRabbitUser("guest")

    def known(self, site: Site, users: list[str]) -> dict[Query, Any]:
        """A broker with these users."""
        (exported,) = self.resource.queries(site, site.controller)
        return {exported: answer(json.dumps({"users": [{"name": name} for name in users]}))}

    def test_user_is_absent(self, site: Site, change: ChangeOf) -> None:
        """Other users stay."""
        assert change(self.resource, self.known(site, ["openstack"])) is None

    def test_user_is_deleted(self, site: Site, change: ChangeOf) -> None:
        """Only this user is deleted; it is no error if it is already gone."""
        found = change(self.resource, self.known(site, ["guest", "openstack"]))
        assert differences(found) == ["RabbitMQ user guest: wanted absent, found present"]
        (action,) = found.actions
        assert action.argv[-2:] == ("delete_user", "guest")
        assert 67 in action.expect

    def test_broker_does_not_run(self, change: ChangeOf) -> None:
        """The user is created at the first start, so an empty list proves nothing."""
        assert differences(change(self.resource)) == ["RabbitMQ user guest: wanted absent, found unknown"]
