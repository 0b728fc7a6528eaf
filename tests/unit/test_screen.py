"""A server's screen: text is recognised by its pixels."""

from __future__ import annotations

from stackspec.fixtures.screen import Screen

GLYPHS = {" ": ("..", ".."), "a": ("#.", ".#"), "b": ("##", "..")}


def screen(*lines: str) -> Screen:
    """A screen where each character is two pixels wide and two high."""
    rows = ["".join(GLYPHS[each][row] for each in line) for line in lines for row in (0, 1)]
    return Screen(len(rows[0]), len(rows), "".join(rows))


class TestScreen:
    """A picture of bright and dark pixels."""

    def test_text_is_recognised_by_its_pixels(self) -> None:
        """Equal characters look equal, others do not, and a blank is dark."""
        text = ["ab a", " ba "]
        assert screen(*text).misspelt(text) == 0
        assert screen("ab b", " ba ").misspelt(text) == 1
        assert screen("ab a", " bab").misspelt(text) == 1
        assert screen("aa a", " aa ").misspelt(text) == 2
        assert screen("    ", "    ").misspelt(text) == 5

    def test_different_sizes_differ_completely(self) -> None:
        """A screen of another size differs in all pixels."""
        assert screen("ab").differing(screen("ab")) == 0
        assert screen("ab").differing(screen("a ")) == 2
        assert screen("ab").differing(screen("a")) == 8

    def test_portable_pixmap(self) -> None:
        """Pixels are read by brightness, even if their bytes look like whitespace."""
        data = b"P6\n2 2\n255\n" + bytes([0, 0, 0, 255, 255, 255, 32, 32, 32, 170, 0, 0])
        assert Screen.of_ppm(data) == Screen(2, 2, ".#.#")
