"""A worker follows the events of the process that deploys: it knows which steps are done, and waits for no dead one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from stackspec.errors import StackspecError
from stackspec.lock import Lock
from stackspec.plugin.deployment import LEADS, Followed

STEP = {"event": "step", "step": "image", "node": "one", "state": "done"}


def events(path: Path, *entries: Mapping[str, object]) -> None:
    with path.open("a") as stream:
        stream.writelines(json.dumps(entry) + "\n" for entry in entries)


def follow(path: Path, nodes: dict[str, list[str]]) -> Followed:
    return Followed(path, nodes, lambda step: [step])


def test_follower_knows_the_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    followed = follow(path, {"identity": ["one"], "image": ["one", "two"]})
    failed = {**STEP, "step": "identity", "state": "failed", "error": "no database\nmore", "failed_at": "service"}
    blocked = {**STEP, "state": "blocked", "error": "blocked by identity on one", "cause": "identity on one"}
    events(path, failed, STEP)
    followed._read()
    assert not followed.done("image")
    events(path, blocked, {**STEP, "node": "two"})
    cause = followed.failure("image")
    assert cause is not None
    assert (cause.name, cause.first) == ("identity on one", "no database")
    assert cause.text.startswith("step identity on one failed at service\nno database\nmore")


def test_partial_line_is_read_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    followed = follow(path, {"image": ["one"]})
    text = json.dumps(STEP) + "\n"
    path.write_text(text[:20])
    followed._read()
    assert not followed.done("image")
    path.write_text(text)
    followed._read()
    assert followed.done("image")


def test_follower_of_an_ended_process_does_not_wait_forever(tmp_path: Path) -> None:
    """Its last events still count; before it starts, nothing is known."""
    path = tmp_path / "events.jsonl"
    leads = Lock(tmp_path / LEADS)
    leads.take("ann", "this run")
    assert Lock(tmp_path / LEADS).is_taken()
    events(path, {"event": "deploying"}, STEP)
    followed = follow(path, {"image": ["one", "two"], "compute": ["one"]})
    events(path, {**STEP, "node": "two"})
    leads.release()
    assert followed.failure("image") is None
    with pytest.raises(StackspecError, match="compute cannot be waited for: the deploying process has"):
        followed.wait("compute")
    with pytest.raises(StackspecError, match="the end of the deployment"):
        followed.join()
    events(path, {"event": "deployed"})
    followed.join()
