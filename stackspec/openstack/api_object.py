"""An object of an OpenStack API as a resource: looked up by name, created when missing, compared when there."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from keystoneauth1.exceptions import ClientException
from openstack.exceptions import SDKException

from ..errors import ActionError, CannotTell
from ..resources.base import Change, Context, Difference, Resource
from .cloud import Cloud


class ApiObject(Resource):
    """Made from the controlling machine as administrator."""

    on_runner: ClassVar[bool] = True

    @abstractmethod
    def differences(self, cloud: Cloud, context: Context) -> list[Difference]:
        """What differs, by the lists of `cloud`."""

    @abstractmethod
    def make(self, cloud: Cloud, context: Context) -> None:
        """Create or change the object so that nothing differs."""

    def prepare(self, context: Context) -> None:
        """What takes long and needs no API, such as having a file: done before others are kept waiting."""

    def changes(self, context: Context) -> list[Change]:
        cloud = context.shared.get(Cloud)
        try:
            differences = self.differences(cloud, context)
        except CannotTell as error:
            # Before the service runs it is as if it were not there; the action looks again.
            differences = [Difference(self.title, "there", f"cannot tell: {error}")]
        if not differences:
            return []

        def action() -> None:
            try:
                self.prepare(context)
                # Another step may have made it meanwhile: two chapters name nova's user.
                with cloud.certain():
                    if self.differences(cloud, context):
                        self.make(cloud, context)
            except (SDKException, ClientException) as error:
                raise ActionError(f"make {self.title}", output=f"{type(error).__name__}: {error}") from None
            finally:
                cloud.forget()

        return [Change(f"make {self.title}", tuple(differences), "", (action,))]


def not_ours(title: str, kind: str, found: Any, project: str, advice: str) -> ActionError:
    """The error of an object that has the name and that somebody else made: it is neither changed nor deleted.

    :param title: what a step wants to change
    :param kind: what the `openstack` command calls it
    :param advice: how to go on, also by handing it over to deployments
    """
    output = f"{kind} {found.id} of project {project} has this name, and no deployment made it"
    return ActionError(f"change {title}", output=output, advice=advice)


def compare(found: Any, wanted: dict[str, Any], of: str = "") -> list[Difference]:
    """Attributes of an API object that differ from `wanted`; all of it when `found` is None."""
    if found is None:
        return [Difference(of, "there", "not there")]
    return [
        Difference(f"{of} {name}", repr(value), repr(getattr(found, name)))
        for name, value in wanted.items()
        if getattr(found, name) != value
    ]
