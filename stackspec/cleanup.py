"""`stackspec cleanup`: remove from a cloud what runs left there, and only that."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError
from .waiting import add_listener

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command `cleanup` to a command line."""
    text = "remove what runs left in a cloud (by their run id; nothing else is touched)"
    parser = subparsers.add_parser("cleanup", help=text, description=text)
    parser.add_argument("run", nargs="?", default="ss-", help="a run id or its beginning (default: of all runs)")
    parser.add_argument("--inventory", type=Path, help="the site; without it the cloud that OS_CLOUD names")
    parser.add_argument("--dry-run", action="store_true", help="only list it")
    parser.set_defaults(func=command)


def command(arguments: argparse.Namespace) -> int:
    """Run the command and return the exit status.

    :raises InputError: no cloud was named, or the inventory cannot be used
    """
    import openstack

    # Imported here: the engine knows no OpenStack, this command does.
    from .openstack import block_storage, mending, ownership
    from .openstack.cloud import CONNECT_RETRIES, connect
    from .session import enter_lab
    from .site import load_site

    if arguments.inventory is None and not os.environ.get("OS_CLOUD"):
        raise InputError("no cloud is named; give --inventory PATH or set OS_CLOUD")
    site = None
    if arguments.inventory is not None:
        site = load_site(arguments.inventory)
        enter_lab(site)
        connection = connect(site)
    else:
        connection = openstack.connect(cloud=os.environ["OS_CLOUD"], connect_retries=CONNECT_RETRIES)
    add_listener(lambda text: print(f"waiting: {text}", file=sys.stderr, flush=True))
    found = ownership.leftovers(connection, arguments.run)
    if arguments.dry_run:
        for each in found:
            print(each)
        if ownership.is_admin(connection):
            for left in block_storage.stuck(connection, found, block_storage.NodeClock(site)):
                print(left)
        return 0
    for line in mending.mend(connection, found, site, admin=ownership.is_admin(connection)):
        print(line)
    for line in ownership.destroy(found):
        print(line)
    return 0
