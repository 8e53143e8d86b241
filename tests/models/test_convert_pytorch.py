"""PyTorch checkpoints, old and new, whole and broken."""

import argparse
import pathlib
import pickle
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from golden_weights import golden_model, parameter, recipe_states
from legacy_torch import Global, Reduced, arguments_bytes, original_arguments, write_checkpoint

from rsis_tf.cli.convert import main
from rsis_tf.errors import InputError
from rsis_tf.models import ModelConfig, build_model
from rsis_tf.models.pytorch.checkpoint import read_arguments
from rsis_tf.models.pytorch.convert import (
    config_from_arguments,
    ignored_arguments,
    load_backbone,
    load_checkpoint,
    load_state_dicts,
    state_dicts,
)
from rsis_tf.models.pytorch.names import backbone_pairs

OUTSIDE = pathlib.Path(__file__).parents[1] / "outside"
ARGUMENTS = original_arguments(
    base_model="resnet34",
    hidden_size=16,
    num_classes=9,
    maxseqlen=20,
    imsize=64,
    dataset="cityscapes",
    dropout_cls=0.5,
)


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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"neck_channels": 8},
            "only hold networks with neck_channels=0. Received: neck_channels=8",
        ),
        (
            {"neck_channels": 8, "mask_head": "voting", "class_features": "mask"},
            "only hold networks with mask_head='convolution', neck_channels=0, class_features='pooled'. "
            "Received: mask_head='voting', neck_channels=8, class_features='mask'",
        ),
        ({"min_channels": 8}, "only hold networks with min_channels=0. Received: min_channels=8"),
    ],
)
def test_networks_that_the_original_does_not_have_are_refused(fields, message, model):
    foreign = build_model(ModelConfig(encoder="compact", hidden_size=16, num_classes=9, **fields))
    with pytest.raises(InputError, match=re.escape(message)):
        state_dicts(foreign)
    with pytest.raises(InputError, match=re.escape(message)):
        load_state_dicts(foreign, *state_dicts(model))


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


def test_arguments_as_the_original_saves_them():
    """`save_checkpoint` pickles the whole namespace under Python 2, with a `numpy.float64` in it."""
    arguments = read_arguments(OUTSIDE / "args-python2.pkl")
    assert type(arguments["best_val_loss"]) is float
    assert arguments["best_val_loss"] == 0.731
    assert (arguments["resume"], arguments["lr_cnn"], arguments["server"]) == (False, 1e-6, "http://localhost")
    assert ignored_arguments(arguments) == []
    config = config_from_arguments(arguments)
    assert (config.encoder, config.hidden_size, config.num_steps) == ("resnet34", 16, 10)
    assert config.image_size == (256, 256)
    assert config.class_names[-1] == "tvmonitor"


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_arguments_of_python_2(protocol, tmp_path):
    path = tmp_path / "args.pkl"
    path.write_bytes(arguments_bytes(ARGUMENTS, protocol=protocol))
    assert read_arguments(path) == ARGUMENTS
    config = config_from_arguments(read_arguments(path))
    assert (config.encoder, config.hidden_size, config.num_steps) == ("resnet34", 16, 20)
    assert config.image_size == (64, 128)
    assert config.class_names[1:3] == ("person", "rider")


@pytest.mark.parametrize("protocol", range(6))
def test_arguments_of_python_3(protocol, tmp_path):
    """Numbers of NumPy are those of this interpreter, `numpy._core.multiarray.scalar` since NumPy 2."""
    import argparse

    numbers = {"a": np.float64(0.25), "b": np.float32(0.5), "c": np.int64(-3), "d": np.bool_(True), "e": np.uint8(200)}
    namespace = argparse.Namespace(**ARGUMENTS, **numbers, sizes=[1, (2, 3)], name="größe")
    (tmp_path / "args.pkl").write_bytes(pickle.dumps(namespace, protocol))
    arguments = read_arguments(tmp_path / "args.pkl")
    assert arguments == vars(namespace)
    assert {type(arguments[name]) for name in numbers} == {float, int, bool}
    assert ignored_arguments(arguments) == ["a", "b", "c", "d", "e", "name", "sizes"]


class Thing:
    pass


def test_values_that_cannot_matter_are_named_and_not_built(tmp_path):
    import argparse

    strange = {"an_array": np.zeros(3), "a_thing": Thing(), "a_set": {1}, "a_date": np.datetime64("2018-01-01"),
               "keys": {(1, 2): 3}, "best_val_loss": np.zeros(2)}  # fmt: skip
    for protocol in (0, 2, 4):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(argparse.Namespace(**{**ARGUMENTS, **strange}), protocol))
        arguments = read_arguments(path)
        assert config_from_arguments(arguments) == config_from_arguments(ARGUMENTS)
        ignored = ignored_arguments(arguments)
        assert [entry.split(" ")[0] for entry in ignored] == sorted(strange)
        assert f"a_thing (a value that needs {Thing.__module__}.Thing)" in ignored
        assert not any(isinstance(value, np.ndarray | Thing) for value in arguments.values())


def test_a_value_that_matters_must_be_plain(tmp_path):
    path = tmp_path / "args.pkl"
    path.write_bytes(arguments_bytes({**ARGUMENTS, "hidden_size": Reduced(Global("posix", "system"), "true")}))
    with pytest.raises(InputError, match=r"Received: hidden_size=a value that needs posix\.system"):
        config_from_arguments(read_arguments(path))
    for wrong in ("16", 16.0, True, None, [16]):
        with pytest.raises(InputError, match=r"expected hidden_size of an rsis run as int\. Received: hidden_size="):
            config_from_arguments({**ARGUMENTS, "hidden_size": wrong})


def test_reading_arguments_leaves_the_class_alone(tmp_path):
    """BUILD sets attributes of what it is given; a class given to it would keep them for the whole process."""
    import argparse

    path = tmp_path / "args.pkl"
    for state in (b"}X\x04\x00\x00\x00evilNs", b"N}X\x04\x00\x00\x00evilNs\x86"):
        path.write_bytes(b"\x80\x02cargparse\nNamespace\n" + state + b"b.")
        with pytest.raises(InputError):
            read_arguments(path)
        assert not hasattr(argparse.Namespace, "evil")


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


def shared_lists() -> list:
    value: list = []
    for _ in range(60):
        value = [value, value]
    return value


def recursive_list() -> list:
    value: list = [1]
    value.append({"again": value})
    return value


@pytest.mark.parametrize("name", ["my_option", "hidden_size"])
@pytest.mark.parametrize("make", [shared_lists, recursive_list])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_arguments_with_shared_and_recursive_lists(name, make, protocol, tmp_path):
    values = argparse.Namespace(**{**ARGUMENTS, name: make()})
    (tmp_path / "args.pkl").write_bytes(pickle.dumps(values, protocol))
    arguments = read_arguments(tmp_path / "args.pkl")
    if name == "my_option":
        assert config_from_arguments(arguments).hidden_size == 16
        assert ignored_arguments(arguments) == ["my_option"]
    else:
        with pytest.raises(InputError, match=r"Received: hidden_size=a value of type list$"):
            config_from_arguments(arguments)


@pytest.mark.parametrize(
    "changes",
    [
        *({"hidden_size": value} for value in (None, True, "16", 16.0, [16], b"16", 1 << 40, -(10**4999))),
        *({"base_model": value} for value in (None, 3, "x" * 100_000, "resnet\x1b[31m\n", ["resnet34"])),
        *({"dropout": value} for value in ("0", float("nan"), float("inf"), 1 << 5000, None)),
        *({"imsize": value} for value in ((64, 64), 1 << 33, "64")),
    ],
    ids=lambda changes: f"{next(iter(changes))}-{type(next(iter(changes.values()))).__name__}",
)
def test_arguments_of_another_type_or_size_are_refused_in_one_line(changes, tmp_path):
    (tmp_path / "args.pkl").write_bytes(pickle.dumps(argparse.Namespace(**{**ARGUMENTS, **changes}), 2))
    with pytest.raises(InputError, match=r"Received: ") as error:
        config_from_arguments(read_arguments(tmp_path / "args.pkl"))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


def test_names_from_a_file_stand_in_messages_without_control_characters(model, tmp_path, capsys):
    states = recipe_states(model)
    strange = {f"a\n\x1b[31m{number}": np.zeros(1, "f4") for number in range(50)}
    with pytest.raises(InputError, match=r"unexpected \(50\): a.* and 30 more$") as error:
        load_state_dicts(model, states[0], {**states[1], **strange})
    assert str(error.value).isprintable()
    options = {f"my\n\x1b[31m{number}": 3 for number in range(50)}
    write_checkpoint(tmp_path / "run", states, {**ARGUMENTS, **options})
    load_checkpoint(tmp_path / "run")
    line = capsys.readouterr().err.removesuffix("\n")
    assert line.isprintable()
    assert line.endswith(" and 30 more")


@pytest.mark.parametrize("name", ["hidden_size", "num_classes"])
def test_a_small_file_cannot_ask_for_a_huge_network(model, name, tmp_path):
    write_checkpoint(tmp_path / "run", recipe_states(model), {**ARGUMENTS, name: 1 << 24})
    with pytest.raises(InputError):
        load_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite_are_refused(model, value):
    encoder, decoder = recipe_states(model)
    decoder["fc_stop.bias"] = np.array([value])
    with pytest.raises(InputError, match=r"must be finite\. Received: NaN or infinite values in \(1\): fc_stop\.bias"):
        load_state_dicts(model, encoder, decoder)


def test_checkpoint_of_the_original(model, tmp_path, capsys, monkeypatch):
    """All five files of a run on several GPUs, as Python 2.7 and PyTorch 0.2 wrote them; without PyTorch."""
    monkeypatch.setitem(sys.modules, "torch", None)
    write_checkpoint(tmp_path / "run", recipe_states(model), {**ARGUMENTS, "my_option": 3})
    main([str(tmp_path / "run"), "--out", str(tmp_path / "model.keras")])
    assert capsys.readouterr().err == f"{tmp_path}/run/args.pkl: not used: my_option\n"
    converted = keras.models.load_model(tmp_path / "model.keras")
    expected = golden_model(encoder="resnet34", hidden_size=16, num_classes=9)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
    for key, value in expected(images, num_steps=2, training=False).items():
        np.testing.assert_allclose(converted(images, num_steps=2, training=False)[key], value, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.keras", "run"]


@pytest.mark.parametrize("changes", [{"hidden_size": 32}, {"num_classes": 21}, {"skip_mode": "sum"}])
def test_weights_of_another_network_than_that_of_the_arguments(changes, model, tmp_path):
    write_checkpoint(tmp_path / "run", recipe_states(model), {**ARGUMENTS, **changes})
    ((name, value),) = changes.items()
    with pytest.raises(InputError, match=rf"args\.pkl describes \(.*{name}={value!r}.* Received: {tmp_path}/run \(the"):
        load_checkpoint(tmp_path / "run")


@pytest.mark.parametrize("wrong", ["no folder", "no arguments", "not .keras", "other size"])
def test_command_line_says_what_is_wrong(wrong, model, tmp_path):
    write_checkpoint(tmp_path / "run", recipe_states(model), ARGUMENTS)
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
        [sys.executable, "-m", "rsis_tf", "convert", folder, "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "Received: " in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()
