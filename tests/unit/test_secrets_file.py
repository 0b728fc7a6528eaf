"""A file of secrets that the inventory names: used, or refused without showing what is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stackspec.cloud_inventory import load_site
from stackspec.errors import InputError
from stackspec.site import load_secrets

from . import small_inventory
from .small_inventory import TEXT, line_of

write = small_inventory.write


class TestSecretsFile:
    """Secrets given by the user."""

    @pytest.fixture
    def given(self, write: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
        """An inventory that refers to a file of secrets, and that file."""
        path = tmp_path / "mine.yaml"
        path.write_text('glance: "mine-0"\n')
        path.chmod(0o600)
        return write(TEXT.replace("secrets: generated", "secrets: mine.yaml")), path

    def test_used(self, given: tuple[Path, Path]) -> None:
        """Given secrets are used; others are generated."""
        site = load_site(given[0])
        assert site.password("glance") == "mine-0"
        assert len(site.password("nova")) == 24

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
    def test_secrets_file_readable_by_others(self, given: tuple[Path, Path], mode: int) -> None:
        """Refused, with the command that fixes it."""
        inventory, path = given
        path.chmod(mode)
        with pytest.raises(InputError) as raised:
            load_site(inventory)
        where = f"{inventory}:{line_of(inventory.read_text(), 'secrets:')}: secrets: {path}"
        assert str(raised.value) == f"{where}: this secrets file is readable by others (mode {mode:04o}); chmod 600 it"

    def test_number(self, given: tuple[Path, Path]) -> None:
        """000000 is a number in YAML, so its zeros would be lost."""
        given[1].write_text('nova: "a"\nglance: 000000\n')
        with pytest.raises(InputError, match=r"mine.yaml:2: glance: expected a quoted text"):
            load_secrets(given[1])

    @pytest.mark.parametrize("value", ["a\\nb", "it's", "a@b", "a/b", ""])
    def test_secret_that_needs_quoting(self, given: tuple[Path, Path], value: str) -> None:
        """It is used in URLs, SQL and files unquoted; the message does not show it."""
        given[1].write_text(f'nova: "a"\nglance: "{value}"\n')
        with pytest.raises(
            InputError, match=r"mine.yaml:2: glance: only letters, digits and _ . ~ = - are allowed"
        ) as raised:
            load_secrets(given[1])
        assert not value or value not in str(raised.value)

    def test_message_contains_no_secret(self, given: tuple[Path, Path]) -> None:
        """A duplicate key is named, its values are not."""
        given[1].write_text('nova: "hidden-1"\nnova: "hidden-2"\n')
        with pytest.raises(InputError) as raised:
            load_site(given[0])
        assert "mine.yaml:2: duplicate key 'nova'" in str(raised.value)
        assert "hidden" not in str(raised.value)
