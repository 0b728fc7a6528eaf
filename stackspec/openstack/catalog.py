"""The cloud that a run validates: its services, logins, and leftovers of the run."""

from __future__ import annotations

from typing import Any

from keystoneauth1.exceptions import ClientException
from openstack.exceptions import ConfigException

from ..errors import InputError
from ..site import Site
from ..which_cloud import named_by
from . import ownership
from .cloud import auth_url, connect_named, open_cloud


class Catalog:
    """Service types of the cloud that the run validates; read once.

    :param site: the site, or None for a cloud of clouds.yaml
    :param cloud: that cloud's name, from `which_cloud`
    """

    def __init__(self, site: Site | None, cloud: str = "") -> None:
        self._site = site
        self._cloud = cloud
        self._types: set[str] | None = None
        self._refusal: str | None = None

    def check(self) -> None:
        """Check that the user can log in to the named cloud.

        :raises InputError: the login fails
        """
        name = self._cloud
        try:
            self._types = _types(connect_named(name))
        except ConfigException as error:
            reason = str(error).rstrip(".")
            raise InputError(f"{named_by(name)}: {reason}; choose a cloud of your clouds.yaml") from None
        except ClientException as error:
            raise InputError(f"{named_by(name)}: the user cannot log in to the cloud: {error}") from None

    def refusal(self) -> str:
        """Why the administrator cannot log in at the site's keystone, in one line; empty if the login works. Cached."""
        if self._site is not None and self._refusal is None:
            try:
                self.types()
                self._refusal = ""
            except ClientException as error:
                self._refusal = f"the administrator cannot log in at {auth_url(self._site)}: {error}"
        return self._refusal or ""

    def types(self) -> set[str]:
        """The service types."""
        if self._types is None and self._site is None:
            self.check()
        elif self._types is None:
            self._types = _types(open_cloud(self._site, self._cloud))
        return self._types or set()

    def leftovers(self, run_id: str, connection: Any | None = None) -> list[str]:
        """Remove the leftovers of a run; a line for each object, and for each that could not be removed.

        :param connection: the one used by its tests; by default a new one
        """
        return ownership.check_leftovers(connection or open_cloud(self._site, self._cloud), run_id, self._site)


def _types(connection: Any) -> set[str]:
    entries = connection.session.auth.get_access(connection.session).service_catalog.catalog
    return {entry["type"] for entry in entries}
