"""README and docs/: both languages match, links work, and every cited erratum exists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import conformity, facts_index

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ENGLISH_ONLY = ("errata.md", "facts.md")
"""Pages about the Chinese guide, for readers who do not know Chinese."""
PAIRS = [
    (ROOT / "README.md", ROOT / "README.zh.md"),
    *((page, DOCS / "zh" / page.name) for page in sorted(DOCS.glob("*.md")) if page.name not in ENGLISH_ONLY),
]
PAGES = [*(page for pair in PAIRS for page in pair), *(DOCS / name for name in ENGLISH_ONLY), ROOT / "CONTRIBUTING.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ERRATUM = re.compile(r"\bE\d{2,3}\b")
CITING = ("deploy_steps", "releases", "stackspec", "inventories", "faults", "tests")
SCREENS = 130
"""Lines that fit on two screens."""


def commands(text: str) -> list[str]:
    """The code blocks without prose: comments, docstrings, labels of drawings."""
    found = []
    for language, code in FENCE.findall(text):
        if language == "mermaid":
            code = re.sub(r'\|"[^"]*"\||\|[^|]*\||\[\(.*?\)\]|\[.*?\]', "", code)
        code = re.sub(r"(^|\s+)#.*$", "", code, flags=re.MULTILINE)
        found.append("\n".join(line for line in code.splitlines() if line.strip()))
    return found


def prose(text: str) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", text)


def headings(text: str) -> list[str]:
    """The headings as written."""
    return re.findall(r"^#+ .*$", prose(text), re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor that GitHub generates for a heading."""
    words = re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower())
    return words.replace(" ", "-")


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """The relative links of a page: as written, the file, and the anchor."""
    for link in LINK.findall(prose(page.read_text())):
        if not re.match(r"https?:", link):
            path, _, anchor = link.partition("#")
            yield link, (page.parent / path).resolve() if path else page, anchor


def canonical(path: Path) -> str:
    """A file, by its English name if it exists in both languages."""
    name = path.relative_to(ROOT).as_posix()
    return name.replace("README.zh.md", "README.md").replace("docs/zh/", "docs/")


def numbers(text: str) -> set[str]:
    """Numbers with at least two digits in the text of the page."""
    said = re.sub(r"`[^`]*`|\]\([^)]*\)", "", prose(text))
    return set(re.findall(r"\d[\d.,]*\d", said))


def of_page(pair: tuple[Path, Path]) -> str:
    return pair[0].stem


@pytest.mark.parametrize("pair", PAIRS, ids=of_page)
def test_languages_have_the_same_commands(pair: tuple[Path, Path]) -> None:
    english, chinese = (commands(page.read_text()) for page in pair)
    for one, other in zip(english, chinese, strict=False):
        assert one == other
    assert len(english) == len(chinese), "one has more code blocks"


@pytest.mark.parametrize("pair", PAIRS, ids=of_page)
def test_languages_have_the_same_shape(pair: tuple[Path, Path]) -> None:
    """The same heading levels, and as many table rows and list items."""
    english, chinese = (page.read_text() for page in pair)
    assert [each.split()[0] for each in headings(english)] == [each.split()[0] for each in headings(chinese)]
    for sign in (r"^\|", r"^- ", r"^\d+\. "):
        counts = [len(re.findall(sign, prose(text), re.MULTILINE)) for text in (english, chinese)]
        assert counts[0] == counts[1], f"lines that begin with {sign}"


@pytest.mark.parametrize("pair", PAIRS, ids=of_page)
def test_languages_have_the_same_links(pair: tuple[Path, Path]) -> None:
    english, chinese = (Counter(canonical(path) for _, path, _ in links(page)) for page in pair)
    assert english == chinese


@pytest.mark.parametrize("pair", PAIRS, ids=of_page)
def test_languages_have_the_same_numbers(pair: tuple[Path, Path]) -> None:
    english, chinese = (numbers(page.read_text()) for page in pair)
    assert english - chinese == set(), "only in English"
    assert chinese - english == set(), "only in Chinese"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link, path, anchor in links(page):
        assert path.exists(), link
        if anchor:
            assert anchor in [slug(heading) for heading in headings(path.read_text())], link


def test_every_page_is_in_both_languages() -> None:
    """And README links to each of them, directly or through one other page."""
    assert {page.name for page in (DOCS / "zh").glob("*.md")} == {pair[0].name for pair in PAIRS[1:]}
    linked = {path for page in PAGES for _, path, _ in links(page)}
    assert [page.name for page in DOCS.glob("*.md") if page not in linked] == []


@pytest.mark.parametrize("page", PAIRS[0], ids=lambda page: page.name)
def test_readme_is_two_screens(page: Path) -> None:
    assert len(page.read_text().splitlines()) <= SCREENS


def test_differences_are_detected() -> None:
    """Comments and labels may differ, commands may not."""
    page = "```\nrun a  # one\n```\n\n```mermaid\nA[one] -->|two| B[(three)]\n```\n"
    assert commands(page) == commands(page.replace("one", "一").replace("two", "二").replace("three", "三"))
    assert commands(page) != commands(page.replace("run a", "run b"))
    assert commands(page) != commands(page.replace("-->", "---"))
    assert numbers("in 8.6 min, `v10`") == {"8.6"}
    assert slug("## Two words, `one` mark") == "two-words-one-mark"
    assert slug("## 已有的云") == "已有的云"


def errata() -> dict[str, str]:
    """Number -> entry of docs/errata.md."""
    parts = re.split(r"^### (E\d+)\n", (DOCS / "errata.md").read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def citations() -> Iterator[tuple[str, str]]:
    """Every file that cites errata, and the erratum."""
    for folder in CITING:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".yaml") and path != Path(__file__):
                for found in ERRATUM.findall(path.read_text()):
                    yield path.relative_to(ROOT).as_posix(), found


def test_every_cited_erratum_exists() -> None:
    cited, known = list(citations()), errata()
    assert [f"{path}: {each}" for path, each in cited if each not in known] == []
    for path in ("deploy_steps/glance.py", "inventories/guide/site.yaml", "tests/unit/data/deliberate.yaml"):
        assert any(each == path for each, _ in cited), path
    assert {each for _, each in cited} >= {"E01", "E26", "E142"}


def test_errata_are_complete() -> None:
    """Numbered without gaps; each says what the guide says and where, what is wrong, and what stackspec does."""
    entries = errata()
    assert list(entries) == [f"E{number:02}" for number in range(1, len(entries) + 1)]
    for name, entry in entries.items():
        found = [line.split("**")[1].rstrip(":") for line in entry.splitlines() if line.startswith("- **")]
        assert found[:3] == ["Guide", "Wrong", "stackspec"], name
        assert re.search(r"\(lines? [\d ,/-]+; (bug|unsafe|missing|note)\)", entry), name


def test_index_of_facts_is_current() -> None:
    facts = conformity.load_facts()
    assert facts_index.PAGE.read_text() == facts_index.index(facts), "run .venv/bin/python tests/unit/facts_index.py"
    assert len(facts) == 1001
