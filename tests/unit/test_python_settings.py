"""Settings in a Python file are replaced in place, without running the file."""

from __future__ import annotations

import pytest

from stackspec.errors import StackspecError
from stackspec.resources import PythonSettings
from stackspec.resources.base import file

from .bare import ChangeOf, differences, made, text_file

SETTINGS = PythonSettings("/etc/s.py", {"DEBUG": False, "HOSTS": ["a", "b"], "CACHES": {"default": {"BACKEND": "x"}}})
FOUND = """\
# What the package says.
DEBUG = True
HOSTS = [  # of the site
    'a',
]
OTHER = call("x") % HOSTS
CACHES = {
    'default': {'BACKEND': "x"},
}
"""


class TestPythonSettings:
    """Names assigned in a Python file."""

    def test_new_file(self, change: ChangeOf) -> None:
        """A new file contains only the settings, readable by Python."""
        found = change(SETTINGS)
        assert (found.actions[0].mode, found.touches) == (0o644, ("/etc/s.py",))
        read: dict[str, object] = {}
        exec(found.actions[0].content, read)
        assert {name: read[name] for name in SETTINGS.settings} == SETTINGS.settings
        assert change(SETTINGS, made({}, found)) is None

    def test_values_are_replaced_in_place(self, change: ChangeOf) -> None:
        """Different assignments are replaced in place, also long ones; everything else stays unchanged."""
        known = {file("/etc/s.py"): text_file(FOUND)}
        found = change(SETTINGS, known)
        assert differences(found) == ["DEBUG: wanted False, found True", "HOSTS: wanted ['a', 'b'], found ['a']"]
        expected = FOUND.replace("True", "False").replace("[  # of the site\n    'a',\n]", "['a', 'b']")
        assert found.actions[0].content == expected
        assert found.actions[0].mode is None
        assert change(SETTINGS, made(known, found)) is None

    def test_last_assignment_counts(self, change: ChangeOf) -> None:
        """The last one is in force, so earlier ones are kept."""
        known = {file("/etc/s.py"): text_file("A = 1\nA = 2\n")}
        assert change(PythonSettings("/etc/s.py", {"A": 2}), known) is None
        found = change(PythonSettings("/etc/s.py", {"A": 3}), known)
        assert found.actions[0].content == "A = 1\nA = 3\n"

    def test_expression_counts_as_different(self, change: ChangeOf) -> None:
        """A value that cannot be read without running the file differs, and is shown as written."""
        known = {file("/etc/s.py"): text_file('URL = "http://%s/v3" % HOST\n')}
        found = change(PythonSettings("/etc/s.py", {"URL": "http://c:5000/v3"}), known)
        assert differences(found) == ["URL: wanted 'http://c:5000/v3', found 'http://%s/v3' % HOST"]

    def test_invalid_python_is_reported(self, change: ChangeOf) -> None:
        """The message has file and line; a file that cannot be parsed is not written."""
        known = {file("/etc/s.py"): text_file("A = 1\nB = (\n")}
        with pytest.raises(StackspecError, match=r"/etc/s.py:2: not valid Python: .*; fix or remove it"):
            change(SETTINGS, known)
