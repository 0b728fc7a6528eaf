"""APIs with several versions in openstacksdk, typed as the current version.

A connection types them as a union of all versions, of which the older ones lack most calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from openstack.block_storage.v3._proxy import Proxy as BlockStorage
    from openstack.connection import Connection
    from openstack.identity.v3._proxy import Proxy as Identity
    from openstack.image.v2._proxy import Proxy as Image


def identity_v3(connection: Connection) -> Identity:
    """The identity API of a connection."""
    return cast("Identity", connection.identity)


def image_v2(connection: Connection) -> Image:
    """The image API of a connection."""
    return cast("Image", connection.image)


def block_storage_v3(connection: Connection) -> BlockStorage:
    """The block storage API of a connection."""
    return cast("BlockStorage", connection.block_storage)
