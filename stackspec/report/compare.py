"""`stackspec compare`: differences between two runs: versions, changes, outcomes, durations."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..masking import mask
from .events import find_run, read
from .model import RunReport, is_blocked, number

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

SLOWER, NOTICED = 1.5, 10.0
"""A duration counts as changed if it exceeds the other by this factor and by this many seconds."""


def add_parser(subparsers: Subparsers) -> None:
    """Add `stackspec compare RUN RUN` to a command line."""
    text = "show the differences between two runs: versions, changes on nodes, outcomes, durations"
    parser = subparsers.add_parser("compare", help=text, description=text)
    parser.add_argument("before", metavar="RUN", help="run id, or its folder or file")
    parser.add_argument("after", metavar="RUN", help="another")
    parser.set_defaults(func=command)


def command(arguments: argparse.Namespace) -> int:
    """Print the differences; status 1 if there are any.

    :raises InputError: there is no such run
    """
    runs = [RunReport.of(read(find_run(name))) for name in (arguments.before, arguments.after)]
    found = list(differences(*runs))
    for line in found:
        print(mask(line))
    if not found:
        print("no differences")
    return 1 if found else 0


def differences(before: RunReport, after: RunReport) -> Iterator[str]:
    """A line for each difference between two runs."""
    yield from _changed("", _about(before), _about(after))
    nodes = {*before.versions, *after.versions}
    for node in sorted(nodes):
        yield from _changed(f"{node}: ", _installed(before, node), _installed(after, node))
    yield from _changed("", _made(before), _made(after))
    yield from _changed("", _outcomes(before), _outcomes(after))
    yield from _durations(before, after)


def _changed(prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name, "absent"), after.get(name, "absent")
        if old != new:
            yield f"{prefix}{name}: {old} -> {new}"


def _about(run: RunReport) -> dict[str, Any]:
    """What was tested, and with what."""
    named = {name: run.about.get(name) or "none" for name in ("site", "release", "mode")}
    nodes = {"nodes": ", ".join(run.about.get("nodes") or []) or "none", "python": run.about.get("python")}
    return {**named, **nodes, **(run.about.get("versions") or {})}


def _installed(run: RunReport, node: str) -> dict[str, Any]:
    """System, kernel and packages of a node; all unknown if the run did not read them."""
    event = run.versions.get(node, {})
    return {"system": event.get("os"), "kernel": event.get("kernel"), **(event.get("packages") or {})}


def _made(run: RunReport) -> dict[str, str]:
    """What each step changed on each node."""
    return {
        f"{step} on {node}": f"{event.get('state')}, {len(event.get('changes') or [])} changes"
        for (step, node), event in run.steps.items()
    }


def _outcomes(run: RunReport) -> dict[str, str]:
    found = {}
    for nodeid, event in run.tests.items():
        reason = f" ({event['reason']})" if event.get("reason") else ""
        found[nodeid] = f"{'blocked' if is_blocked(event) else event.get('outcome')}{reason}"
    return found


def _durations(before: RunReport, after: RunReport) -> Iterator[str]:
    """Steps and tests of both runs whose durations differ."""
    for old, new, name in [
        *((before.steps[key], after.steps[key], f"{key[0]} on {key[1]}") for key in before.steps if key in after.steps),
        *((before.tests[key], after.tests[key], key) for key in before.tests if key in after.tests),
    ]:
        first, second = number(old.get("seconds")), number(new.get("seconds"))
        short, long = sorted((first, second))
        if long - short >= NOTICED and long >= SLOWER * short:
            yield f"{name}: {first:.1f} s -> {second:.1f} s"
