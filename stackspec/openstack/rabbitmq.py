"""Users of the message queue. Guide: 安装消息队列."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..inventory import Node
from ..resources.base import Change, Context, Difference, NodeAction, Query, Resource, run
from ..site import Site

_PERMISSIONS = run("rabbitmqctl", "-q", "--no-table-headers", "list_permissions", "-p", "/")


@dataclass(frozen=True)
class RabbitUser(Resource):
    """A user with all permissions in /; its password is the site's secret `<name> rabbitmq`."""

    name: str

    @property
    def title(self) -> str:
        return f"RabbitMQ user {self.name}"

    def _login(self, site: Site) -> Query:
        # The password goes by stdin; `authenticate_user` asks for it when it is not an argument.
        return run(
            "rabbitmqctl", "-q", "authenticate_user", self.name, stdin=site.password(f"{self.name} rabbitmq") + "\n"
        )

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [_PERMISSIONS, self._login(site)]

    def changes(self, context: Context) -> list[Change]:
        rows = [line.split("\t") for line in str(context.facts[_PERMISSIONS]["out"]).splitlines()]
        found = next((row[1:] for row in rows if row[0] == self.name), None)
        differences = []
        if found is None or context.facts[self._login(context.site)]["status"] != 0:
            differences.append(Difference(self.title, "there with the site's password", "not so"))
        if found != [".*", ".*", ".*"]:
            differences.append(Difference(f"permissions of {self.name}", ".* .* .*", " ".join(found or ["none"])))
        if not differences:
            return []
        password = context.site.password(f"{self.name} rabbitmq") + "\n"
        # One shell call: each start of rabbitmqctl boots an Erlang machine. The user may be there from a killed run.
        script = (
            'read -r password; printf "%s\\n" "$password" | rabbitmqctl -q add_user "$1" ||'
            ' printf "%s\\n" "$password" | rabbitmqctl -q change_password "$1" &&'
            ' rabbitmqctl -q set_permissions -p / "$1" ".*" ".*" ".*"'
        )
        action: NodeAction = {
            "op": "command",
            "argv": ["sh", "-c", script, "sh", self.name],
            "stdin": password,
            "what": f"make {self.title}",
            "show": "rabbitmqctl add_user, set_permissions",
            "units": ["rabbitmq-server"],
        }
        return [Change(f"make {self.title}", tuple(differences), "", (action,))]
