"""Python modules of a lab's nodes: compiled once, by the first node that installs them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stackspec.lab import py3compile_noted

MODULES = "usr/lib/python3/dist-packages"
Node = Callable[..., Path]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


@pytest.fixture
def node(tmp_path: Path, shared: Path) -> Node:
    """Makes a node's root directory, on which dpkg has just unpacked the package python3-eggs."""

    def make(name: str, text: str = "eggs = 1\n", time: int = 1_700_000_000, to: Path | None = shared) -> Path:
        root = tmp_path / name
        files = {f"{MODULES}/eggs/__init__.py": text, f"{MODULES}/eggs/tests/test_it.py": text, "usr/bin/eggs.py": text}
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content)
            os.utime(root / path, (time, time))
        for folder in ("var/lib/dpkg/info", "var/cache"):
            (root / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/info/python3-eggs:amd64.list").write_text("".join(f"/{path}\n" for path in files))
        (root / "var/lib/dpkg/py3compile.noted").write_text("python3-eggs\npython3-eggs\nno-package\n")
        if to is not None:
            (root / "var/cache/compiled").symlink_to(to)
        return root

    return make


def compiled(root: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(root / MODULES / "eggs/__init__.py")))


def test_public_modules_are_compiled_but_not_tests(node: Node) -> None:
    root = node("first")
    py3compile_noted.main(root)
    assert list(root.rglob("*.pyc")) == [compiled(root)]
    assert not (root / py3compile_noted.NOTED).exists()
    py3compile_noted.main(root)


def test_next_node_copies_them(node: Node, shared: Path) -> None:
    py3compile_noted.main(node("first"))
    (there,) = (path for path in shared.rglob("*") if path.is_file())
    there.write_bytes(there.read_bytes() + b"from the first node")
    root = node("second")
    py3compile_noted.main(root)
    assert compiled(root).read_bytes() == there.read_bytes()


@pytest.mark.parametrize(
    "other", [{"time": 1_700_000_001}, {"text": "eggs = 23\n"}], ids=["another time", "another size"]
)
def test_another_version_is_compiled_and_replaces_it(node: Node, shared: Path, other: dict[str, object]) -> None:
    py3compile_noted.main(node("first"))
    (there,) = (path for path in shared.rglob("*") if path.is_file())
    before = there.read_bytes()
    root = node("second", **other)
    py3compile_noted.main(root)
    assert compiled(root).read_bytes() == there.read_bytes() != before
    assert [path for path in shared.rglob("*") if path.is_file()] == [there], "something else is left there"


def test_half_a_file_is_not_copied(node: Node, shared: Path) -> None:
    py3compile_noted.main(node("first"))
    (there,) = (path for path in shared.rglob("*") if path.is_file())
    half = there.read_bytes()[: py3compile_noted.HEADER - 1]
    there.write_bytes(half)
    root = node("second")
    py3compile_noted.main(root)
    assert compiled(root).read_bytes() == there.read_bytes() != half


def test_node_without_the_directory_compiles(node: Node) -> None:
    root = node("alone", to=None)
    py3compile_noted.main(root)
    assert compiled(root).exists()


def test_module_of_another_python_stops_nothing(node: Node) -> None:
    root = node("first", text="print 'eggs'\n")
    other = root / MODULES / "ham.py"
    other.touch()
    with (root / "var/lib/dpkg/info/python3-eggs:amd64.list").open("a") as files:
        files.write(f"/{MODULES}/ham.py\n")
    py3compile_noted.main(root)
    assert Path(importlib.util.cache_from_source(str(other))).exists()
    assert not compiled(root).exists()
