"""PyTorch checkpoints, old and new, whole and broken."""

import pathlib
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from golden_weights import golden_model, parameter, recipe_states
from legacy_torch import arguments_bytes, state_bytes

from rsis_tf.errors import InputError
from rsis_tf.models import ModelConfig, build_model
from rsis_tf.models.convert_pytorch import (
    config_from_arguments,
    load_backbone,
    load_state_dicts,
    main,
    state_dicts,
)
from rsis_tf.models.torch_checkpoint import read_arguments, read_state
from rsis_tf.models.torch_names import backbone_pairs

ARGUMENTS = {
    "base_model": "resnet34",
    "hidden_size": 16,
    "num_classes": 9,
    "kernel_size": 3,
    "skip_mode": "concat",
    "maxseqlen": 20,
    "imsize": 64,
    "dataset": "cityscapes",
    "dropout": 0.0,
    "dropout_cls": 0.5,
    "use_gpu": True,
    "model_name": None,
}


@pytest.fixture(scope="module")
def model():
    return build_model(ModelConfig(encoder="resnet34", hidden_size=16, num_classes=9, dropout_class=0.5))


def test_round_trip(model):
    states = recipe_states(model)
    load_state_dicts(model, *states)
    for state, again in zip(states, state_dicts(model), strict=True):
        assert list(state) == list(again)
        for name, array in state.items():
            np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_classifier_and_counters_are_passed_over(model):
    encoder, decoder = recipe_states(model)
    encoder["base.fc.weight"], encoder["base.fc.bias"] = np.zeros((1000, 512)), np.zeros(1000)
    encoder["bn5.num_batches_tracked"] = np.array(7)
    load_state_dicts(model, encoder, decoder)


def test_everything_that_does_not_fit_is_listed_and_nothing_is_loaded(model):
    encoder, decoder = recipe_states(model)
    before = state_dicts(model)[0]["sk5.weight"]
    encoder["sk5.weight"] = encoder["sk5.weight"] + 1
    del decoder["fc_stop.bias"]
    decoder["fc_extra.weight"] = np.zeros(3)
    decoder["conv_out.weight"] = np.zeros((1, 1, 1, 1))
    with pytest.raises(InputError) as error:
        load_state_dicts(model, encoder, decoder)
    message = str(error.value)
    assert "missing (1): fc_stop.bias" in message
    assert "unexpected (1): fc_extra.weight" in message
    assert "conv_out.weight (1, 1, 1, 1) where the model has (1, 1, 3, 3)" in message
    np.testing.assert_array_equal(state_dicts(model)[0]["sk5.weight"], before)


def test_torchvision_backbone(model):
    state = {pair.name: parameter(pair.name, pair.torch_shape) for pair in backbone_pairs(model)}
    state["fc.weight"], state["fc.bias"] = np.zeros((1000, 512)), np.zeros(1000)
    load_backbone(model, state)
    np.testing.assert_array_equal(
        state_dicts(model)[0]["base.layer3.0.downsample.0.weight"], state["layer3.0.downsample.0.weight"]
    )


def test_arguments_of_python_2(tmp_path):
    path = tmp_path / "args.pkl"
    path.write_bytes(arguments_bytes(ARGUMENTS))
    assert read_arguments(path) == ARGUMENTS
    config = config_from_arguments(ARGUMENTS)
    assert (config.encoder, config.hidden_size, config.num_steps) == ("resnet34", 16, 20)
    assert config.image_size == (64, 128)
    assert config.class_names[1:3] == ("person", "rider")


def test_arguments_of_python_3(tmp_path):
    import argparse

    (tmp_path / "args.pkl").write_bytes(pickle.dumps(argparse.Namespace(**ARGUMENTS, sizes=[1, (2, 3)])))
    assert read_arguments(tmp_path / "args.pkl")["sizes"] == [1, (2, 3)]


class Thing:
    pass


@pytest.mark.parametrize(
    "content",
    [
        arguments_bytes({"a": 1}, module="os", name="system"),
        arguments_bytes({"a": 1}, module="collections", name="OrderedDict"),
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        pickle.dumps({"a": 1}),
        pickle.dumps(Thing()),
        b"",
        b"junk",
    ],
    ids=["reconstructed", "other class", "call", "eval", "dictionary", "object", "empty", "junk"],
)
def test_other_pickles_are_refused(content, tmp_path):
    path = tmp_path / "args.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"expected .*argparse.Namespace.* Received: "):
        read_arguments(path)


def test_namespace_of_other_than_plain_values_is_refused(tmp_path):
    path = tmp_path / "args.pkl"
    path.write_bytes(
        b"ccopy_reg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\nobject\nNtR(dS'a'\nc__builtin__\nobject\nsb."
    )
    with pytest.raises(InputError, match=r"expected plain values\. Received: a of type type"):
        read_arguments(path)


def write_checkpoint(folder: pathlib.Path, model, prefix: str = "module.") -> None:
    folder.mkdir()
    for part, state in zip(("encoder", "decoder"), recipe_states(model), strict=True):
        prefixed = {prefix + name: array for name, array in state.items()}
        (folder / f"{part}.pt").write_bytes(state_bytes(prefixed))
    (folder / "args.pkl").write_bytes(arguments_bytes(ARGUMENTS))


def test_legacy_checkpoint_of_a_gpu_run(model, tmp_path, capsys):
    pytest.importorskip("torch")
    write_checkpoint(tmp_path / "run", model)
    main(["--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "model.keras")])
    converted = keras.models.load_model(tmp_path / "model.keras")
    expected = golden_model(encoder="resnet34", hidden_size=16, num_classes=9)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    for key, value in expected(images, num_steps=2, training=False).items():
        np.testing.assert_allclose(converted(images, num_steps=2, training=False)[key], value, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.keras", "run"]


@pytest.mark.parametrize(("storage", "location"), [("torch.cuda", "cuda:0"), ("torch", "cpu")])
def test_legacy_tensors(storage, location, tmp_path):
    pytest.importorskip("torch")
    state = {"a.weight": np.arange(24, dtype="f4").reshape(2, 3, 4), "b": np.array([1.5], "f4")}
    (tmp_path / "x.pt").write_bytes(state_bytes(state, storage=storage, location=location))
    again = read_state(tmp_path / "x.pt")
    assert list(again) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(again[name], array)


def test_todays_files_and_wrong_ones(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pt"
    torch.save({"module.a": torch.ones(2, 3), "b": torch.zeros(2).half()}, path)
    assert {name: array.shape for name, array in read_state(path).items()} == {"a": (2, 3), "b": (2,)}
    torch.save({"a": Thing()}, path)
    with pytest.raises(
        InputError, match=r"expected a PyTorch file of tensors alone. Received: .*it asks to run .*Thing"
    ):
        read_state(path)
    torch.save({"a": 3}, path)
    with pytest.raises(InputError, match=r"expected tensors by name. Received: .* 'a' is int"):
        read_state(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"expected a PyTorch file of tensors alone. Received: .*x.pt"):
        read_state(path)


@pytest.mark.parametrize("wrong", ["no folder", "no arguments", "not .keras", "other size"])
def test_command_line_says_what_is_wrong(wrong, model, tmp_path):
    pytest.importorskip("torch")
    write_checkpoint(tmp_path / "run", model)
    folder, out = tmp_path / "run", tmp_path / "model.keras"
    if wrong == "no folder":
        folder = tmp_path / "other"
    elif wrong == "no arguments":
        (folder / "args.pkl").unlink()
    elif wrong == "not .keras":
        out = tmp_path / "model.h5"
    else:
        (folder / "args.pkl").write_bytes(arguments_bytes({**ARGUMENTS, "hidden_size": 32}))
    result = subprocess.run(
        [sys.executable, "-m", "rsis_tf.models.convert_pytorch", "--checkpoint", folder, "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "Received: " in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()
