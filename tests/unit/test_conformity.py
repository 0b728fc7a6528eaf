"""The steps do what the install guide says, fact by fact, or differ for a documented reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest

from stackspec.fault_injection.fault import catalogue
from stackspec.resources import IniFile
from stackspec.resources.base import resolve
from stackspec.step import STEPS, closure, load_steps

from . import beyond, conformity, guide_order, guide_plan
from .bare import NamedSecrets, context
from .guide_node import Sql
from .guide_order import order_problems
from .guide_plan import RELEASES
from .guide_reads import UNITS, reads_of

FACTS = conformity.load_facts()


@pytest.fixture(scope="module")
def deliberate() -> dict[str, dict[str, object]]:
    """The deliberate differences."""
    return conformity.load_deliberate()


@pytest.mark.parametrize("fact", FACTS, ids=[fact["id"] for fact in FACTS])
def test_fact(fact: dict[str, Any], deliberate: dict[str, dict[str, Any]]) -> None:
    """The fact holds in the plan, or is a deliberate difference."""
    verdict = conformity.judge(fact, deliberate)
    if verdict.status == "missing":
        wanted = {key: value for key, value in fact.items() if key not in ("id", "line", "step")}
        pytest.fail(f"{fact['id']}: {verdict.why}\nthe guide: {wanted}", pytrace=False)


@pytest.mark.parametrize("chapter", guide_plan.CHAPTERS)
@pytest.mark.parametrize("release", RELEASES[1:])
def test_other_release(release: str, chapter: str) -> None:
    """The same for each chapter with another release, whose own names are stated a second time."""
    plan, deliberate = conformity.guide_plan(release), conformity.load_deliberate(release)
    verdicts = {f["id"]: conformity.judge(f, deliberate, plan) for f in FACTS if f["step"] == chapter}
    assert verdicts
    assert {name: each.why for name, each in verdicts.items() if each.status == "missing"} == {}


@pytest.mark.parametrize("release", RELEASES)
def test_guards_depend_on_the_state(release: str) -> None:
    """On a bare machine every command is due; after it has run it is not."""
    for here in conformity.guide_plan(release).nodes.values():
        assert here.after.done, here.node.name
        assert here.after.guards == [], here.node.name


@pytest.mark.parametrize("release", RELEASES)
def test_order_is_right_and_nothing_is_undone(release: str) -> None:
    """Files precede tools, schemas services, objects calls; every declaration still holds at the end."""
    for here in conformity.guide_plan(release).nodes.values():
        assert list(order_problems(here, FACTS)) == [], here.node.name


@pytest.mark.parametrize("release", RELEASES)
def test_additions_to_the_guide_are_listed(release: str) -> None:
    """data/beyond.yaml lists exactly what is declared, with reasons."""
    found = beyond.differences(conformity.guide_plan(release), release, conformity.load_deliberate(release))
    assert found == [], "\n".join(found)


def test_checks_of_deliberate_differences_can_fail() -> None:
    """A test named by `checked_by` is broken by a fault of the catalogue, or, for unit tests, by mutants."""
    entries = [each for release in RELEASES for each in conformity.load_deliberate(release).values()]
    tests = {each["checked_by"] for each in entries if "checked_by" in each}
    shown = {(path, word) for each in catalogue().values() for path in each.shows for word in each.only.split()}
    for test in sorted(tests):
        path, _, name = test.partition("::")
        broken = [word for file, word in shown if file == path and (word in name or file.endswith("test_drift.py"))]
        assert broken or path.startswith("tests/unit/"), f"no fault shows in {test}: add one to faults/"


@pytest.mark.parametrize("pair", guide_order.ANY_ORDER)
def test_each_order_exception_is_needed(pair: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair whose order in the guide is arbitrary has the other order here; otherwise the exception must go."""
    monkeypatch.delitem(guide_order.ANY_ORDER, pair)
    nodes = conformity.guide_plan().nodes.values()
    assert [problem for here in nodes for problem in order_problems(here, FACTS)]


def test_each_entry_of_reads_matches_a_fact() -> None:
    """The table of what services read has no unused entry."""
    assert [name for name in UNITS if not any(fnmatchcase(fact["id"], name) for fact in FACTS)] == []
    with pytest.raises(KeyError, match="say in UNITS"):
        reads_of("trove.unit.trove-api.restart")


def test_each_secret_is_different(monkeypatch: pytest.MonkeyPatch) -> None:
    """All secrets differ, so that swapped ones are detected."""
    names: set[str] = set()
    value = NamedSecrets._get

    def record(self: NamedSecrets, name: str, make: Callable[[], str]) -> str:
        names.add(name)
        return value(self, name, make)

    monkeypatch.setattr(NamedSecrets, "_get", record)
    site = guide_plan.site_with(guide_plan.guide_site().release)
    assert guide_plan.declared(site, site.controller)
    assert len(names) > 30
    assert len({site.password(name) for name in names}) == len(names)


def test_sql_is_parsed() -> None:
    """A later statement overrides an earlier one, and a statement inside a string is not one."""
    sql = Sql()
    sql.run("CREATE DATABASE IF NOT EXISTS `a`; CREATE USER IF NOT EXISTS 'u'@'h';", 1)
    sql.run("ALTER USER 'u'@'h' IDENTIFIED BY '1'; ALTER USER 'u'@'h' IDENTIFIED BY 'x; DROP DATABASE `a`';", 2)
    sql.run("GRANT ALL PRIVILEGES ON `a`.* TO 'u'@'h'; REVOKE ALL PRIVILEGES ON `a`.* FROM 'u'@'h'; SELECT 1", 3)
    assert (sql.made, sql.accounts) == ({"a": 1}, {"'u'@'h'": "x; DROP DATABASE `a`"})
    assert (sql.grants, sql.others) == (set(), ["SELECT 1"])


def test_counts(deliberate: dict[str, dict[str, Any]], record_property: Callable[[str, object], None]) -> None:
    """The table of facts per chapter; `-rA` shows it."""
    table = {name: Counter({"same": 0, "deliberate": 0, "missing": 0}) for name in guide_plan.CHAPTERS}
    for fact in FACTS:
        table[fact["step"]][conformity.judge(fact, deliberate).status] += 1
    total: Counter[str] = sum(table.values(), Counter())
    print(f"{'chapter':12}{'same':>6}{'deliberate':>12}{'missing':>9}")
    for name, counts in [*table.items(), ("all", total)]:
        print(f"{name:12}{counts['same']:>6}{counts['deliberate']:>12}{counts['missing']:>9}")
    for status in ("same", "deliberate", "missing"):
        record_property(status, total[status])
    assert total["missing"] == 0


def test_each_entry_matches_a_fact(deliberate: dict[str, dict[str, Any]]) -> None:
    """An unused excuse would hide the next problem of that name."""
    assert [name for name in deliberate if not any(fnmatchcase(fact["id"], name) for fact in FACTS)] == []
    for release in RELEASES[1:]:
        entries = conformity.load_deliberate(release)
        own = {name for name, each in entries.items() if "release" in each}
        assert own - {name for fact in FACTS for name in conformity.entries_of(fact, entries)} == set()


def test_no_option_has_two_values() -> None:
    """Two steps that set the same option to different values would undo each other forever."""
    site = guide_plan.guide_site()
    load_steps()
    for node in site.nodes.values():
        seen: dict[tuple[str, str, str], tuple[str, object]] = {}
        here = context(site, node)
        files = [
            (name, each)
            for name in closure(STEPS)
            if node in STEPS[name].nodes(site)
            for each in STEPS[name].resources(site, node)
            if isinstance(each, IniFile)
        ]
        for name, each in files:
            for section, options in each.options.items():
                for key, value in options.items():
                    place = (each.path, section, key)
                    first, before = seen.setdefault(place, (name, value))
                    assert resolve(before, here) == resolve(value, here), f"{place}: {first} and {name} differ"
        for name, each in files:
            for path, section, key in seen:
                theirs = path == each.path and section in each.own and key not in each.options.get(section, {})
                assert not theirs, f"{name} owns [{section}] of {path}, where {seen[path, section, key][0]} sets {key}"


def altered(kind: str, **changes: object) -> dict[str, object]:
    """The first fact of a kind that holds, with changed attributes."""
    fact = next(
        f
        for f in FACTS
        if f["kind"] == kind and not conformity.nodes_without(f, conformity.guide_plan()) and changes.keys() <= f.keys()
    )
    return {**fact, **changes}


WRONG: list[tuple[str, Callable[[], dict[str, object]]]] = [
    ("package", lambda: altered("package", name="chrony2")),
    ("ini value", lambda: altered("ini", value="something else")),
    ("ini key", lambda: altered("ini", key="no_such_key")),
    ("ini section", lambda: altered("ini", section="no_such_section")),
    ("ini file", lambda: altered("ini", file="/etc/other.conf")),
    ("ini absent", lambda: {**altered("ini"), "absent": True}),
    ("line of a file", lambda: altered("file", contains=["allow 10.1.0.0/24"])),
    ("unit", lambda: altered("unit", name="other")),
    ("database", lambda: altered("database", name="other")),
    ("grant host", lambda: altered("grant", host="127.0.0.1")),
    ("grant password", lambda: altered("grant", password="1")),
    ("queue password", lambda: altered("rabbit_user", password="1")),
    ("queue permissions", lambda: altered("rabbit_permissions", read="x")),
    ("command", lambda: altered("command", run="keystone-manage db_sync --expand")),
    ("command user", lambda: altered("command", as_user="other")),
    ("user", lambda: altered("keystone_user", name="other")),
    ("project", lambda: altered("keystone_project", description="other")),
    ("role", lambda: altered("role_assignment", assigned_role="owner")),
    ("service", lambda: altered("service", description="other")),
    ("endpoint", lambda: altered("endpoint", url="http://controller:1")),
    ("endpoint region", lambda: altered("endpoint", region="RegionTwo")),
    ("machine", lambda: altered("object", external_ip="192.168.35.11")),
    ("limit", lambda: altered("object", default_limit=1)),
    ("image", lambda: altered("object", disk_format="raw")),
]


@pytest.mark.parametrize("make", [make for _, make in WRONG], ids=[name for name, _ in WRONG])
def test_wrong_fact_is_detected(make: Callable[[], dict[str, Any]]) -> None:
    """The comparison can fail: a changed fact of each kind is reported as missing."""
    fact = make()
    verdict = conformity.judge(fact, {})
    assert verdict.status == "missing"
    assert str(fact["line"]) in verdict.why


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        pytest.param({"why": "E99: no"}, "not touched by erratum E99", id="another fact's erratum"),
        pytest.param({"why": "E21", "instead": {"contains": ["x"]}}, "instead is not declared", id="not so instead"),
        pytest.param({"why": "so", "checked_by": "tests/infra/test_drift.py::test_no"}, "no test", id="no such test"),
        pytest.param({"why": "so", "reason": ""}, "unknown keys", id="unknown key"),
        pytest.param({"why": "so it is better"}, "name an erratum", id="a reason that nothing holds"),
    ],
)
def test_wrong_excuse_is_detected(entry: dict[str, Any], problem: str) -> None:
    """What deliberate.yaml claims is checked as well."""
    fact = next(each for each in FACTS if each["id"] == "etcd.default.ETCD_LISTEN_PEER_URLS")
    verdict = conformity.judge(fact, {fact["id"]: entry})
    assert verdict.status == "missing"
    assert problem in verdict.why


def test_unneeded_excuse_fails() -> None:
    """An excuse for a fact that holds is an error."""
    fact = next(each for each in FACTS if each["id"] == "etcd.default.ETCD_NAME")
    verdict = conformity.judge(fact, {"etcd.default.*": {"why": "so"}})
    assert (verdict.status, "take 'etcd.default.*' out" in verdict.why) == ("missing", True)
