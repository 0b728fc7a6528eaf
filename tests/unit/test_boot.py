"""Services that no step has configured yet stay off when a node boots."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from stackspec.node_agent import boot, packaging, systemd

from . import fake_apt
from .fake_apt import lines

here = fake_apt.here


def masked(here: Path) -> list[str]:
    """Units masked at boot or by a daemon-reload."""
    for name in ("normal", "early", "late"):
        (here / name).mkdir(exist_ok=True)
    text = boot.GENERATOR_TEXT
    for path, name in (("/run/stackspec-deploying", "deploying"), ("/var/lib/stackspec/", "")):
        text = text.replace(path, f"{here}/{name}")
    for link in (here / "early").iterdir():
        link.unlink()
    subprocess.run(["sh", "-c", text, "sh", *(str(here / name) for name in ("normal", "early", "late"))], check=True)
    assert all(os.readlink(link) == "/dev/null" for link in (here / "early").iterdir())
    return sorted(link.name for link in (here / "early").iterdir())


def test_unconfigured_services_stay_off_after_a_power_loss(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages enable them; at boot they would take other services' ports, or restart in a loop."""
    loaded = {"ssh": "loaded", "nginx": "not-found", "swift-proxy": "not-found", "a.socket": "not-found"}
    monkeypatch.setattr(systemd, "read_units", lambda names: {name: {"load": loaded[name]} for name in names})
    assert masked(here) == [], "a node that nobody deploys"
    packaging.apt(["all"], off=list(loaded))
    assert (here / "generator").stat().st_mode & 0o777 == 0o755
    assert masked(here) == [], "the deployment is at work"
    (here / "deploying").unlink()  # as at boot, when /run is empty
    assert masked(here) == ["a.socket", "nginx.service", "swift-proxy.service"]
    boot.in_service(["nginx", "other"])
    assert masked(here) == ["a.socket", "swift-proxy.service"], "a step that is done is started at each boot"
    boot.let_start()
    assert "systemctl daemon-reload" in lines(here)[-1]
    assert masked(here) == [], "the next deployment starts it"
    packaging.apt(["more"], off=["ssh", "a.socket"])
    assert (here / "held").read_text().split() == ["a.socket", "swift-proxy"]
    boot.in_service(["a.socket", "swift-proxy"])
    assert not (here / "held").exists()
    assert not (here / "generator").exists()


def test_node_without_held_units_is_left_alone(here: Path) -> None:
    """Also by runs that only check it."""
    (here / "LOG").touch()
    boot.let_start()
    assert lines(here) == []
    assert not (here / "deploying").exists()
