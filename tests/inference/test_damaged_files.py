"""Damaged Keras, SavedModel and TFLite files: refused when they are opened, never an image without objects."""

import io
import json
import pathlib
import shutil
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from rsis_tf.errors import InputError
from rsis_tf.inference import load_model, open_model
from rsis_tf.runtime import checksums, printable

EARLIER = pathlib.Path(__file__).parents[1] / "earlier" / "files.tar.xz"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run and its exports by an earlier version, which wrote no checksums."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(EARLIER) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def files(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "files")
    return tmp_path / "files"


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def refused(path, **options) -> str:
    with pytest.raises(InputError) as caught:
        open_model(path, **options)
    message = str(caught.value)
    assert ". Received: " in message
    assert message == printable(message)
    return message


def rewrite(path, change):
    """Changes the members of a `.keras` file, bytes by name."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


# Keras


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_weight_that_is_not_finite_is_found_when_a_keras_file_is_opened(files, value):
    def damage(members):
        content = io.BytesIO(members["model.weights.h5"])
        names: list[str] = []
        with h5py.File(content, "r+") as weights:
            weights.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            weights[names[len(names) // 2]][...] = value
        members["model.weights.h5"] = content.getvalue()

    rewrite(files / "voting/best.keras", damage)
    text = "NaN" if np.isnan(value) else "an infinite value"
    assert f"the file's weights may be damaged. Received: {text} in " in refused(files / "voting")
    with pytest.raises(InputError, match=r"best\.keras"):
        load_model(files / "voting")


def test_infinite_logits_of_a_keras_model_are_an_error(files, image):
    """A sigmoid would turn them into 0, which reads as no object."""
    predictor = open_model(files / "paper")
    assert predictor.run(image[None])[2].shape == (1, 4)
    predictor.model.decoder.stop_head.bias.assign([-np.inf])
    with pytest.raises(InputError, match=r"may be damaged\. Received: an infinite value in stop from .*best\.keras"):
        predictor(image)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b" " * (1 << 25)),
        ("metadata.json", b" " * (1 << 25)),
        ("other.bin", bytes(1 << 28)),
        ("config.json", b"[" * 100_000),
        ("config.json", b"9" * 5000),
        ("config.json", b"\xff"),
    ],
)
def test_a_keras_file_that_grows_when_it_is_unpacked_or_holds_no_settings_is_refused(files, name, content):
    rewrite(files / "voting/best.keras", lambda members: members.update({name: content}))
    assert "best.keras" in refused(files / "voting")


# Exports with a JSON file beside them


@pytest.mark.parametrize("name", ["model.tflite", "saved_model"])
def test_sidecars_are_checked_when_the_model_is_opened(files, name):
    path = files / "exports/voting" / name
    side = path.with_name(f"{name}.json")
    whole = json.loads(side.read_text())
    for change in (
        *({"image_size": value} for value in (None, [64], [[64], 64], [32, 32], [10**8, 10**8], "64")),
        *({"class_names": value} for value in (None, ["a", "b"], [1, 2, 3, 4], ["a", "b", "c", "\ud800"])),
        *({"category_ids": value} for value in ([0, 1], [0, 1, 1, 2], [None] * 4)),
        *({"stop_threshold": value} for value in (float("nan"), 2, None, True)),
        *({"input": value} for value in (None, [], {}, {"shape": 3, "dtype": "uint8"}, {"shape": [1, 2]})),
        *({"input": {"shape": [None, 64, 64, 3], "dtype": value}} for value in ("float64", "object", 7, "float32")),
        *({"input": {"shape": [value, 64, 64, 3], "dtype": "uint8"}} for value in (True, 0, 10**9, 10**30)),
        {"format_version": 2},
    ):
        side.write_text(json.dumps(whole | change))
        assert name in refused(path), change
    for content in (b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"image_size": ' + b"9" * 5000 + b"}"):
        side.write_bytes(content)
        assert f"the JSON file that the exporter writes beside {name}" in refused(path)
    side.unlink()
    assert f"{name}.json (No such file" in refused(path)


@pytest.mark.parametrize(
    ("name", "part"), [("model.tflite", ""), ("saved_model", "variables/variables.data-00000-of-00001")]
)
def test_a_flipped_byte_is_found_by_the_checksum(files, image, name, part):
    path = files / "exports/voting" / name
    side = path.with_name(f"{name}.json")
    whole = json.loads(side.read_text())
    assert "sha256" not in whole  # an earlier version wrote it
    expected = open_model(path).run(image[None])[0]
    side.write_text(json.dumps(whole | {"sha256": checksums(path)}))
    damaged = path / part if part else path
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 255
    damaged.write_bytes(content)
    message = refused(path)
    assert "which was changed or damaged" in message
    assert part in message
    content[len(content) // 2] ^= 255
    damaged.write_bytes(content)
    assert np.array_equal(open_model(path).run(image[None])[0], expected)


def test_a_saved_model_has_a_checksum_for_each_file_that_counts(files):
    assert sorted(checksums(files / "exports/voting/saved_model")) == [
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
