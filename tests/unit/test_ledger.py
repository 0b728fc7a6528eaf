"""The ledger of a site's steps: the latest entry of each counts, and none contains a secret."""

from __future__ import annotations

from pathlib import Path

from stackspec.engine import Event
from stackspec.ledger import Ledger
from stackspec.resources import File
from stackspec.site import Site
from stackspec.task import plan_of

from . import engine_runs
from .engine_runs import Prepared, command, declare, deploy

site = engine_runs.site


def test_errors_events_and_ledger_contain_no_secret(site: Site) -> None:
    secret = site.password("nova")
    declare("a", File("/etc/a", f"password = {secret}\n"), command("a"))
    broken = {"what": "do a", "output": f"access denied for nova with {secret}"}
    Prepared.prepared = {"one": {"broken": {"command do a": broken}}}
    events: list[Event] = []
    engine = deploy(site, listen=events.append)
    assert "access denied for nova with ******" in engine.tasks[0].error
    diffs = [change["diff"] for event in events if event["event"] == "step" for change in event["changes"]]
    assert any("+password = ******" in diff for diff in diffs)
    assert all(diffs), "what has no diff says what differs"
    assert site.state is not None
    assert secret not in repr(events) + (site.state / "ledger.jsonl").read_text()


def test_ledger_keeps_the_latest_entry_and_tolerates_a_partial_line(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state")
    assert ledger.last() == {}
    event = {"step": "a", "node": "one", "time": 1.0, "seconds": 0.5, "error": "", "changes": [{}]}
    ledger.write({**event, "state": "running"}, "abc")
    file = tmp_path / "state" / "ledger.jsonl"
    with file.open("a") as stream:
        stream.write('{"step": "a", "no')
    ledger.write({**event, "state": "done"}, "abc")
    assert ledger.last()["a", "one"] == {**event, "state": "done", "changes": 1, "declaration": "abc"}
    assert file.stat().st_mode & 0o777 == 0o600
    with file.open("a") as stream:
        stream.write('{}\n"text"\n[1]\n')
    assert ledger.last()["a", "one"]["state"] == "done"


def test_no_ledger_without_a_state_directory(tmp_path: Path) -> None:
    ledger = Ledger(None)
    ledger.write({}, "")
    assert ledger.last() == {}


def test_digest_changes_with_the_declaration(site: Site) -> None:
    declare("a", File("/etc/a", "1"))
    first = plan_of(site)[0].digest
    assert plan_of(site)[0].digest == first
    declare("a", File("/etc/a", "2"))
    assert plan_of(site)[0].digest != first
