"""`stackspec faults`: inject faults into a deployed site, and check that the tests catch them and name the cause."""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..fault_injection.fault import Fault, catalogue, chosen
from ..fault_injection.run import digest, site_for_faults, try_fault, verdicts_of
from ..reach import reach
from ..report.model import plural
from ..site import default_inventory
from ..which_cloud import which_cloud

if TYPE_CHECKING:
    from ..site import Site

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command `faults` to a command line."""
    text = "inject faults into a deployed site, one at a time, and check that the tests catch them and name the cause"
    commands = subparsers.add_parser("faults", help=text, description=text).add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = commands.add_parser("list", help="list the catalogue, with the result of each fault")
    trying = commands.add_parser("run", help="try faults; those already caught and named are skipped")
    trying.add_argument("name", nargs="*", help="faults or kinds of faults (default: all)")
    trying.add_argument(
        "--everything", action="store_true", help="also run all of tests/infra, not only the tests that should catch it"
    )
    trying.add_argument("--again", action="store_true", help="include those already caught and named")
    trying.add_argument("--some", type=int, metavar="N", help="only N of them, different ones each day, no slow ones")
    trying.add_argument("--within", type=float, metavar="SECONDS", help="start no further fault after this time")
    trying.add_argument(
        "--break-site", metavar="NAME", help="confirm the name of a site that is not a lab: its services will be broken"
    )
    undoing = commands.add_parser("undo", help="undo the faults left by a killed run")
    for parser in (listing, trying, undoing):
        parser.add_argument("--inventory", type=Path, help="the site (default: the embedded lab)")
    listing.set_defaults(func=show)
    trying.set_defaults(func=run)
    undoing.set_defaults(func=undo)


def _site(arguments: argparse.Namespace) -> Site:
    site = which_cloud(arguments.inventory, default_inventory(), nodes=True).site
    assert site is not None
    return site


def show(arguments: argparse.Namespace) -> int:
    """Print the catalogue."""
    known = verdicts_of(_site(arguments)).read()
    for fault in catalogue().values():
        print(f"{fault.kind:14} {fault.name}: {fault.what}")
        if fault.name in known:
            print(f"{'':14} {known[fault.name]}")
    return 0


def undo(arguments: argparse.Namespace) -> int:
    """Undo all faults on a site's nodes."""
    site = _site(arguments)
    site, _ = reach(site)
    with site_for_faults(site):
        return 0


def some_of(faults: list[Fault], count: int, day: datetime.date) -> list[Fault]:
    """This many faults, spread over all kinds; different ones each day, in turn."""
    start = day.toordinal()
    stride = max(1, len(faults) // count)
    return [
        faults[(start + index * stride + day.toordinal()) % len(faults)] for index in range(min(count, len(faults)))
    ]


def run(arguments: argparse.Namespace) -> int:
    """Try faults, print and record the results; status 1 if one was not caught, not named, or not clean.

    :raises InputError: the site is not a lab and was not confirmed
    """
    site = _site(arguments)
    if site.inventory.lab is None and arguments.break_site != site.name:
        raise InputError(f"{site.name} is not a lab; faults break its services: confirm with --break-site {site.name}")
    faults = chosen(catalogue(), arguments.name) if arguments.name else list(catalogue().values())
    if arguments.some:
        faults = some_of([fault for fault in faults if not fault.slow], arguments.some, datetime.date.today())
    # Undo active faults even when interrupted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    site, _ = reach(site)
    kept = verdicts_of(site)
    known = kept.read()
    verdicts = []
    with site_for_faults(site) as nodes:
        todo = []
        for fault in faults:
            old = known.get(fault.name)
            if old is None or arguments.again or not old.good or old.digest != digest(fault, arguments.everything):
                todo.append(fault)
            else:
                verdicts.append(old)
        until = time.monotonic() + (arguments.within or float("inf"))
        for fault in todo:
            if time.monotonic() > until:
                print(f"{len(todo) - todo.index(fault)} of them not started within {arguments.within:g} s", flush=True)
                break
            verdict = try_fault(site, nodes, fault, arguments.everything, lambda text: print(text, flush=True))
            kept.add(verdict)
            verdicts.append(verdict)
            print(verdict, flush=True)
    good = [verdict for verdict in verdicts if verdict.good]
    caught = [verdict for verdict in verdicts if verdict.caught]
    named = [verdict for verdict in verdicts if verdict.named]
    print(
        f"{len(verdicts)} {plural(len(verdicts), 'fault')}: {len(caught)} caught, {len(named)} named by the first line,"
        f" {sum(verdict.clean for verdict in verdicts)} clean when undone"
    )
    return 0 if len(good) == len(verdicts) else 1
