"""Shared by the benchmarks: the site, the table of results, and the state of the machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from stackspec.cloud_inventory import load_site
from stackspec.errors import StackspecError
from stackspec.site import Site, default_inventory


def arguments(description: str | None, *, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser with the common options of all benchmarks.

    :param rounds: default of --rounds; None: the benchmark has no rounds
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--inventory", type=Path, default=default_inventory(), help="default: the embedded lab's")
    if rounds is not None:
        parser.add_argument("--rounds", type=_positive, default=rounds, help="default: %(default)s")
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("one round or more")
    return number


def main(run: Callable[[], int]) -> None:
    """Exit with the status from `run`; input errors print one message and exit with 4."""
    try:
        sys.exit(run())
    except StackspecError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(4)


def site_of(inventory: Path) -> Site:
    """The site of an inventory."""
    return load_site(inventory)


def machine() -> str:
    """Number and load of the processors, without which results are meaningless."""
    return f"machine: {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"


def spread(values: list[float], unit: str = "s", digits: int = 2) -> str:
    """Median, and the range if there is more than one value."""
    text = f"{median(values):.{digits}f} {unit}"
    if len(values) > 1:
        text += f" ({min(values):.{digits}f} to {max(values):.{digits}f}, {len(values)} rounds)"
    return text
