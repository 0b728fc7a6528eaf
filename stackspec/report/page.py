"""The report: one self-contained HTML page, rendered from the events of a run, finished or not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..lines import write_whole
from ..masking import mask
from ..secrets import Secrets
from . import html as parts
from .events import find_run, read
from .model import Event, RunReport
from .style import FRAME_STYLE, PAGE_STYLE, STYLE

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def render(events: Iterable[Event]) -> str:
    """The whole page for `events`: verdict and causes first, then timeline, steps, tests and versions.

    It loads nothing from the network and stays below 5 MB. Without an end event the verdict is that the run did not
    finish.
    """
    run, page = RunReport.of(events), parts.Page()
    body = [
        parts.verdict(run),
        parts.causes(run, page, attachments=True),
        parts.drawing(run),
        parts.numbers(run, page),
        parts.steps(run, page),
        parts.tests(run, page),
        parts.attached(run, page),
        parts.versions(run, page),
    ]
    word, line = run.verdict()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{parts.safe(f'{word}: {line}'[:200])}</title><style>{STYLE}{PAGE_STYLE}</style></head>"
        f'<body class="stackspec"><main>{"".join(body)}</main></body></html>\n'
    )


def sections(events: Iterable[Event]) -> list[str]:
    """The fragments for pytest-html's summary: everything except tests and their evidence, which its own table has."""
    run, page = RunReport.of(events), parts.Page(parts.PAGE // 2)
    first = parts.verdict(run) + parts.causes(run, page, attachments=False)
    rest = (parts.numbers(run, page), parts.steps(run, page), parts.versions(run, page))
    found = parts.join([first, parts.drawing(run), *rest])
    return [f"<style>{STYLE}{FRAME_STYLE}</style>{found[0]}", *found[1:]]


def write(events: Iterable[Event], path: Path) -> None:
    """Render `events` into the file at `path`, for its owner only.

    :raises OSError: it cannot be written
    """
    write_whole(path, render(events))


def add_parser(subparsers: Subparsers) -> None:
    """Add `stackspec report [RUN] [--output FILE]`; the parsed arguments carry the function to call as `func`."""
    parser = subparsers.add_parser("report", help="write the HTML report of a run, even of a killed one")
    parser.add_argument("run", nargs="?", metavar="RUN", help="run id, or its folder or file (default: the latest run)")
    parser.add_argument(
        "--output", metavar="FILE", help="where to write it, - for stdout (default: next to the run's events)"
    )
    parser.set_defaults(func=command)


def command(arguments: argparse.Namespace) -> int:
    """Run `stackspec report` and return the exit status.

    :raises InputError: there is no such run, or the file cannot be written
    """
    record = find_run(arguments.run)
    # Events are already masked when written; the site's secrets are read again if its state still exists.
    if (kept := record.parent.parent.parent / "secrets.json").is_file():
        Secrets(kept)
    events = read(record)
    if arguments.output == "-":
        sys.stdout.write(render(events))
        return 0
    target = Path(arguments.output) if arguments.output else record.with_name("report.html")
    try:
        write(events, target)
    except OSError as error:
        raise InputError(f"{target}: {error.strerror}") from None
    word, line = RunReport.of(events).verdict()
    print(f"{word}: {mask(line)}\n{target}")
    return 0
