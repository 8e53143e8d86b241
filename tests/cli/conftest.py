"""`rsis predict` with a predictor whose results are known."""

import pytest
from predict_tools import Thresholds

from rsis_tf.cli import predict


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Calls the command in an empty folder and returns exit code, stdout and stderr."""
    monkeypatch.setattr(predict, "open_model", Thresholds)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = 0
        try:
            predict.main(["model.onnx", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return call
