"""`stackspec cleanup`: remove the leftovers of runs from a cloud, and nothing else."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..reach import reach
from ..report.events import find_run
from ..report.running import running
from ..waiting import add_listener
from ..which_cloud import which_cloud

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command `cleanup` to a command line."""
    text = "remove objects that runs left in a cloud (by run id; nothing else is touched)"
    parser = subparsers.add_parser("cleanup", help=text, description=text)
    parser.add_argument("run", nargs="?", help="the id of a run")
    parser.add_argument("--all", action="store_true", help="all runs older than --older-than")
    parser.add_argument("--older-than", type=float, metavar="HOURS", help="with --all: minimum age of the runs")
    parser.add_argument("--inventory", type=Path, help="the site (default: the existing cloud)")
    parser.add_argument(
        "--os-cloud", metavar="NAME", help="an entry of clouds.yaml (default: $OS_CLOUD, or OS_AUTH_URL)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only list the objects")
    parser.set_defaults(func=command)


ELSEWHERE = datetime.timedelta(hours=12)
"""A run started on another machine may still be active for this long."""


def _is_recorded(run: str) -> bool:
    """Whether this machine has a record of the run."""
    try:
        return bool(find_run(run))
    except InputError:
        return False


def chosen(arguments: argparse.Namespace, at_work: Collection[str]) -> Callable[[str], bool]:
    """A function that tells whether the objects of a run id are to be removed.

    :param at_work: ids of active runs, which are never touched
    :raises InputError: neither a run nor an age is given, the run id is invalid, or that run may be active
    """
    # Imported here, as below: other commands do not need the client, which takes a second to load.
    from ..openstack.run_names import age, run_of

    run, hours = arguments.run, arguments.older_than
    if run is not None and (arguments.all or hours is not None):
        raise InputError(f"both the run {run} and --all --older-than were given; give one of them")
    if run is not None:
        if run_of(run) != run:
            raise InputError(f"{run!r} is not a run id; --dry-run alone lists leftovers with their run ids")
        if run in at_work and not arguments.dry_run:
            raise InputError(f"run {run} is still active on this machine; wait for it to end, or stop it first")
        if not arguments.dry_run and age(run) < ELSEWHERE and not _is_recorded(run):
            raise InputError(
                f"run {run} has no record on this machine, so it may be active elsewhere; when it has ended, remove "
                "its leftovers there, or here with --all --older-than HOURS"
            )
        return lambda each: bool(each == run)
    if arguments.all and hours is not None and hours > 0:
        limit = datetime.timedelta(hours=hours)
        return lambda each: each not in at_work and age(each) >= limit
    if arguments.dry_run and not arguments.all and hours is None:
        return lambda each: True
    raise InputError(
        "specify what to remove: a run id, or --all --older-than HOURS (more than 0); --dry-run alone lists everything"
    )


def command(arguments: argparse.Namespace) -> int:
    """Run the command and return the exit status: 1 if something could not be listed or removed.

    :raises InputError: no cloud or two clouds named, no run named, the run is active, or the inventory is invalid
    """
    from keystoneauth1.exceptions import ClientException
    from openstack.exceptions import SDKException

    from ..openstack import block_storage, ownership
    from ..openstack.cloud import open_cloud

    at_work = running()
    meant = chosen(arguments, at_work)
    cloud = which_cloud(arguments.inventory, None, cloud=arguments.os_cloud)
    site = cloud.site
    if site is not None:
        site, _ = reach(site)
    add_listener(lambda text: print(f"waiting: {text}", file=sys.stderr, flush=True))
    try:
        connection = open_cloud(site, cloud.name)
        found = ownership.leftovers(connection, meant)
    except (SDKException, ClientException) as error:
        print(
            f"stackspec: cannot list leftovers, nothing was removed: {type(error).__name__}: {error}",
            file=sys.stderr,
        )
        return 1
    if arguments.dry_run:
        for each in found:
            print(each)
        if ownership.is_admin(connection):
            for left in block_storage.stuck(connection, found, block_storage.NodeClock(site)):
                print(left)
        return 0
    repaired, problems = ownership.remove(connection, found, site)
    for line in [*repaired, *problems]:
        print(line)
    return 1 if problems else 0
