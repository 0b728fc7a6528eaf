"""Masks secrets in all output, even if the text was escaped, quoted, coloured or cut before."""

from __future__ import annotations

import html
import json
import re
import threading
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .secrets import HEADER, MASK, hide_tokens, redact

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_HEADER = re.compile(HEADER, re.IGNORECASE)
_CUT = "..."
_FRAGMENT = 6
"""Minimum length of a secret's fragment at a cut to be masked: shorter ones are common words."""
_LINE = 8
"""Minimum length of a line of a multi-line secret to be masked by itself."""
_HTML_PARTS = re.compile(r"(?is)<(?P<raw>style|script)\b.*?</(?P=raw)\s*>|<[^>]*>")
_ATTRIBUTE = re.compile(r"(?s)\"[^\"]*\"|'[^']*'")


@dataclass(frozen=True)
class _Forms:
    """All forms of all secrets, the longest first, with the prefixes and suffixes of fragments."""

    values: list[str] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)
    heads: set[str] = field(default_factory=set)
    tails: set[str] = field(default_factory=set)
    longest: int = 0


_lock = threading.Lock()
_known = _Forms()


def mask(text: str) -> str:
    """Return `text` without any registered secret, in any known form.

    Tokens issued by services and the values of token headers are masked as well.

    Known forms: plain, escaped for Python, JSON, HTML, XML or URLs (even nested), each line of a multi-line secret,
    interrupted by colour codes, and cut next to an ellipsis.
    """
    known = _forms()
    masked = hide_tokens(_replace(text, known.forms))
    if "\x1b[" in masked:
        bare = _ANSI.sub("", masked)
        without = hide_tokens(_replace(bare, known.forms))
        if without != bare:  # colour codes inside a secret: drop the colours
            masked = without
    return _mask_cuts(masked, known) if _CUT in masked else masked


def mask_tree(value: Any) -> Any:
    """Return `value` (JSON types) with every string masked, including mapping keys."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {mask_tree(key): MASK if _is_token(key, each) else mask_tree(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(mask_tree(each) for each in value)
    if isinstance(value, list | set | frozenset):
        return [mask_tree(each) for each in value]
    return value


def _is_token(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, str | bytes) and _HEADER.fullmatch(name) is not None


def mask_failure(failure: Any) -> Any:
    """Mask a failure as pytest represents it (a text, a tuple or a tree of objects) and return it.

    The tree is changed in place, which preserves colours and short summaries. If that is not enough, the failure is
    replaced by its masked text.
    """
    if failure is None:
        return None
    if isinstance(failure, str | tuple):
        return mask_tree(failure)
    _mask_object(failure, set())
    text = str(failure)
    masked = mask(text)
    return failure if masked == text else masked


def mask_html_file(path: Path) -> None:
    """Mask a finished HTML file: text and attributes, but not tags, styles or scripts, so that it stays valid."""

    def part(match: re.Match[str]) -> str:
        return match[0] if match["raw"] else _ATTRIBUTE.sub(lambda quoted: mask(quoted[0]), match[0])

    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    pieces: list[str] = []
    position = 0
    for match in _HTML_PARTS.finditer(text):
        pieces += [mask(text[position : match.start()]), part(match)]
        position = match.end()
    masked = "".join([*pieces, mask(text[position:])])
    if masked != text:
        path.write_text(masked, encoding="utf-8", errors="surrogateescape")


def mask_xml_file(path: Path) -> None:
    """Mask a finished XML file: its text and attribute values, so that it stays valid.

    :raises ElementTree.ParseError: the file is not XML
    """
    tree = ElementTree.parse(path)
    changed = False
    for element in tree.iter():
        for name, value in element.attrib.items():
            if (masked := mask(value)) != value:
                element.set(name, masked)
                changed = True
        for name in ("text", "tail"):
            value = getattr(element, name)
            if value and (masked := mask(value)) != value:
                setattr(element, name, masked)
                changed = True
    if changed:
        tree.write(path, encoding="utf-8", xml_declaration=True)


def _forms() -> _Forms:
    """Every form of every secret, rebuilt only when a secret was added."""
    global _known
    values = redact.values()
    with _lock:
        if _known.values != values:
            forms = sorted({form for value in values for form in _forms_of(value)}, key=len, reverse=True)
            long = [form for form in forms if len(form) > _FRAGMENT]
            heads = {form[:_FRAGMENT] for form in long}
            tails = {form[-_FRAGMENT:] for form in long}
            _known = _Forms(values, forms, heads, tails, len(forms[0]) if forms else 0)
        return _known


def _forms_of(value: str) -> set[str]:
    lines = [line.strip() for line in value.splitlines()] if "\n" in value.strip() else []
    forms = {value, *(line for line in lines if len(line) >= _LINE and not line.startswith("-----"))}
    new = forms
    for _ in range(3):  # Python's repr in a JSON text in an HTML attribute
        new = {form for each in new for form in _written(each)} - forms
        forms |= new
    return forms


def _written(text: str) -> Iterable[str]:
    yield repr(text)[1:-1]
    yield text.replace("\\", "\\\\").replace("'", "\\'")
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield html.escape(text)
    yield html.escape(text, quote=False)
    yield html.escape(text, quote=False).replace('"', "&#34;").replace("'", "&#39;")
    yield html.escape(text, quote=False).replace('"', "&quot;").replace("\n", "&#10;")
    yield urllib.parse.quote(text, safe="")
    yield urllib.parse.quote_plus(text)


def _replace(text: str, forms: Iterable[str]) -> str:
    for form in forms:
        if form in text:
            text = text.replace(form, MASK)
    return text


def _mask_cuts(text: str, known: _Forms) -> str:
    """Mask the rest of a secret at a cut: its start before `...`, its end after it."""
    pieces = text.split(_CUT)
    for index, piece in enumerate(pieces):
        if index + 1 < len(pieces):
            for start in range(max(0, len(piece) - known.longest), len(piece) - _FRAGMENT + 1):
                rest = piece[start:]
                if rest[:_FRAGMENT] in known.heads and any(form.startswith(rest) for form in known.forms):
                    piece = piece[:start] + MASK
                    break
        if index:
            for end in range(min(len(piece), known.longest), _FRAGMENT - 1, -1):
                rest = piece[:end]
                if rest[-_FRAGMENT:] in known.tails and any(form.endswith(rest) for form in known.forms):
                    piece = MASK + piece[end:]
                    break
        pieces[index] = piece
    return _CUT.join(pieces)


def _mask_object(value: Any, seen: set[int]) -> None:
    """Mask the strings in pytest's own objects in place; other objects are covered by the check of the whole text."""
    if id(value) in seen or not type(value).__module__.startswith("_pytest.") or not hasattr(value, "__dict__"):
        return
    seen.add(id(value))
    for name, old in list(vars(value).items()):
        new = _mask_inside(old, seen)
        if new is not old:
            object.__setattr__(value, name, new)


def _mask_inside(value: Any, seen: set[int]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_mask_inside(each, seen) for each in value]
    if type(value) is tuple:
        return tuple(_mask_inside(each, seen) for each in value)
    _mask_object(value, seen)
    return value
