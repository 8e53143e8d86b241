"""Programs in processes of their own: what they answer, and how crashes and hangs are reported."""

import base64
import re

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from rsis_tf.doctor import devices, probes


def test_an_answer_is_returned_whatever_else_is_printed():
    found = probes.run("print('noise')\nimport sys\nprint('more', file=sys.stderr)\nanswer = {'a': [1, 'ö']}")
    assert found == probes.Probe({"a": [1, "ö"]})


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"the process crashed \(SIGSEGV\)"),
        ("raise ValueError('no \\x1b[31m driver')", r"ValueError: no .x1b\[31m driver"),
        ("import sys; sys.exit(3)", "the process ended with exit code 3"),
        ("import time; time.sleep(60)", "no answer within 1.5 seconds"),
    ],
)
def test_a_crash_or_a_hang_is_a_result(program, error):
    found = probes.run(program, seconds=1.5 if "sleep" in program else 60)
    assert found.answer is None
    assert re.fullmatch(error, found.error)


def test_files_of_the_current_folder_do_not_replace_packages(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise RuntimeError('the wrong file')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert probes.run("answer = 1").answer == 1


def test_the_graph_of_the_self_test_is_the_one_described():
    text = "".join(re.findall(r'^    "([A-Za-z0-9+/=]+)"$', probes.SELF_TEST, re.MULTILINE))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weights"], ["sums"])],
        "self_test",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("sums", onnx.TensorProto.FLOAT, [1, 1, 2, 2])],
        [numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert onnx.load_from_string(base64.b64decode(text)) == model
    image = np.arange(16).reshape(4, 4)
    sums = [image[y : y + 3, x : x + 3].sum() for y in (0, 1) for x in (0, 1)]
    assert tuple(sums) == devices.SUMS
