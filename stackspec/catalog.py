"""The catalog of a cloud: which services a validation can ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InputError
from .which_cloud import named_by

if TYPE_CHECKING:
    from .site import Site


class Catalog:
    """Service types of the cloud that the run validates; read once.

    :param site: the site, or None for a cloud of clouds.yaml
    :param cloud: that cloud's name, as `which_cloud` has decided
    """

    def __init__(self, site: Site | None, cloud: str = "") -> None:
        self._site = site
        self._cloud = cloud
        self._types: set[str] | None = None
        self._refusal: str | None = None

    def check(self) -> None:
        """See that the cloud that is named admits its user.

        :raises InputError: it does not
        """
        import openstack
        from keystoneauth1.exceptions import ClientException

        from .openstack.cloud import connect_named

        name = self._cloud
        try:
            connection: Any = connect_named(name)
            entries = connection.session.auth.get_access(connection.session).service_catalog.catalog
        except openstack.exceptions.ConfigException as error:
            raise InputError(f"{named_by(name)}: {error}; name a cloud of your clouds.yaml") from None
        except ClientException as error:
            raise InputError(f"{named_by(name)}: the cloud does not admit its user: {error}") from None
        self._types = {entry["type"] for entry in entries}

    def refusal(self) -> str:
        """Why the site's keystone does not let the administrator in, in one line; empty when it does. Asked once."""
        from keystoneauth1.exceptions import ClientException

        if self._site is not None and self._refusal is None:
            try:
                self.types()
                self._refusal = ""
            except ClientException as error:
                from .openstack.cloud import auth_url

                self._refusal = f"the administrator cannot log in at {auth_url(self._site)}: {error}"
        return self._refusal or ""

    def types(self) -> set[str]:
        """The service types."""
        if self._types is None and self._site is None:
            self.check()
        elif self._types is None and self._site is not None:
            from .openstack.cloud import connect

            connection: Any = connect(self._site)
            entries = connection.session.auth.get_access(connection.session).service_catalog.catalog
            self._types = {entry["type"] for entry in entries}
        return self._types or set()
