"""Repairs leftovers of tests that are stuck in a state in which they cannot be deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from openstack import exceptions

from ..errors import StackspecError
from . import block_storage, load_balancer
from .kind import Found

if TYPE_CHECKING:
    from ..site import Site


def repair(connection: Any, objects: Sequence[Found], site: Site | None, *, admin: bool) -> Iterator[str]:
    """Repair stuck load balancers and volumes among `objects`; yield a line for each, or for the error.

    :param connection: to the cloud
    :param site: provides the start times of services; without it load balancers are not repaired
    :param admin: whether the connection is an administrator's; others may not repair volumes
    """
    try:
        if site is not None:
            keys = [each.key for each in objects if each.kind.name == "load_balancer"]
            yield from load_balancer.set_free(site, keys)
        if admin:
            yield from block_storage.set_right(connection, objects, site)
    except (StackspecError, exceptions.SDKException) as error:
        yield f"stuck objects could not be repaired: {type(error).__name__}: {error}"
