"""One deployment at a time: it locks its site and nodes first, and another one says who has them."""

from __future__ import annotations

import pytest

from stackspec.lock import Lock

from .plugin_runs import Runs, only_message


def test_nodes_are_locked_before_any_query_or_change(runs: Runs) -> None:
    """Facts read while waiting would be outdated when the other deployment ends."""
    assert runs.pytest("--deploy").ret == 0
    for name in ("one", "two", "three"):
        assert runs.node(name)["held"] == {"queries_sent": 0, "changes": 0}, name


def test_secrets_made_by_another_run_end_this_one(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackspec.secrets.Secrets.is_stale", lambda self: True)
    message = only_message(runs.pytest("--deploy"))
    assert message == "another deployment has written the secrets of site made-up meanwhile; start again"
    assert runs.node("one") == {}


def test_site_has_one_deployer(runs: Runs) -> None:
    """Planning and checking work in parallel; a killed run leaves no lock."""
    lock = Lock(runs.path / "state" / "sites" / "made-up" / "lock")
    lock.take("ann on desk (pid 1), since noon, run ss-1", "site made-up")
    message = only_message(runs.pytest("--deploy"))
    assert message.startswith(
        "site made-up is being deployed by ann on desk (pid 1), since noon, run ss-1; wait for it"
    )
    assert runs.node("one") == {}
    assert runs.pytest("--plan").ret == 0
    lock.release()
    assert runs.pytest("--deploy").ret == 0
