"""Encryption keys of stored data: another key on a node is refused, and never overwritten."""

from __future__ import annotations

import pytest

from stackspec.ledger import Ledger
from stackspec.resources import KeptOption
from stackspec.resources.base import file
from stackspec.site import Site
from stackspec.step import STEPS, load_steps

from .bare import context, text_file

WHERE = {
    "barbican": ("/etc/barbican/barbican.conf", "simple_crypto_plugin", "kek"),
    "swift": ("/etc/swift/swift.conf", "swift-hash", "swift_hash_path_suffix"),
    "swift_storage": ("/etc/swift/swift.conf", "swift-hash", "swift_hash_path_prefix"),
}


def obstacles(site: Site, step: str, value: str, ledger: list[str] | None) -> list[str]:
    """The obstacles of a step's keys on a node with this value and these steps in its ledger (None: no ledger)."""
    load_steps()
    node = STEPS[step].nodes(site)[0]
    path, section, option = WHERE[step]
    known = {file(path): text_file(f"[{section}]\n{option} = {value}\n")}
    if ledger is not None:
        known[file(Ledger.ON_NODE)] = text_file("".join(f'{{"step": "{name}"}}\n' for name in ledger))
    kept = [each for each in STEPS[step].resources(site, node) if isinstance(each, KeptOption)]
    return [text for each in kept for text in each.obstacles(context(site, node, known))]


@pytest.mark.parametrize("step", WHERE)
@pytest.mark.parametrize("ledger", ["own", "none"])
def test_different_key_is_refused(site: Site, step: str, ledger: str, no_traces: None) -> None:
    """A key of another state of the site or of another cloud: the message says what to do and shows no key."""
    (text,) = obstacles(site, step, "other-1", ["base", step] if ledger == "own" else None)
    assert WHERE[step][2] in text
    assert "copy the site's state folder" in text
    assert "other-1" not in text
    assert "pass-1" not in text


@pytest.mark.parametrize("step", WHERE)
@pytest.mark.parametrize(
    ("value", "ledger"), [("pass-1", ["base"]), ("pass-1", None), ("", None), ("shipped", ["base"])]
)
def test_own_key_is_accepted(site: Site, step: str, value: str, ledger: list[str] | None, no_traces: None) -> None:
    """The site's own key, no key, or a package's key before the step was done."""
    assert obstacles(site, step, value, ledger) == []
