"""An object of an OpenStack API as a resource: looked up by name, created if missing, otherwise compared."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from keystoneauth1.exceptions import ClientException
from openstack.exceptions import SDKException

from ..errors import ActionError, CannotTell
from ..resources.base import Change, Context, Difference, Resource
from .cloud import SharedCloud


class ApiObject(Resource):
    """Created from the controlling machine as administrator."""

    on_runner: ClassVar[bool] = True

    @abstractmethod
    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        """The differences, based on the lists of `cloud`."""

    @abstractmethod
    def make(self, cloud: SharedCloud, context: Context) -> None:
        """Create or change the object to resolve all differences."""

    def prepare(self, context: Context) -> None:
        """Slow preparations without the API, such as a download: done before the lock is taken."""

    def changes(self, context: Context) -> list[Change]:
        cloud = context.shared.get(SharedCloud)
        try:
            differences = self.differences(cloud, context)
        except CannotTell as error:
            # Until the service runs, the object counts as missing; the action checks again.
            differences = [Difference(self.title, "present", f"cannot tell: {error}")]
        if not differences:
            return []

        def action() -> None:
            try:
                self.prepare(context)
                # Another step may have created it meanwhile: two chapters create nova's user.
                with cloud.certain():
                    if self.differences(cloud, context):
                        self.make(cloud, context)
            except (SDKException, ClientException) as error:
                raise ActionError(f"create {self.title}", output=f"{type(error).__name__}: {error}") from None
            finally:
                cloud.forget()

        return [Change(f"create {self.title}", tuple(differences), "", (action,))]


def not_ours(title: str, kind: str, found: Any, project: str, advice: str) -> ActionError:
    """The error for an object with the right name that somebody else created: it is neither changed nor deleted.

    :param title: what a step wants to change
    :param kind: its name in the `openstack` command
    :param advice: what to do, including how to hand it over to deployments
    """
    output = f"{kind} {found.id} of project {project} has this name, but was not created by a deployment"
    return ActionError(f"change {title}", output=output, advice=advice)


def compare(found: Any, wanted: dict[str, Any], of: str = "") -> list[Difference]:
    """Attributes of an API object that differ from `wanted`; the whole object if `found` is None."""
    if found is None:
        return [Difference(of, "present", "absent")]
    return [
        Difference(f"{of} {name}", repr(value), repr(getattr(found, name)))
        for name, value in wanted.items()
        if getattr(found, name) != value
    ]
