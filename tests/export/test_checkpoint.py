"""Exporters read a checkpoint folder of the original code, as evaluation and prediction do."""

import argparse
import pathlib

import numpy as np
import pytest
from golden_weights import recipe_states
from legacy_torch import original_arguments, write_checkpoint

from export import onnx, saved_model, tflite
from export.arguments import make_parser, read_options
from export.formats import FORMATS
from rsis_tf.errors import InputError
from rsis_tf.inference import open_predictor
from rsis_tf.runtime import Predictor


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    from rsis_tf.models import ModelConfig, build_model

    model = build_model(ModelConfig(encoder="resnet34", hidden_size=16, num_classes=21))
    folder = tmp_path_factory.mktemp("models") / "pascal"
    arguments = original_arguments(base_model="resnet34", hidden_size=16, maxseqlen=2, imsize=32)
    write_checkpoint(folder, recipe_states(model), arguments)
    return folder


def parsed(*arguments: object) -> argparse.Namespace:
    return make_parser(FORMATS["tflite"]).parse_args(list(map(str, arguments)))


def test_the_result_goes_into_the_folder(checkpoint):
    options = read_options(parsed(checkpoint), FORMATS["tflite"])
    assert options.source == options.folder == checkpoint
    assert options.out == checkpoint / "model.tflite"
    options = read_options(parsed(checkpoint, "--out", checkpoint.parent / "y.tflite"), FORMATS["tflite"])
    assert options.out == checkpoint.parent / "y.tflite"


@pytest.mark.parametrize("exporter", [onnx, saved_model, tflite])
def test_every_exporter_names_the_missing_file(exporter, tmp_path, capsys):
    (tmp_path / "encoder.pt").write_bytes(b"")
    with pytest.raises(SystemExit) as stopped:
        exporter.main([str(tmp_path)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error == f"error: expected the arguments of a run. Received: {tmp_path}/args.pkl, which is not there\n"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.pt"]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"expected the folder of a run, .* or a checkpoint folder of the original"):
        read_options(parsed(tmp_path / "model.onnx"), FORMATS["tflite"])


@pytest.mark.slow
def test_the_onnx_file_finds_the_objects_of_the_checkpoint(checkpoint):
    onnx.main([str(checkpoint)])
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    options = {"stop_mode": "each", "stop_threshold": 0}
    ours = Predictor(checkpoint / "model.onnx", **options)(image)
    wanted = open_predictor(checkpoint, **options)(image)
    assert [instance.class_name for instance in ours] == [instance.class_name for instance in wanted]
    assert len(wanted) == 2
    for one, other in zip(ours, wanted, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert (one.mask != other.mask).mean() < 0.01
