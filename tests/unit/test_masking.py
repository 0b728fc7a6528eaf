"""Secrets are masked in every form in which they appear in a text."""

from __future__ import annotations

import html
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from stackspec.masking import mask, mask_html_file, mask_tree, mask_xml_file
from stackspec.secrets import redact

PLAIN = "5f2b9c0d7e1a4f6b8c3d9e0a"
NASTY = "x'q\"<s>&\\n\\é%{y}"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_values", {PLAIN, NASTY})


@pytest.mark.parametrize("secret", [PLAIN, NASTY])
def test_escaped_forms(secret: str) -> None:
    texts = [secret, repr(secret), json.dumps(secret), json.dumps({"a": json.dumps([secret])}), html.escape(secret)]
    texts += [html.escape(json.dumps(secret)), json.dumps(html.escape(secret)), html.escape(html.escape(secret))]
    for text in texts:
        masked = mask(f"a {text} b")
        assert "******" in masked
        assert masked.replace("******", "").strip("ab \"{}[]\\:,'&quot;#39") == "", text


def test_secret_with_colours_inside_is_masked() -> None:
    assert mask(f"\x1b[31m{PLAIN[:9]}\x1b[0m\x1b[32m{PLAIN[9:]}\x1b[0m") == "******"
    assert mask(f"\x1b[31mred\x1b[0m {PLAIN}") == "\x1b[31mred\x1b[0m ******"


@pytest.mark.parametrize("size", range(6, 24))
def test_partial_secret_at_a_cut_is_masked(size: int) -> None:
    assert mask(f"key = {PLAIN[:size]}... and") == "key = ******... and"
    assert mask(f"key = ...{PLAIN[-size:]} and") == "key = ...****** and"


@pytest.mark.parametrize("name", ["X-Auth-Token", "x-subject-token", "X-Service-Token", "X-Storage-Token"])
@pytest.mark.parametrize("token", ["5f2c0a917b0c4f5d8e6a", "AUTH_tk0123456789", "eyJhbGciOi.eyJzdWIi.sig-_"])
def test_value_of_a_token_header_is_masked(name: str, token: str) -> None:
    """It is not registered; not all tokens are keystone's."""
    headers = {"Accept": "application/json", name: token, "User-Agent": "x"}
    raw = f"send: b'GET /v3 HTTP/1.1\\r\\n{name}: {token}\\r\\nAccept: */*'"
    texts = [f"{name}: {token}", f'curl -g -i -H "{name}: {token}" http://c', raw, f"{name}={token} next"]
    texts += [repr(headers), repr(list(headers.items())), repr({name: token.encode()}), json.dumps(headers)]
    texts += [json.dumps(json.dumps(headers)), html.escape(json.dumps(headers)), html.escape(repr(headers))]
    texts.append(f"\x1b[33m'{name}'\x1b[39;49;00m: \x1b[33m'\x1b[39m{token}'")
    for text in texts:
        for masked in (mask(text), redact(text) if "\x1b" not in text else ""):
            assert token not in masked, text
        assert mask(text).count("******") == 1
        assert name in mask(text)
    assert json.loads(mask(json.dumps(headers))) == {**headers, name: "******"}
    assert mask_tree({"headers": headers}) == {"headers": {**headers, name: "******"}}


def test_mention_of_a_header_stays() -> None:
    for text in (
        "Vary: X-Auth-Token, Accept",
        "{'Vary': 'X-Auth-Token', 'x-openstack-request-id': 'req-1'}",
        "the header X-Auth-Token is missing",
        'wget --header "X-Auth-Token: $TOKEN"',
        "X-Auth-Token: {SHA256}0123456789abcdef",
    ):
        assert mask(text) == text
    assert mask("Authorization: Basic dXNlcjpwYXNz") == "Authorization: Basic ******"


def test_ordinary_ellipses_stay() -> None:
    assert mask("waiting ... done...\n...and") == "waiting ... done...\n...and"


def test_lines_of_a_key_are_masked_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
    monkeypatch.setattr(redact, "_values", {key})
    assert mask("E   MIIEvQIBADANBgkq\nE   hkiG9w0BAQEFAASC") == "E   ******\nE   ******"
    assert mask("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


def test_later_secret_is_masked() -> None:
    assert mask("fresh-secret-1") == "fresh-secret-1"
    redact.add("fresh-secret-1")
    assert mask("fresh-secret-1") == "******"


def test_nested_data_keeps_its_structure() -> None:
    tree = {"a": [1, 2.5, None, True, PLAIN], PLAIN: ("x", {"y": PLAIN})}
    assert mask_tree(tree) == {"a": [1, 2.5, None, True, "******"], "******": ("x", {"y": "******"})}


def test_masked_html_file_stays_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_values", {NASTY, "table"})
    file = tmp_path / "a.html"
    blob = html.escape(json.dumps({"log": html.escape(NASTY)}))
    file.write_text(f'<style>table{{}}</style><table title="table"><td data-x="{blob}">a table</td></table>')
    mask_html_file(file)
    text = file.read_text()
    assert text.startswith('<style>table{}</style><table title="******">')
    assert text.endswith(">a ******</td></table>")
    assert "%{y}" not in text


def test_masked_xml_file_stays_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_values", {NASTY, "testcase"})
    file = tmp_path / "a.xml"
    root = ElementTree.Element("testsuites")
    ElementTree.SubElement(root, "testcase", name=NASTY).text = f"testcase {NASTY}"
    ElementTree.ElementTree(root).write(file)
    mask_xml_file(file)
    (case,) = ElementTree.parse(file).getroot()
    assert (case.tag, case.get("name"), case.text) == ("testcase", "******", "****** ******")
