"""The parts of the report as HTML: every text is escaped, masked, and cut if the page would become too large."""

from __future__ import annotations

import html
import re
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from ..masking import mask
from .model import BAD_TESTS, Cause, Event, RunReport, is_blocked, number, plural
from .timeline import timeline

ERROR, DIFF, LOG, PICTURE = 16_000, 8_000, 32_000, 600_000
"""Maximum characters of an error, a diff, a log tail; maximum base64 bytes of a picture."""
CELL = 500
"""Maximum characters of a text in a table."""
LOOK = {
    "cloud": "the cloud, which did or answered something unexpected",
    "node": "the named node",
    "suite": "the suite itself, whose test crashed: the cloud may be fine",
    "time": "what the test waited for, and why that takes so long",
}
"""Where to look first, by kind of failure."""
PAGE, ROWS = 3_000_000, 900_000
"""Budget in bytes for texts and pictures, and for tables; with the timeline below 5 MB in total."""
FULL = '<p class="cut">Omitted: the page is full. See the record of the run.</p>'
JPEG = "/9j/"
"""Start of every JPEG in base64."""
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
PRE = re.compile(r"(?s)<pre>.*?</pre>")


class Page:
    """Writes texts until the budget of the page is spent.

    :param budget: bytes
    """

    def __init__(self, budget: int = PAGE) -> None:
        self.left = budget
        self.rows = ROWS
        self._refused = sys.maxsize

    def text(self, text: Any, limit: int = ERROR, *, head: float = 0.25, diff: bool = False) -> str:
        """A `<pre>` with `text`, cut to `limit` characters.

        :param head: fraction taken from the beginning; the rest is taken from the end
        :param diff: whether added and removed lines are coloured
        """
        whole = str(text)
        size = min(len(whole), limit)
        if size >= self._refused:
            return FULL
        kept, cut = clip(mask(_near(whole, limit)), limit, head)
        cut = max(cut, len(whole) - limit)
        body = _diff(kept) if diff else html.escape(kept)
        if not self._take(body):
            self._refused = size  # so that further texts that do not fit are not even masked
            return FULL
        note = f'<p class="cut">{cut} characters were cut out.</p>' if cut else ""
        return f"<pre>{body}</pre>{note}"

    def picture(self, event: Event) -> str:
        """A screenshot (PNG or JPEG), unless it is too large."""
        title, data = safe(event.get("title") or "screenshot"), str(event.get("base64") or "")
        if not BASE64.fullmatch(data) or len(data) > PICTURE or not self._take(data):
            return f'<p class="cut">{title}: omitted, the picture is too large. See the record of the run.</p>'
        kind = "jpeg" if data.startswith(JPEG) else "png"
        return f'<p>{title}</p><img alt="{title}" src="data:image/{kind};base64,{data}">'

    def table(self, head: str, rows: list[str]) -> str:
        """A table with as many of `rows` as fit on the page; their texts are already counted."""
        kept: list[str] = []
        for row in rows:
            self.rows -= len(PRE.sub("", row).encode(errors="replace"))
            if self.rows < 0:
                break
            kept.append(row)
        left = len(rows) - len(kept)
        note = f'<p class="cut">{left} more rows are not shown.</p>' if left else ""
        return f"<table>{head}{''.join(kept)}</table>{note}"

    def _take(self, body: str) -> bool:
        size = len(body.encode(errors="replace"))
        if size > self.left:
            return False
        self.left -= size
        return True


def safe(value: Any, limit: int = CELL) -> str:
    """`value` as text, masked, cut to `limit` characters and escaped for HTML."""
    text = mask(_near(str(value), limit))
    return html.escape(text if len(text) <= limit else text[:limit] + "...")


def _near(text: str, limit: int) -> str:
    """`text` reduced to the surroundings of the part that `limit` keeps, so that masking does not process megabytes.

    Masking also covers fragments of a secret at this cut, next to an ellipsis.
    """
    reach = limit + 1000
    return text if len(text) <= 2 * reach else f"{text[:reach]}...{text[-reach:]}"


def clip(text: str, limit: int, head: float) -> tuple[str, int]:
    """`text` cut in the middle to about `limit` characters, and the number of characters removed."""
    if len(text) <= limit:
        return text, 0
    first = int(limit * head)
    last = limit - first
    gone = len(text) - limit
    return f"{text[:first]}\n[... {gone} characters cut ...]\n{text[len(text) - last :] if last else ''}", gone


def verdict(run: RunReport) -> str:
    """The verdict line and the run's identity."""
    word, line = run.verdict()
    kind = "good" if word == "PASSED" else "bad" if run.causes or word in ("FAILED", "INTERNAL ERROR") else ""
    about = run.about
    facts = [str(about[key]) for key in ("mode", "site", "release") if about.get(key)]
    if start := number(about.get("time")):
        facts.append(time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(start)))
        facts.append(f"{run.last - start:.1f} s")
    title = f"stackspec run {about.get('run', '')}: {', '.join(facts)}" if about else "stackspec"
    return f'<h1>{safe(title)}</h1><p class="verdict {kind}"><b>{word}:</b>{safe(line, 2000)}</p>'


def causes(run: RunReport, page: Page, attachments: bool) -> str:
    """What failed, each with its error and, if `attachments`, its evidence."""
    found = run.causes
    if not found:
        return ""
    parts = [f"<h2>{'Cause' if len(found) == 1 else f'{len(found)} causes'}</h2>"]
    parts += [_cause(run, cause, page, attachments) for cause in found[:50]]
    if len(found) > 50:
        parts.append(f'<p class="cut">{len(found) - 50} more are in the tables below.</p>')
    return "".join(parts)


def _cause(run: RunReport, cause: Cause, page: Page, attachments: bool) -> str:
    parts = [f"<h3>{safe(cause.brief or cause.title, 2000)}</h3>"]
    if cause.brief:
        where = f"{cause.title}, at: {cause.at}" if cause.at else cause.title
        parts.append(f'<p class="dim">{safe(where)}</p>')
    if cause.kind:
        parts.append(f"<p>Look first at: {safe(LOOK.get(cause.kind, cause.kind))}.</p>")
    if cause.again:
        parts.append(f"<p>To run it again: <code>{safe(cause.again, 2000)}</code></p>")
    if cause.text and cause.nodeid:
        parts.append(f"<details><summary>traceback</summary>{page.text(cause.text)}</details>")
    elif cause.text:
        parts.append(page.text(cause.text))
    if cause.blocked:
        names = "".join(f"<li>{safe(name)}</li>" for name in cause.blocked[:200])
        count = len(cause.blocked)
        title = f"blocked {count} {plural(count, 'other')}"
        parts.append(f"<details><summary>{title}</summary><ul>{names}</ul></details>")
    if attachments:
        owners = [cause.nodeid] if cause.nodeid else [name for name in cause.blocked if name in run.tests]
        for nodeid in owners:
            parts += [evidence(each, page) for each in run.evidence.get(nodeid, [])]
    return f'<div class="cause">{"".join(parts)}</div>'


def evidence(item: Event, page: Page) -> str:
    """A picture, or the end of a text, folded."""
    if "base64" in item:
        return page.picture(item)
    title = str(item.get("title") or "log") + (f" on {item['node']}" if item.get("node") else "")
    return f"<details><summary>{safe(title)}</summary>{page.text(item.get('text', ''), LOG, head=0)}</details>"


def drawing(run: RunReport) -> str:
    """The timeline with its legend."""
    svg = timeline(run)
    if not svg:
        return ""
    kinds = {"done": "step", "packages": "packages", "passed": "test passed", "failed": "failed"}
    if run.end is None:
        kinds["running"] = "unfinished"
    legend = "".join(
        f'<span><svg viewBox="0 0 12 12"><rect class="bar {kind}" width="12" height="12" rx="2"/></svg>{name}</span>'
        for kind, name in kinds.items()
    )
    return f'<h2>Timeline</h2><p class="legend">{legend}</p><div class="scroll">{svg}</div>'


def steps(run: RunReport, page: Page) -> str:
    """A row for each step on each node."""
    if not run.steps:
        return ""
    rows = []
    for (step, node), event in run.steps.items():
        changes = event.get("changes") or []
        state = str(event.get("state"))
        details = "".join(_change(change, page) for change in changes)
        if details:
            details = f"<details><summary>{len(changes)} {plural(len(changes), 'change')}</summary>{details}</details>"
        if error := event.get("error"):
            details = f"{safe(str(error).splitlines()[0])}{details}"
        rows.append(
            f'<tr><td>{safe(step)}</td><td>{safe(node)}</td><td class="state {safe(state)}">{safe(state)}</td>'
            f'<td class="n">{len(changes)}</td><td class="n">{number(event.get("seconds")):.1f}</td>'
            f"<td>{details}</td></tr>"
        )
    numbers = '<th class="n">changes</th><th class="n">seconds</th>'
    head = f"<tr><th>step</th><th>node</th><th>state</th>{numbers}<th></th></tr>"
    return f"<h2>Steps</h2>{page.table(head, rows)}"


def _change(change: Any, page: Page) -> str:
    if not isinstance(change, dict):
        return f"<p>{safe(change)}</p>"
    diff = str(change.get("diff") or "")
    return f"<p>{safe(change.get('title', ''))}</p>{page.text(diff, DIFF, head=0.7, diff=True) if diff.strip() else ''}"


def tests(run: RunReport, page: Page) -> str:
    """A row for each test, the failed ones first."""
    if not run.tests:
        return ""
    flaky = set(run.flaky)
    rank = {"failed": 0, "error": 0, "running": 1, "skipped": 2}
    rows = []
    for nodeid, event in sorted(run.tests.items(), key=lambda each: rank.get(str(each[1].get("outcome")), 3)):
        outcome = "blocked" if is_blocked(event) else "flaky" if nodeid in flaky else str(event.get("outcome"))
        details = safe(
            "; ".join(str(text) for text in (event.get("reason"), *(event.get("notes") or ())) if text), 1000
        )
        if outcome in BAD_TESTS and event.get("longrepr"):
            details += f"<details><summary>traceback</summary>{page.text(event['longrepr'])}</details>"
        needs = ", ".join(str(name) for name in event.get("steps") or [])
        rows.append(
            f'<tr><td>{safe(nodeid)}</td><td class="state {safe(outcome)}">{safe(outcome)}</td>'
            f'<td class="n">{number(event.get("seconds")):.2f}</td><td class="dim">{safe(needs)}</td>'
            f"<td>{details}</td></tr>"
        )
    head = '<tr><th>test</th><th>outcome</th><th class="n">seconds</th><th>steps</th><th></th></tr>'
    return f"<h2>Tests</h2>{page.table(head, rows)}"


def numbers(run: RunReport, page: Page) -> str:
    """A row for each duration measured by tests."""
    if not run.samples:
        return ""
    rows = [
        f'<tr><td>{safe(what)}</td><td class="n">{len(samples)}</td>'
        f'<td class="n">{statistics.median(samples):.1f}</td><td class="n">{max(samples):.1f}</td></tr>'
        for what, samples in run.samples.items()
    ]
    titles = "".join(f'<th class="n">{title}</th>' for title in ("samples", "median, seconds", "slowest, seconds"))
    head = f"<tr><th>what</th>{titles}</tr>"
    return f"<h2>Numbers</h2>{page.table(head, rows)}"


def attached(run: RunReport, page: Page) -> str:
    """Evidence of tests that did not fail; evidence of failed tests is shown with their cause."""
    failed = {cause.nodeid for cause in run.causes}
    parts = []
    for nodeid, events in run.evidence.items():
        if nodeid not in failed:
            found = "".join(evidence(event, page) for event in events)
            parts.append(f"<details><summary>{safe(nodeid)}</summary>{found}</details>")
    return f"<h2>Evidence</h2>{''.join(parts)}" if parts else ""


def versions(run: RunReport, page: Page) -> str:
    """Versions: the suite and its libraries, each node's system, and every package, with differences between nodes."""
    about, found = run.about, []
    own = {"python": about.get("python"), **(about.get("versions") or {})}
    names = [f"<tr><td>{safe(key)}</td><td>{safe(value)}</td></tr>" for key, value in own.items() if value]
    if names:
        found.append(f"<details><summary>this suite and its libraries</summary>{page.table('', names)}</details>")
    if argv := about.get("argv"):
        command = " ".join(map(str, argv)) if isinstance(argv, list) else argv
        found.append(f'<p class="dim">started as: {safe(command, 2000)}</p>')
    for node, event in run.versions.items():
        found.append(f"<p>{safe(node)}: {safe(event.get('os', ''))}, kernel {safe(event.get('kernel', ''))}</p>")
    packages: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for node, event in run.versions.items():
        for name, version in (event.get("packages") or {}).items():
            packages[name][str(version)].append(node)
    if packages:
        rows = [
            f"<tr><td>{safe(name)}</td><td>{_where(which, len(run.versions))}</td></tr>"
            for name, which in sorted(packages.items())
        ]
        found.append(f"<details><summary>{len(rows)} packages</summary>{page.table('', rows)}</details>")
    return f"<h2>Versions</h2>{''.join(found)}" if found else ""


def _where(found: dict[str, list[str]], nodes: int) -> str:
    """The version, or each version with its nodes if they differ."""
    if len(found) == 1 and len(next(iter(found.values()))) == nodes:
        return safe(next(iter(found)))
    parts = [f'{safe(version)} <span class="dim">{safe(", ".join(where))}</span>' for version, where in found.items()]
    return "<br>".join(parts)


def _diff(text: str) -> str:
    kinds = {"+": "add", "-": "del", "@": "at"}
    return "".join(_diff_line(line, kinds.get(line[:1])) for line in text.splitlines())


def _diff_line(line: str, kind: str | None) -> str:
    return f'<span class="{kind}">{html.escape(line)}</span>' if kind else html.escape(line) + "\n"


def join(parts: Iterable[str]) -> list[str]:
    """The non-empty parts, each in its own block."""
    return [f'<section class="stackspec">{part}</section>' for part in parts if part]
