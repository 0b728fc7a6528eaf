"""Volume types, and the backends that volumes are made on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..errors import ActionError
from ..resources.base import Change, Context, Difference, Resource
from ..waiting import NotInTime, wait_for
from .api_object import ApiObject, compare
from .cloud import Cloud
from .compute import UNREADABLE

SETTLED = 60.0
"""Seconds after which a service that is down has stopped: after a power-on it is so until it reports."""


@dataclass(frozen=True)
class VolumeType(ApiObject):
    """A volume type, which every project may use. The guide makes none (erratum E63).

    :param name: its name
    :param specs: what a backend must have, such as volume_backend_name
    """

    name: str
    specs: dict[str, str] = field(hash=False)

    @property
    def title(self) -> str:
        return f"volume type {self.name}"

    def differences(self, cloud: Cloud, context: Context) -> list[Difference]:
        found = cloud.find("block_storage.types", name=self.name)
        differences = compare(found, {"is_public": True}, self.title)
        specs = dict(found.extra_specs or {}) if found is not None else self.specs
        return differences + [
            Difference(f"{key} of {self.title}", value, str(specs.get(key)))
            for key, value in self.specs.items()
            if specs.get(key) != value
        ]

    def make(self, cloud: Cloud, context: Context) -> None:
        storage = cloud.connection.block_storage
        found = cloud.find("block_storage.types", name=self.name)
        if found is None:
            storage.create_type(name=self.name, extra_specs=self.specs, is_public=True)
        else:
            storage.update_type(found, is_public=True)
            storage.update_type_extra_specs(found, **self.specs)


@dataclass(frozen=True)
class VolumeService(Resource):
    """A service of block storage that the API shows as up, and its backend as one that volumes can be made on.

    :param binary: cinder-volume or cinder-backup
    :param host: as the API has it: the node, and after an @ the backend
    :param seconds: how long it is waited for after a start
    """

    on_runner: ClassVar[bool] = True
    binary: str
    host: str
    seconds: float = 300.0

    @property
    def title(self) -> str:
        return f"{self.binary} at {self.host}"

    def changes(self, context: Context) -> list[Change]:
        cloud = context.shared.get(Cloud)
        state = self._state(cloud)
        if state == "down":
            state = self._settled(cloud)
        if state == "up":
            return []

        def action() -> None:
            try:
                wait_for(f"{self.title} is up", lambda: self._state(cloud) == "up", self.seconds, every=2.0)
            except NotInTime as error:
                raise ActionError(
                    f"wait for {self.title}", output=f"{error}; the API says {self._state(cloud)}"
                ) from None

        difference = Difference(self.title, "up", state)
        return [Change(f"wait for {self.title}", (difference,), "", (action,))]

    def _settled(self, cloud: Cloud) -> str:
        try:
            wait_for(f"{self.title} is up", lambda: self._state(cloud) == "up", SETTLED, every=2.0)
        except NotInTime:
            return "down"
        return "up"

    def _state(self, cloud: Cloud) -> str:
        """What the API says of it; a backend of which the scheduler has not heard yet is none."""
        if not cloud.reachable():
            return "not known"
        try:
            storage = cloud.connection.block_storage
            services = {(each.binary, each.host): each.state for each in storage.services()}
            state = str(services.get((self.binary, self.host), "not known"))
            if state == "up" and self.binary == "cinder-volume":
                pools = [pool.name for pool in storage.backend_pools()]
                return state if any(name.startswith(f"{self.host}#") for name in pools) else "without a pool"
        except UNREADABLE:
            return "not known"
        return state
