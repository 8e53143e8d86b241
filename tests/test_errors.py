"""Messages are one line without anything that a terminal would obey."""

import pytest

from rsis_tf.errors import InputError, brief, printable


@pytest.mark.parametrize("letter", ["\x1b", "\n", "\r", "\x00", "\x7f", "\x9b", "\u2028", "\u202e", "\ud800"])
def test_characters_that_a_terminal_obeys_are_escaped(letter):
    text = str(InputError(f"expected a name. Received: a{letter}[31mb"))
    assert letter not in text
    assert text.isprintable()
    text.encode("utf-8")


def test_letters_of_all_languages_stay():
    text = "Größe 猫 … – नमस्ते 🙂 C:\\new"
    assert printable(text) == text
    assert str(InputError(text)) == text


def test_long_values_have_a_short_form():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 10**6, 10**5000, list(range(10**5)), {"a": deep}, float("nan"), "\x1b[0m"):
        text = brief(value)
        assert len(text) < 200
        assert text.isprintable()
    assert brief([1]) == "[1]"
    assert brief("0") == "'0'"
