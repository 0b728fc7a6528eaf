"""The timeline of a run as an inline SVG: one lane per node, one for the tests."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

from ..masking import mask
from .model import RunReport, number

WIDTH, LABELS, ROW, GAP = 1200, 110, 17, 10
"""Sizes in SVG units: total width, lane names, a row of bars, the gap between lanes."""
MOST_BARS = 1500
"""Maximum number of bars: the shortest are dropped first."""
BAD = ("failed", "error", "drift")
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200)


@dataclass(frozen=True)
class Bar:
    """A time span in a lane: `start` and `end` in seconds since the epoch, `kind` a class of the style sheet."""

    lane: str
    start: float
    end: float
    kind: str
    label: str
    title: str


def bars(run: RunReport) -> list[Bar]:
    """All time spans of `run`; unfinished ones extend to the last event."""
    found = []
    for (step, node), event in run.steps.items():
        start, seconds, state = number(event.get("time")), number(event.get("seconds")), str(event.get("state"))
        if state == "running":
            seconds = run.last - start
        if seconds > 0:
            count = len(event.get("changes") or [])
            title = f"{step} on {node}: {state}, {count} changes, {seconds:.1f} s"
            found.append(Bar(node, start, start + seconds, state, step, title))
    for node, event in run.packages.items():
        start, state = number(event.get("time")), str(event.get("state"))
        seconds = run.last - start if state == "running" else number(event.get("seconds"))
        kind = "packages" if state == "done" else state
        title = f"{event.get('count', '?')} packages on {node}: {state}, {seconds:.1f} s"
        found.append(Bar(node, start, start + seconds, kind, "packages", title))
    for nodeid, event in run.tests.items():
        start, outcome = number(event.get("start")), str(event.get("outcome"))
        seconds = run.last - start if outcome == "running" else number(event.get("seconds"))
        if start and (outcome != "skipped" or seconds > 0.5):
            label, title = nodeid.split("::", 1)[-1], f"{nodeid}: {outcome}, {seconds:.1f} s"
            found.append(Bar("tests", start, start + seconds, outcome, label, title))
    return found


def timeline(run: RunReport) -> str:
    """The drawing, or an empty text if there are no time spans."""
    every = bars(run)
    drawn = sorted(every, key=lambda bar: (bar.kind in BAD, bar.end - bar.start))[-MOST_BARS:]
    if not drawn:
        return ""
    first, last = min(bar.start for bar in drawn), max(bar.end for bar in drawn)
    span = max(last - first, 0.001)
    scale = (WIDTH - LABELS - 5) / span
    lanes = [*dict.fromkeys([*(str(name) for name in run.about.get("nodes") or []), *_nodes(drawn)]), "tests"]
    parts: list[str] = []
    top = 24
    for lane in lanes:
        rows = _rows([bar for bar in drawn if bar.lane == lane])
        if not rows:
            continue
        parts.append(f'<text class="lane" x="0" y="{top + 12}">{_safe(lane[:16])}</text>')
        for index, row in enumerate(rows):
            parts += [_bar(bar, first, scale, top + index * ROW) for bar in row]
        top += len(rows) * ROW + GAP
        parts.append(f'<line class="rule" x1="0" x2="{WIDTH}" y1="{top - GAP / 2:g}" y2="{top - GAP / 2:g}"/>')
    svg = (
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {top}" role="img" aria-label="Timeline of steps and tests">'
        f"{''.join(_axis(span, scale, top))}{''.join(parts)}</svg>"
    )
    left = len(every) - len(drawn)
    return svg + (f'<p class="cut">{left} shorter bars are not drawn.</p>' if left else "")


def _nodes(drawn: Iterable[Bar]) -> list[str]:
    return [bar.lane for bar in sorted(drawn, key=lambda bar: bar.start) if bar.lane != "tests"]


def _rows(lane: list[Bar]) -> list[list[Bar]]:
    """Bars of a lane in as few rows as possible without overlap; failures are drawn on top."""
    rows: list[list[Bar]] = []
    ends: list[float] = []
    for bar in sorted(lane, key=lambda each: (each.start, -each.end)):
        free = next((index for index, end in enumerate(ends) if end <= bar.start + 0.02), len(rows))
        if free == len(rows):
            rows.append([])
            ends.append(0.0)
        rows[free].append(bar)
        ends[free] = bar.end
    return [sorted(row, key=lambda bar: bar.kind in BAD) for row in rows]


def _bar(bar: Bar, first: float, scale: float, top: float) -> str:
    left = LABELS + (bar.start - first) * scale
    width = max((bar.end - bar.start) * scale - 1, 1.5)  # one less, so that adjacent bars are distinguishable
    kind = "".join(letter for letter in bar.kind if letter.isalpha())
    rect = f'<rect class="bar {kind}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 3}" rx="2"/>'
    room = int((width - 6) / 6.2)
    label = bar.label if len(bar.label) <= room else bar.label[: room - 1] + "\u2026" if room > 4 else ""
    text = f'<text class="in" x="{left + 4:.1f}" y="{top + 10.5:g}">{_safe(label)}</text>' if label else ""
    return f"<g><title>{_safe(bar.title)}</title>{rect}{text}</g>"


def _axis(span: float, scale: float, bottom: float) -> Iterable[str]:
    tick = next((each for each in TICKS if span / each <= 12), span)
    for index in range(int(span / tick) + 1):
        x, moment = LABELS + index * tick * scale, index * tick
        anchor = ' text-anchor="end"' if x > WIDTH - 40 else ""
        yield f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{bottom}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="11"{anchor}>{_moment(moment)}</text>'


def _moment(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _safe(text: str) -> str:
    return html.escape(mask(text)[:300])
