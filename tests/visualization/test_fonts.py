"""Class names in any script: the chosen font has the characters, according to fontTools."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont

from rsis_tf.runtime import Instance
from rsis_tf.visualization import fonts, overlay, sequence_strip, sequences_sheet


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Simulates an operating system with no fonts but those that the returned function writes."""

    def clear():
        for cached in (fonts._font_file, fonts._files, fonts._warn):
            cached.cache_clear()

    for name in ("XDG_DATA_HOME", "XDG_DATA_DIRS", "HOME", "WINDIR", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(fonts, "_PACKAGED", ())
    clear()

    def write(name, characters):
        (tmp_path / "fonts").mkdir(exist_ok=True)
        write_font(tmp_path / "fonts" / name, characters)
        clear()

    yield write
    monkeypatch.undo()
    clear()


def write_font(path, characters):
    """Writes a TrueType font: each character is a block of a different height, a missing character is a thin line."""
    order = [".notdef", *(f"u{ord(c):04X}" for c in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap({ord(c): f"u{ord(c):04X}" for c in characters})
    glyphs = {}
    for number, name in enumerate(order):
        pen, top = TTGlyphPen(None), 100 + 600 * number / len(order)
        pen.moveTo((100, 0))
        for point in ((100, top), (700, top), (700, 0)):
            pen.lineTo(point)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(order, (800, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def characters_of(path):
    """Returns the code points of a font file, read without FreeType."""
    font = TTCollection(path).fonts[0] if path.endswith(".ttc") else TTFont(path)
    return set(font.getBestCmap())


def named(*names):
    masks = np.zeros((len(names), 16, 16), bool)
    for k in range(len(names)):
        masks[k, 5 * k : 5 * k + 4, 2:9] = True
    probs = np.full(len(names) + 1, 0.1, np.float32)
    return [
        Instance(mask, k, name, 0.9, k - 1, 0.9, probs)
        for k, (name, mask) in enumerate(zip(names, masks, strict=True), 1)
    ]


def test_each_word_has_a_font_with_its_characters(installed):
    installed("A Sans.ttf", "猫犬")
    installed("B Sans.ttf", "Größe, 猫")
    installed("C Sans.ttf", "แมว")
    for name, file in (
        ("猫", "A Sans.ttf"),
        ("Größe", "B Sans.ttf"),
        ("Größe 猫", "B Sans.ttf"),
        ("แมว", "C Sans.ttf"),
    ):
        chosen = fonts._font_file(fonts._characters(name))
        assert chosen.endswith(file), name
        assert {ord(c) for c in name if c != " "} <= characters_of(chosen)
    assert [part for _, part in fonts._runs("3  แมว 犬  0.93", 14)] == ["3", "  ", "แมว", " ", "犬", "  ", "0.93"]


def test_names_with_known_characters_are_drawn_without_a_warning(capsys):
    for name in ("Größe", "кошка", "γάτα", "kočka"):
        chosen = fonts._font_file(fonts._characters(name))  # from matplotlib or the operating system
        assert {ord(c) for c in name} <= characters_of(chosen)
        assert fonts.drawable(name, "class 1") == name
    assert capsys.readouterr().err == ""


def test_a_name_that_no_font_has_is_replaced_by_its_number_with_a_warning(installed, capsys):
    image = np.zeros((16, 16, 3), np.uint8)
    wanted, strip = overlay(image, named("class 1", "class 2")), sequence_strip(image, named("class 1", "class 2"))
    assert capsys.readouterr().err == ""
    assert np.array_equal(overlay(image, named("猫", "犬")), wanted)
    assert np.array_equal(sequence_strip(image, named("猫", "犬")), strip)
    assert capsys.readouterr().err == (
        "warning: no installed font has all characters of some names, so drawings show their numbers instead: "
        'pip install "rsis_tf[fonts]"\n'
    )
    assert sequences_sheet([("猫.png", strip)]).shape[0] > strip.shape[0]


def test_different_names_give_different_drawings(installed, capsys):
    installed("A Sans.ttf", "猫犬")
    image = np.zeros((16, 16, 3), np.uint8)
    cat, dog = (overlay(image, named(name)) for name in ("猫", "犬"))
    assert cat.shape == dog.shape
    assert not np.array_equal(cat, dog)
    assert capsys.readouterr().err == ""


def test_files_that_are_not_fonts_are_ignored(installed, tmp_path):
    installed("B Sans.ttf", "猫")
    (tmp_path / "fonts/A Sans.ttf").write_bytes(b"no font")
    assert fonts._font_file("猫").endswith("B Sans.ttf")
