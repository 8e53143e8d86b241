"""Settings as JSON: files of this version and of earlier ones."""

import json
import pathlib
import subprocess
import sys

import pytest

from rsis_tf.config import RunConfig, json_file
from rsis_tf.config.presets import PRESETS, nuclei, paper_shapes, shapes
from rsis_tf.errors import InputError

EARLIER = pathlib.Path(__file__).parents[1] / "earlier"


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_written_is_read(name, tmp_path):
    settings = PRESETS[name]().changed(class_weight=0.75, rotation=3.0)
    json_file.write(settings, tmp_path / "config.json")
    assert json_file.load(RunConfig, tmp_path / "config.json") == settings
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_file_has_a_format_and_stores_shared_settings_once():
    values = json.loads(json_file.to_json(shapes()))
    assert values["format"] == json_file.FORMAT
    text = json.dumps(values)
    for name in ("image_size", "aspect", "num_steps"):
        assert text.count(f'"{name}"') == 1, name
        assert name in values["model"]


TINY = {
    **{"hidden_size": 16, "min_channels": 8, "decoder_stages": 4, "stop_threshold": 0.3},
    **{"batch_size": 4, "train_size": 16, "val_size": 8, "epochs": 90, "schedule": "constant", "ema": 0.99},
    **{"learning_rate": 0.005, "encoder_learning_rate": 0.005, "clip_norm": 5.0, "mask_cross_entropy": 1.0},
    **{"class_weight": 1.0, "stop_weight": 1.0, "calibrate_objectness": False},
    "class_names": ("background", "circle", "square", "triangle"),
}
"""What the commands that made the two runs changed in their presets."""
NUCLEI_THEN = {
    "hidden_size": 64,
    "min_channels": 16,
    "image_size": (256, 256),
    "batch_size": 8,
    "zoom": None,
    "found_by_votes": 0.0,
    "epochs": 150,
    "optimizer": "adam",
    "learning_rate": 2e-3,
    "encoder_learning_rate": 3e-4,
}
"""Settings of the preset `nuclei` at the time of its file that differ from those of today."""


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("config-flat.json", shapes().changed(**TINY, optimizer="adam", neck_channels=8, sequence_length=4)),
        ("config-flat-paper.json", paper_shapes().changed(**{**TINY, "decoder_stages": 5})),
        ("config-flat-nuclei.json", nuclei().changed(**NUCLEI_THEN)),
    ],
)
def test_files_of_format_1_are_read(file, expected):
    """They store the training as one flat list of fields, with the weights of every mask head."""
    assert json_file.load(RunConfig, EARLIER / file).resolved() == expected.resolved()


def test_switches_and_weights_of_format_1_are_kept(tmp_path):
    values = json.loads((EARLIER / "config-flat.json").read_text())
    values["train"] |= {"use_stop_loss": False, "class_loss_after": 3, "voting_weight": 0.5}
    settings = json_file.from_dict(RunConfig, values)
    assert settings.train.curriculum.stop_loss_after == -1
    assert settings.train.curriculum.class_loss_after == 3
    assert settings.train.losses.of_head("voting") == {"voting_loss": 0.5, "pointing_loss": 0.2}


def test_a_field_that_an_earlier_file_lacks_has_its_default():
    values = {"model": {"encoder": "compact"}, "data": {"augment": True}, "train": {"epochs": 2}}
    settings = json_file.from_dict(RunConfig, values)
    assert settings.train.epochs == 2
    assert settings.data.transforms.augment
    assert settings.model.aspect == "stretch"
    assert settings.data.transforms.zoom is None


@pytest.mark.parametrize(
    ("content", "received"),
    [
        ('{"format": 3, "model": {}, "data": {}, "train": {}}', "Received: 3"),
        ('{"model": {}, "data": {}}', "Received: no train"),
        ('{"model": {"size": 3}, "data": {}, "train": {}}', "Received: size"),
        ('{"model": {}, "data": {}, "train": {"losses": 3}}', "Received: losses=3"),
        ('{"model": {}, "data": {}, "train": []}', r"Received: train=\[\]"),
        ('{"model": {"hidden_size": "wide"}, "data": {}, "train": {}}', "Received: .*config.json"),
        (
            '{"model": {"hidden_size": 16.5}, "data": {}, "train": {}}',
            "an integer in .* Received: hidden_size=16.5 in ",
        ),
        ('{"model": {"class_names": "abc"}, "data": {}, "train": {}}', "Received: class_names='abc'"),
        ('{"model": {"mask_head": []}, "data": {}, "train": {}}', r"Received: mask_head=\[\]"),
        ('{"model": {}, "data": {"root": "a\\u0000b"}, "train": {}}', r"Received: root='a\\x00b'"),
        ('{"model": {}, "data": {}, "train": {"learning_rate": NaN}}', "Received: learning_rate=nan"),
        ('{"model": {}, "data": {}, "train": {"use_class_loss": []}}', r"Received: use_class_loss=\[\]"),
        ('{"model": {}, "data": {}, "train": {"head_loss_weights": 3}}', "Received: head_loss_weights=3"),
        ('{"model": {}, "data": {}, "train": {"epochs": 1e999}}', "Received: epochs=inf"),
        ('{"format": true, "model": {}, "data": {}, "train": {}}', "Received: True"),
        ('{"model": {"size\\u001b[0m": 3}, "data": {}, "train": {}}', r"Received: 'size\\x1b\[0m'"),
        ('{"model": {"num_steps": ' + "9" * 5000 + "}}", "Received: .*config.json"),
        ("[" * 100_000, "Received: .*config.json"),
        (" " * (65 << 20), "Received: .*config.json .more than 67,108,864 bytes"),
        ("[]", "Received: list in .*config.json"),
        ("{", "Received: .*config.json"),
    ],
)
def test_other_content_is_refused_in_one_line(tmp_path, content, received):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(InputError, match=received) as caught:
        json_file.load(RunConfig, path)
    assert "\n" not in str(caught.value)


def test_settings_are_read_without_keras():
    program = (
        "import sys; from rsis_tf.config import presets, json_file; presets.custom()\n"
        "assert not {'keras', 'tensorflow', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
