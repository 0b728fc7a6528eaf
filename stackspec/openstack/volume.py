"""Volume types and volume backends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..errors import ActionError
from ..resources.base import Change, Context, Difference, Resource
from ..waiting import NotInTime, wait_for
from .api_object import ApiObject, compare
from .cloud import SharedCloud
from .compute import UNREADABLE

SETTLED = 60.0
"""Seconds after which a service that is down has stopped: after power-on it is down until it reports."""


@dataclass(frozen=True)
class VolumeType(ApiObject):
    """A public volume type. The guide creates none (erratum E63).

    :param name: its name
    :param specs: extra specs for the backend, such as volume_backend_name
    """

    name: str
    specs: dict[str, str] = field(hash=False)

    @property
    def title(self) -> str:
        return f"volume type {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        found = cloud.find("block_storage.types", name=self.name)
        differences = compare(found, {"is_public": True}, self.title)
        specs = dict(found.extra_specs or {}) if found is not None else self.specs
        return differences + [
            Difference(f"{key} of {self.title}", value, str(specs.get(key)))
            for key, value in self.specs.items()
            if specs.get(key) != value
        ]

    def make(self, cloud: SharedCloud, context: Context) -> None:
        storage = cloud.connection.block_storage
        found = cloud.find("block_storage.types", name=self.name)
        if found is None:
            storage.create_type(name=self.name, extra_specs=self.specs, is_public=True)
        else:
            storage.update_type(found, is_public=True)
            storage.update_type_extra_specs(found, **self.specs)


@dataclass(frozen=True)
class VolumeService(Resource):
    """A block storage service that is up in the API, with a backend known to the scheduler.

    :param binary: cinder-volume or cinder-backup
    :param host: as in the API: the node, and after an @ the backend
    :param seconds: timeout after a start
    """

    on_runner: ClassVar[bool] = True
    binary: str
    host: str
    seconds: float = 300.0

    @property
    def title(self) -> str:
        return f"{self.binary} at {self.host}"

    def changes(self, context: Context) -> list[Change]:
        cloud = context.shared.get(SharedCloud)
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

    def _settled(self, cloud: SharedCloud) -> str:
        try:
            wait_for(f"{self.title} is up", lambda: self._state(cloud) == "up", SETTLED, every=2.0)
        except NotInTime:
            return "down"
        return "up"

    def _state(self, cloud: SharedCloud) -> str:
        """Its state in the API; "without a pool" if the scheduler does not know the backend yet."""
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
