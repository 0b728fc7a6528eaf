"""A kind of cloud object, and an object of a run found in the cloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Connection: TypeAlias = Any
"""An openstacksdk connection; its proxies are unions over API versions, which a type checker cannot distinguish."""
ListObjects: TypeAlias = Callable[[Connection, bool], Any]


@dataclass(frozen=True)
class Kind:
    """A kind of object that tests create.

    :param name: as in messages, and in openstacksdk's `create_<name>`
    :param service: attribute of a connection
    :param list: lists the user's objects; with True those of all projects
    :param delete: deletes one object by its `key`
    :param label: attribute that carries the run id
    :param key: attribute by which it is deleted
    :param inside: visible and deletable only from within its project, even for administrators
    :param is_gone: whether a deleted object is gone; None if deletion is synchronous
    """

    name: str
    service: str
    list: ListObjects
    delete: Callable[[Connection, str], None]
    label: str = "name"
    key: str = "id"
    create: str = ""
    inside: bool = False
    is_gone: Callable[[Connection, str], bool] | None = None

    def make(self, connection: Connection, label: str, **attributes: Any) -> Any:
        """Create one, marked with `label`."""
        proxy = getattr(connection, self.service)
        return getattr(proxy, self.create or f"create_{self.name}")(**{self.label: label}, **attributes)


@dataclass(frozen=True)
class Found:
    """An object of a run found in the cloud."""

    connection: Connection
    kind: Kind
    key: str
    label: str
    project: str | None = None

    def __str__(self) -> str:
        where = f" of project {self.project}" if self.project else ""
        return f"{self.kind.name} {self.label} ({self.key}){where}"
