"""Kernel modules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..inventory import Node
from ..site import Site
from .actions import Execute, NodeAction, Write
from .base import Change, Context, Difference, Query, Resource, file, run, unified_diff


@dataclass(frozen=True)
class KernelModule(Resource):
    """A kernel feature, built in or as a module that is loaded now and at boot.

    :param name: the module
    :param needed_for: what fails without it
    :param advice: what to do if the kernel lacks it
    """

    name: str
    needed_for: str
    advice: str

    @property
    def title(self) -> str:
        return f"kernel module {self.name}"

    @property
    def _path(self) -> str:
        return f"/etc/modules-load.d/{self.name}.conf"

    def _queries(self) -> tuple[Query, Query, Query]:
        where = run("modinfo", "--field", "filename", self.name)
        return file(f"/sys/module/{self.name}"), where, file(self._path)

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return self._queries()

    def obstacles(self, context: Context) -> list[str]:
        loaded, where, _ = (context.facts[query] for query in self._queries())
        if loaded["exists"] or where["status"] == 0:
            return []
        return [f"the kernel has no {self.name}, without which {self.needed_for}; {self.advice}"]

    def changes(self, context: Context) -> list[Change]:
        loaded, where, listed = (context.facts[query] for query in self._queries())
        if "builtin" in where["out"] or (loaded["exists"] and where["status"]):
            return []
        differences = []
        actions: list[NodeAction] = []
        diff = ""
        if listed["content"] != (text := f"{self.name}\n"):
            differences.append(Difference(f"{self.name} at boot", "loaded", "not loaded"))
            diff = unified_diff(self._path, str(listed["content"]), text)
            actions.append(Write(self._path, text))
        if not loaded["exists"]:
            differences.append(Difference(self.name, "loaded", "not loaded"))
            actions.append(Execute(("modprobe", self.name)))
        return [Change(f"load {self.name}", tuple(differences), diff, tuple(actions))] if differences else []
