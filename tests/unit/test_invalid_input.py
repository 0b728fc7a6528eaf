"""Invalid input: one message, status 4, no change."""

from __future__ import annotations

import pytest

from .plugin_runs import Runs, only_message


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"site.yaml": "site: made-up\nsiet: x\n"}, [], "unknown key 'siet'"),
        ({}, ["--inventory", "nowhere.yaml"], "nowhere.yaml: no such file; choose an inventory with"),
        ({}, ["--plan"], "--deploy and --plan cannot be combined"),
        ({"nodes/two.json": '{"unreachable": "not reachable by ssh"}'}, [], "node two: not reachable by ssh"),
        ({"nodes/two.json": '{"files": {}}'}, [], "node two: runs an unknown system"),
    ],
)
@pytest.mark.parametrize("tests", ["all", "drift"])
def test_invalid_input_ends_the_run(
    runs: Runs, change: dict[str, str], arguments: list[str], message: str, tests: str
) -> None:
    if tests == "drift":
        runs.add_drift_test()
    for name, text in change.items():
        file = runs.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    shown = only_message(runs.pytest("--deploy", *arguments))
    assert message in shown
    assert runs.log() == []
    assert not {name for name in runs.files() if "secrets" in name or "ledger" in name}


def test_conflict_with_the_release_is_reported_before_any_change(runs: Runs) -> None:
    files = {"/usr/lib/os-release": {"content": 'ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04"\n'}}
    for name in ("one", "three"):
        runs.prepare(name, files=files)
    message = only_message(runs.pytest("--deploy"))
    assert "node one: runs Ubuntu 22.04, but the release epoxy-trixie requires debian 13" in message
    assert "node three: has no interface eth1, configured in nodes.three.provider" in message
    assert "node two" not in message


@pytest.mark.parametrize("mode", ["--deploy", "--plan", ""])
def test_options_of_an_unknown_step(runs: Runs, mode: str) -> None:
    """Otherwise they would be ignored; the line is named before any change."""
    site = runs.path / "site.yaml"
    site.write_text(site.read_text() + "config:\n  identty: {}\n")
    before = runs.files()
    lines = len(site.read_text().splitlines())
    message = only_message(runs.pytest(*[mode] if mode else []))
    assert message == f"{site}:{lines}: config.identty: there is no such step; did you mean 'identity'?"
    assert runs.files() == before
