"""The cards of the package's models: complete, true to the files, and the same in the documents."""

import dataclasses
import hashlib
import json
import pathlib
import re
import runpy
import shlex

import pytest

from rsis_tf.cli import main as command
from rsis_tf.config import RunConfig, json_file
from rsis_tf.errors import InputError
from rsis_tf.runtime import read_sidecar
from rsis_tf.zoo import registry
from rsis_tf.zoo.card import SHOWN, Card, read_card, read_cards
from rsis_tf.zoo.text import markdown

ROOT = pathlib.Path(__file__).parents[2]
NAMES = registry.names()
MAKE_ZOO = runpy.run_path(str(ROOT / "benchmarks/make_zoo.py"))


def values(name):
    return json.loads(registry.file_of(name, ".json").read_text(encoding="utf-8"))


def test_there_are_models_and_their_names_are_sorted():
    assert "shapes" in NAMES
    assert sorted(NAMES) == NAMES
    assert [path.name for path in sorted(registry.FOLDER.iterdir())] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_holds_the_files_of_its_card_and_nothing_else(name):
    card = read_card(name)
    files = {path.name: path for path in (registry.FOLDER / name).iterdir()}
    assert sorted(card.files) == [f"{name}.keras", f"{name}.onnx"]
    assert sorted(files) == sorted(
        [*card.files, *(f"{file}.json" for file in card.files), f"{name}.json", "config.json"]
    )
    for file, stored in card.files.items():
        content = files[file].read_bytes()
        assert (stored.bytes, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert read_sidecar(files[file])["sha256"] == stored.sha256


def test_files_are_small():
    sizes = {path: path.stat().st_size for path in registry.FOLDER.rglob("*") if path.is_file()}
    assert [path.name for path, size in sizes.items() if size > MAKE_ZOO["LARGEST_FILE"]] == []
    assert sum(sizes.values()) <= MAKE_ZOO["LARGEST_SUM"]
    assert (MAKE_ZOO["LARGEST_FILE"], MAKE_ZOO["LARGEST_SUM"]) == (8_000_000, 20_000_000)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_describes_the_network_in_the_file(name):
    card, about = read_card(name), read_sidecar(registry.file_of(name, ".onnx"))
    assert card.class_names == tuple(about["class_names"])
    assert card.image_size == tuple(about["image_size"])
    assert (card.num_steps, card.encoder) == (about["num_steps"], about["encoder"])
    assert card.license == about["license"]


@pytest.mark.parametrize("name", NAMES)
def test_the_training_command_gives_the_settings_of_the_model(name):
    from rsis_tf.cli.train import make_parser
    from rsis_tf.cli.train_settings import configure

    card, stored = read_card(name), json_file.load(RunConfig, registry.FOLDER / name / "config.json")
    program, train, *words = shlex.split(card.command)
    assert (program, train) == ("rsis", "train")
    made = configure(make_parser(words).parse_args(words))
    assert MAKE_ZOO["differing"](made, stored) == []
    assert made.train.seed == stored.train.seed == card.seed
    assert stored.data.root is None


@pytest.mark.parametrize("name", NAMES)
def test_every_number_in_the_texts_is_a_field_or_a_score(name):
    card = read_card(name)
    known = {str(number) for number in (card.num_steps, *card.image_size, *card.seeds, card.measured.images)}
    known |= {f"{score.value:.{digits}f}" for score in card.measured.scores.values() for digits in (1, 2, 3)}
    texts = (card.finds, *card.limits, *card.not_for)
    numbers = [number for text in texts for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?%?(?!\w)", text)]
    assert [number for number in numbers if number not in known] == []
    assert all(command.startswith("rsis ") for command in (card.measured.command, card.speed.command))


def test_no_card_names_a_place_of_the_machine_that_made_it():
    for path in sorted(registry.FOLDER.rglob("*.json")):
        assert re.findall(r'"(?:/|[A-Z]:\\|~|\.\.)[^"]*"', path.read_text(encoding="utf-8")) == [], path.name


@pytest.mark.slow
def test_the_scores_of_a_card_are_those_of_its_command(capsys):
    card = read_card("shapes")
    command.main([*shlex.split(card.measured.command)[1:]])
    shown = capsys.readouterr().out
    for name, title in SHOWN.items():
        found = re.search(rf"^\s*{re.escape(title)}\s+(-?[\d.]+)", shown, re.MULTILINE)
        assert found is not None, title
        assert float(found[1]) == pytest.approx(card.measured.scores[name].value, abs=6e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 7}, "seed must be one of the seeds"),
        ({"license": ""}, "license must be a text"),
        ({"format": 2}, "format must be one of 1"),
        ({"num_steps": "4"}, "num_steps must be an integer"),
        ({"best": 1}, "Card has the fields"),
        ({"seeds": [0, 1, 2, 3, 4, 5, 6]}, "scores, one for each seed"),
        ({"files": {"shapes.onnx": {"bytes": 1, "sha256": "x"}}}, "sha256 must be 64 hexadecimal digits"),
    ],
)
def test_a_wrong_card_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        json_file.from_dict(Card, values("shapes") | change)


def test_a_score_outside_of_its_interval_is_refused():
    card = values("shapes")
    card["measured"]["scores"]["sbd"]["value"] = 0.999
    with pytest.raises(InputError, match="in the interval"):
        json_file.from_dict(Card, card)


def test_a_card_without_one_of_the_scores_is_refused():
    card = values("shapes")
    del card["measured"]["scores"]["ap75"]
    with pytest.raises(InputError, match="scores must be the scores"):
        json_file.from_dict(Card, card)


def test_a_card_of_another_model_is_refused(tmp_path, monkeypatch):
    (tmp_path / "forms").mkdir()
    (tmp_path / "forms/forms.json").write_text(json.dumps(values("shapes")), encoding="utf-8")
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    with pytest.raises(InputError, match=r"expected the card of forms\. Received: that of shapes"):
        read_card("forms")


def test_the_page_holds_the_cards():
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    _, _, rest = text.partition(MAKE_ZOO["BEGIN"])
    assert rest.partition(MAKE_ZOO["END"])[0].strip() == markdown(read_cards()).strip()


def test_spread_over_seeds():
    score = read_card("shapes").measured.scores["ap50"]
    several = dataclasses.replace(score, seeds=(0.8, 0.9, 1.0))
    assert (several.mean, several.deviation) == (pytest.approx(0.9), pytest.approx(0.1))
    assert dataclasses.replace(score, seeds=(0.8,)).deviation is None
