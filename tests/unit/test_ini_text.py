"""Ini files are edited in place: the wanted options are in force afterwards, and nothing else changes."""

from __future__ import annotations

import random

import pytest

from stackspec.resources.ini_text import edit, read

SHIPPED = """\
# A file as a package ships it.
[DEFAULT]

# From nova.conf
#my_ip = <host_ipv4>
log_dir = /var/log/nova
#debug = false

[api]
# How to log in.
#auth_strategy = keystone

[neutron]
region_name = regionOne
auth_url = http://127.0.0.1:5000
"""


def test_set_option_keeps_its_place() -> None:
    """The line is changed in place; its neighbours and their comments stay."""
    found = edit(SHIPPED, {"DEFAULT": {"log_dir": "/tmp"}})
    assert found == SHIPPED.replace("log_dir = /var/log/nova", "log_dir = /tmp")


def test_correct_option_keeps_its_spelling() -> None:
    """`a=1` and `a : 1` mean the same as `a = 1`: no change."""
    text = "[a]\nx=1\ny : 2\nz   =   3\n"
    assert edit(text, {"a": {"x": "1", "y": "2", "z": "3"}}) == text


def test_new_option_goes_below_its_commented_default() -> None:
    """It is added next to its explanation."""
    found = edit(SHIPPED, {"DEFAULT": {"my_ip": "10.0.0.10"}, "api": {"auth_strategy": "keystone"}})
    assert "#my_ip = <host_ipv4>\nmy_ip = 10.0.0.10\nlog_dir" in found
    assert "#auth_strategy = keystone\nauth_strategy = keystone\n" in found


def test_commented_default_of_another_section_is_ignored() -> None:
    """The comment shows another section's option."""
    found = edit(SHIPPED, {"api": {"my_ip": "1"}})
    assert found == SHIPPED.replace("[api]\n", "[api]\nmy_ip = 1\n")


def test_other_new_options_go_to_the_top_of_the_section() -> None:
    """In the order of declaration."""
    assert "[api]\nb = 1\na = 2\n# How" in edit(SHIPPED, {"api": {"b": "1", "a": "2"}})


def test_new_section_goes_to_the_end() -> None:
    """With a blank line before it."""
    assert edit(SHIPPED, {"vnc": {"enabled": "true"}}) == SHIPPED + "\n[vnc]\nenabled = true\n"


def test_new_file() -> None:
    """Created from nothing."""
    assert edit("", {"a": {"x": "1"}, "b": {"y": "2"}}) == "[a]\nx = 1\n\n[b]\ny = 2\n"


def test_none_comments_out() -> None:
    """The line stays readable, but is not in force."""
    found = edit(SHIPPED, {"DEFAULT": {"log_dir": None}})
    assert "\n#log_dir = /var/log/nova\n" in found
    assert "log_dir" not in read(found)["DEFAULT"]


def test_none_for_an_absent_option_changes_nothing() -> None:
    """Neither an option nor a section is added."""
    assert edit(SHIPPED, {"DEFAULT": {"x": None}, "nothing": {"y": None}}) == SHIPPED


def test_owned_section_contains_nothing_else() -> None:
    """As the guide says: comment out any other option in the section. Other sections keep theirs."""
    found = edit(SHIPPED, {"neutron": {"auth_url": "http://controller:5000"}}, own=["neutron"])
    assert "\n#region_name = regionOne\nauth_url = http://controller:5000\n" in found
    assert read(found)["DEFAULT"] == {"log_dir": "/var/log/nova"}


def test_commented_option_is_restored_in_place() -> None:
    """Set, commented out, set again."""
    without = edit(SHIPPED, {"DEFAULT": {"log_dir": None}})
    assert "#log_dir = /var/log/nova\nlog_dir = /tmp\n#debug" in edit(without, {"DEFAULT": {"log_dir": "/tmp"}})


def test_repeated_option_is_written_once() -> None:
    """The last one wins, so changing only the first is not enough."""
    text = "[a]\nx = 1\ny = 0\nx = 2\n\n[b]\n\n[a]\nx = 3\n"
    assert read(text)["a"]["x"] == "3"
    assert edit(text, {"a": {"x": "9"}}) == "[a]\nx = 9\ny = 0\n\n[b]\n\n[a]\n"


def test_undeclared_repeated_option_is_kept() -> None:
    """Some options of oslo.config are given on several lines."""
    text = "[a]\nx = 1\nx = 2\n"
    assert edit(text, {"a": {"y": "1"}}) == "[a]\ny = 1\nx = 1\nx = 2\n"


CONTINUED = "[a]\nx = 1,\n    2,\n    [3]\n# about y\ny = 4\n"


def test_continuation_is_part_of_the_value() -> None:
    """Even if it looks like a section."""
    assert read(CONTINUED) == {"a": {"x": "1,\n2,\n[3]", "y": "4"}}


def test_continuation_is_replaced_with_its_option() -> None:
    """A one-line value replaces all its lines, and all of them are commented out."""
    assert edit(CONTINUED, {"a": {"x": "9"}}) == "[a]\nx = 9\n# about y\ny = 4\n"
    assert edit(CONTINUED, {"a": {"x": "1,"}}) == "[a]\nx = 1,\n# about y\ny = 4\n"
    assert edit(CONTINUED, {"a": {"x": None}}) == "[a]\n#x = 1,\n#    2,\n#    [3]\n# about y\ny = 4\n"
    assert edit(CONTINUED, {"a": {"y": "4"}}) == CONTINUED


def test_value_of_several_lines() -> None:
    """It is written so that it is read as one value."""
    found = edit("", {"a": {"x": "1\n2", "y": "3"}})
    assert found == "[a]\nx = 1\n    2\ny = 3\n"
    assert read(found) == {"a": {"x": "1\n2", "y": "3"}}


SHELL = '# Options of a daemon.\n#DAEMON_OPTS="-F 1"\nOTHER="a=b: c"\n'


def test_shell_file() -> None:
    """A file without sections is read by a shell: no blanks around the equals sign."""
    found = edit(SHELL, {"": {"DAEMON_OPTS": '"-x"', "NEW": "1", "OTHER": '"d"'}})
    assert found == '# Options of a daemon.\n#DAEMON_OPTS="-F 1"\nDAEMON_OPTS="-x"\nOTHER="d"\nNEW=1\n'
    assert read(found) == {"": {"DAEMON_OPTS": '"-x"', "OTHER": '"d"', "NEW": "1"}}


def test_option_without_a_section_is_before_the_first_section() -> None:
    """Below the last section it would belong to that section."""
    assert edit("# top\n[a]\nx = 1\n", {"b": {"z": "1"}, "": {"y": "2"}}) == "# top\ny=2\n[a]\nx = 1\n\n[b]\nz = 1\n"


def test_option_without_a_value() -> None:
    """As in MariaDB's files; and an empty value."""
    text = "[mysqld]\nskip-name-resolve\nempty =\n"
    assert read(text) == {"mysqld": {"skip-name-resolve": "", "empty": ""}}
    assert edit(text, {"mysqld": {"skip-name-resolve": "", "empty": ""}}) == text
    assert edit("", {"a": {"x": ""}}) == "[a]\nx =\n"


@pytest.mark.parametrize("text", ["[a]\nx = 1", "[a]\r\nx = 1\r\n", "[a]\nx = 1\n\n\n", "[a] ; first\nx = 1\n; [b]\n"])
def test_line_endings_and_end_of_file(text: str) -> None:
    """No newline at the end, two of them, Windows newlines, a section with a comment."""
    assert read(text) == {"a": {"x": "1"}}
    assert read(edit(text, {"a": {"x": "2", "y": "3"}})) == {"a": {"x": "2", "y": "3"}}


PIECES = (
    "[a]", "[b]", "[b] # note", "x = 1", "y=2", "z : 3", "x = 4", "flag", "#x = 0", "# y = 0", "#z=0", "; note",
    "# note", "    more", "\t[b]", "  # inner", "", "", "u = a = b", "v = http://c:1/",
)  # fmt: skip


@pytest.mark.parametrize("start", range(0, 4000, 400))
def test_any_file(start: int) -> None:
    """For any file: the wanted options are in force, the rest is unchanged, and a second edit changes nothing."""
    for seed in range(start, start + 400):
        check_any_file(random.Random(seed))


def check_any_file(generator: random.Random) -> None:
    """One random file and one random edit."""
    text = "\n".join(generator.choices(PIECES, k=generator.randint(0, 14))) + generator.choice(["", "\n"])
    wanted = {
        section: {
            name: generator.choice([None, "1", "", "new", "two\nlines" if section else "1"])
            for name in generator.sample(["x", "y", "z", "w"], generator.randint(0, 3))
        }
        for section in generator.sample(["", "a", "b", "c"], generator.randint(0, 3))
    }
    own = generator.sample(["a", "b", "c"], generator.randint(0, 2))
    once = edit(text, wanted, own)
    expected: dict[str, dict[str, str | None]] = {
        section: {**options} for section, options in read(text).items() if section not in own
    }
    for section, options in wanted.items():
        for name, value in options.items():
            expected.setdefault(section, {})[name] = value
    found = read(once)
    for section in {*found, *expected}:
        set_here = {name: value for name, value in expected.get(section, {}).items() if value is not None}
        assert found.get(section, {}) == set_here, f"[{section}] of\n{text}\n--- wanted {wanted} own {own}\n{once}"
    assert edit(once, wanted, own) == once
