"""The command `rsis`: its table of commands, and `rsis train` as far as it trains nothing."""

import importlib
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from rsis_command import call

import rsis_tf
from rsis_tf.cli import main as command
from rsis_tf.cli import train
from rsis_tf.cli.train_options import FLAGS
from rsis_tf.config import RunConfig, json_file
from rsis_tf.config.presets import PRESETS, custom, cvppp, nuclei

ROOT = pathlib.Path(__file__).parents[2]
ROWS = [row for group in command.COMMANDS.values() for row in group]


def test_every_command_file_is_in_the_table():
    files = {
        path.stem
        for path in (ROOT / "rsis_tf/cli").glob("*.py")
        if re.search(r"^def main\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    modules = {row.module.rpartition(".")[2] for row in ROWS}
    assert files - {"main"} <= modules
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_help_lists_every_command_by_group(argv, capsys):
    code, out, err = call(*argv, capsys=capsys)
    assert (code, err) == (0, "")
    for title, group in command.COMMANDS.items():
        assert f"\n{title}:\n" in out
        for row in group:
            assert re.search(rf"^  {row.name} +{re.escape(row.help)}$", out, re.MULTILINE)


def test_version(capsys):
    assert call("--version", capsys=capsys) == (0, f"rsis {rsis_tf.__version__}\n", "")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("trian",), "did you mean train or .* Received: trian"),
        (("exports",), "did you mean export.* Received: exports"),
        (("12345",), "lists; Received: 12345"),
        (("export", "onxx"), "one of onnx, saved_model, tflite. Received: onxx"),
        (("convert", "--out", "a.keras"), "Received: none"),
        (("train", "--config", "nowhere"), "Received: nowhere"),
        (("train", "--config", "x", "--preset", "voc"), "Received: --preset voc"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(argv, said, capsys):
    code, out, err = call(*argv, capsys=capsys)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"error: .*{said}.*\n", err)


def test_the_list_of_commands_imports_nothing_heavy():
    program = (
        "import sys; from rsis_tf.cli.main import main; main(['--help'])\n"
        "loaded = {'numpy', 'PIL', 'keras', 'tensorflow', 'onnxruntime'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr


def test_help_of_a_command_imports_no_tensorflow():
    """All in one process: whichever command imported it would be seen at the end."""
    present = [row.name for row in ROWS if importlib.util.find_spec(row.module)]
    program = (
        "import contextlib, io, sys\n"
        "from rsis_tf.cli.main import main\n"
        "for name in sys.argv[1:]:\n"
        "    text = io.StringIO()\n"
        "    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):\n"
        "        main([*name.split(), '--help'])\n"
        "    assert 'usage: ' in text.getvalue(), name\n"
        "    loaded = {'keras', 'tensorflow', 'torch'} & set(sys.modules)\n"
        "    assert not loaded, (name, loaded)\n"
    )
    names = [*present, "export onnx", "export saved_model", "export tflite"]
    result = subprocess.run(
        [sys.executable, "-c", program, *names], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes of a shell")
def test_a_pipe_that_is_closed_early_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "rsis_tf", "zoo", "nuclei"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, cwd=ROOT)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")


def test_python_m_rsis_tf_is_rsis():
    result = subprocess.run(
        [sys.executable, "-m", "rsis_tf", "--version"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (result.returncode, result.stdout) == (0, f"rsis {rsis_tf.__version__}\n")


def help_of(*argv, capsys):
    """Returns the help of `rsis train` with every run of blanks as one."""
    code, out, _ = call("train", *argv, "--help", capsys=capsys)
    assert code == 0
    return " ".join(out.split())


def test_help_shows_the_defaults_of_the_preset(capsys):
    text = help_of("--preset", "cvppp", capsys=capsys)
    assert "--epochs E passes over the training images (default: 10000)" in text
    assert "resize images to this size (default: 400x400)" in text
    assert "flip, rotate, shift, shear and zoom training images (default: on)" in text
    text = help_of("--dataset", "coco", "--data", "photos", capsys=capsys)
    assert "--epochs E passes over the training images (default: 100)" in text
    assert "(default: auto)" in text
    assert "weight of the voting loss in the sum, with --mask-head voting (default: 1)" in text


def test_help_shows_the_settings_of_a_stored_run(tmp_path, capsys):
    json_file.write(custom().changed(epochs=77), tmp_path / "config.json")
    assert "training images (default: 77)" in help_of("--config", str(tmp_path), capsys=capsys)


def test_every_setting_of_data_and_training_has_an_option():
    """Only what the dataset decides has none."""
    parser = train.make_parser()
    names = {action.dest for action in parser._actions}
    settings = custom().flat().keys() - {"class_names", "category_ids", "num_classes", "calibrate_objectness"}
    assert settings - {"head_loss_weights"} <= names
    assert FLAGS.keys() <= names


def printed(*argv, capsys):
    code, out, err = call("train", *argv, "--print-config", capsys=capsys)
    assert (code, err) == (0, "")
    return json_file.from_dict(RunConfig, json.loads(out))


@pytest.mark.parametrize("name", PRESETS)
def test_print_config_prints_the_settings_that_would_be_used(name, capsys):
    options = ["--preset", name, "--data", "there", "--epochs", "3"]
    if name in ("leaves", "shapes"):
        options += ["--dataset", name]
    assert printed(*options, capsys=capsys) == PRESETS[name]().changed(root="there", epochs=3).resolved()


def test_config_starts_from_the_settings_of_a_run(tmp_path, capsys):
    run = nuclei().changed(
        root="there",
        image_size=(64, 96),
        encoder="compact",
        encoder_weights="none",
        encoder_learning_rate=0.5,
        encoder_batch_norm="frozen",
        partial_sequences=0.0,
        sequence_length=9,
        voting_weight=3.0,
        # What the dataset and the training decided:
        stop_threshold=0.7,
        class_names=("background", "nucleus"),
        category_ids=(0, 4),
    )
    json_file.write(run.resolved(), tmp_path / "config.json")
    fresh = run.changed(stop_threshold=0.5, class_names=(), category_ids=()).resolved()
    for given in (tmp_path, tmp_path / "config.json"):
        assert printed("--config", str(given), capsys=capsys) == fresh
    longer = printed("--config", str(tmp_path), "--epochs", "7", "--stop-threshold", "0.3", capsys=capsys)
    assert longer == fresh.changed(epochs=7, stop_threshold=0.3, calibrate_objectness=False)
    other = printed("--config", str(tmp_path), "--mask-head", "convolution", "--neck-channels", "0", capsys=capsys)
    assert other.train.losses.head_loss_weights == {}


def test_another_folder_replaces_the_files_of_a_stored_run(tmp_path, capsys):
    stored = custom().changed(root="old", annotations="old/a.json", val_share=0.2)
    json_file.write(stored, tmp_path / "config.json")
    data = printed("--config", str(tmp_path), "--data", "new", capsys=capsys).data
    assert (data.root, data.annotations, data.val_share) == ("new", None, None)
    assert printed("--config", str(tmp_path), capsys=capsys).data.annotations == "old/a.json"


def test_print_config_of_a_run_to_resume(tmp_path, capsys):
    json_file.write(cvppp(), tmp_path / "config.json")
    assert printed("--resume", str(tmp_path), capsys=capsys) == cvppp()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--maxseqlen 3", "--steps 3"),
        ("--gt-maxseqlen 3", "--max-objects 3"),
        ("--train-steps 3", "--sequence-length 3"),
        ("--begin-anywhere 0.5", "--partial-sequences 0.5"),
    ],
)
def test_earlier_spellings_of_options_are_accepted(old, new, capsys):
    start = ("--preset", "nuclei", "--data", "there")
    assert printed(*start, *old.split(), capsys=capsys) == printed(*start, *new.split(), capsys=capsys)
    assert old.split()[0] not in help_of(*start, capsys=capsys)


def test_weights_of_a_mask_head_are_options(capsys):
    start = ("--preset", "nuclei", "--data", "there")
    losses = printed(*start, "--voting-weight", "2", "--pointing-weight", "3", capsys=capsys).train.losses
    assert losses.head_loss_weights == {"voting_loss": 2.0, "pointing_loss": 3.0}
    code, _, err = call("train", "--preset", "voc", "--voting-weight", "2", capsys=capsys)
    assert code == 2
    assert "Received: head_loss_weights=" in err


def test_loggers_are_options_and_settings(capsys):
    assert printed("--logger", "wandb", "--logger", "tensorboard", capsys=capsys).train.loggers == (
        "wandb",
        "tensorboard",
    )
    assert printed("--tensorboard", capsys=capsys).train.loggers == ("tensorboard",)
    assert printed("--no-tensorboard", capsys=capsys).train.loggers == ()
    assert "--tensorboard" not in help_of(capsys=capsys)
    code, _, err = call("train", "--logger", "visdom", capsys=capsys)
    assert code == 2
    assert "invalid choice: 'visdom'" in err


def test_time_and_callbacks_belong_to_a_call_and_not_to_the_settings(tmp_path, capsys):
    both = ("--max-hours", "2", "--callback", "notify:Mail")
    assert printed(*both, capsys=capsys) == printed(capsys=capsys)
    json_file.write(cvppp(), tmp_path / "config.json")
    assert printed("--resume", str(tmp_path), *both, capsys=capsys) == cvppp()
    for option, value, said in (
        ("--max-hours", "0", "Received: max_hours=0.0"),
        ("--callback", "notify", "Received: notify"),
        ("--callback", "no_such_module:Mail", "Received: --callback no_such_module:Mail"),
    ):
        code, _, err = call("train", option, value, "--out", str(tmp_path / "new"), capsys=capsys)
        assert code == 2
        assert said in err
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_a_callback_is_found_in_the_current_folder(tmp_path, monkeypatch):
    from rsis_tf.cli.train import _callbacks

    text = "from rsis_tf.training.loggers import Callback\n\n\nclass Mail(Callback):\n    pass\n"
    (tmp_path / "notify_of_command_lines.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    (mail,) = _callbacks(["notify_of_command_lines:Mail"])
    assert type(mail).__name__ == "Mail"
