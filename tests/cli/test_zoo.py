"""`rsis zoo`: the table, one card, and both as JSON."""

import json

import pytest

from rsis_tf.cli.zoo import main
from rsis_tf.zoo import registry
from rsis_tf.zoo.card import SHOWN, read_card


def test_the_table_has_a_line_for_each_model(capsys):
    main([])
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "finds", "size", "AP50", "SBD", "|DiC|", "licence"]
    assert [line.split()[0] for line in lines] == registry.names()
    card = read_card("shapes")
    (line,) = [line for line in lines if line.startswith("shapes ")]
    assert card.finds in line
    assert f"{card.measured.scores['ap50'].value:.2f}" in line
    assert line.endswith(card.license)


def test_a_card_in_words(capsys):
    main(["shapes"])
    text = capsys.readouterr().out
    card = read_card("shapes")
    flat = " ".join(text.split())
    for part in (card.command, card.measured.command, card.data_license, *card.limits, *card.not_for, *SHOWN.values()):
        assert part in flat
    assert max(map(len, text.splitlines())) <= 100


def test_json_is_the_card(capsys):
    main(["shapes", "--json"])
    one = json.loads(capsys.readouterr().out)
    assert one == json.loads(registry.file_of("shapes", ".json").read_text(encoding="utf-8"))
    main(["--json"])
    assert one in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["shaps", "../shapes", "Shapes", "shapes.onnx"])
def test_other_names_end_in_one_line(capsys, name):
    with pytest.raises(SystemExit) as end:
        main([name])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"Received: {name}" in line
