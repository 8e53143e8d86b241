"""Each pass keeps the results and leaves the expected operators; graphs of a few nodes."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from export.onnx_graphs import passes

RNG = np.random.default_rng(0)


def _model(nodes, outputs: dict, constants: dict, input_shape=(2, 5, 6, 4), opset: int = 17) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def _operators(model: onnx.ModelProto) -> dict[str, int]:
    return dict(Counter(node.op_type for node in model.graph.node))


def _random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


node = helper.make_node


def _after(model: onnx.ModelProto, rewrite, x: np.ndarray, atol: float = 0.0) -> dict[str, int]:
    """Applies a pass, compares the results, and returns the operators that remain."""
    before = _run(model, x)
    rewrite(model)
    for old, new in zip(before, _run(model, x), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=atol)
    return _operators(model)


def test_weights_become_constants():
    model = _model([node("MatMul", ["x", "w"], ["y"])], {"y": [2, 5, 6, 3]}, {"w": _random(4, 3)})
    weights = {"w": numpy_helper.to_array(model.graph.initializer[0])}
    x = _random(2, 5, 6, 4)
    before = _run(model, x)
    del model.graph.initializer[:]
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3]))
    passes.embed_weights(model, weights)
    assert [value.name for value in model.graph.input] == ["x"]
    np.testing.assert_array_equal(_run(model, x)[0], before[0])


def test_nodes_of_constants_become_constants():
    nodes = [
        node("Transpose", ["w"], ["t"], perm=[1, 0]),
        node("Mul", ["t", "two"], ["u"]),
        node("MatMul", ["x", "u"], ["y"]),
        node("Add", ["t", "two"], ["unread"]),
    ]
    model = _model(nodes, {"y": [2, 5, 6, 3]}, {"w": _random(3, 4), "two": np.float32(2)})
    assert _after(model, passes.fold_constants, _random(2, 5, 6, 4)) == {"MatMul": 1}
    assert [tensor.name for tensor in model.graph.initializer] == ["w/u"]


def test_constant_output_stays_an_output():
    nodes = [node("Neg", ["w"], ["v"]), node("Neg", ["v"], ["constant"]), node("Relu", ["x"], ["y"])]
    model = _model(nodes, {"y": [2, 5, 6, 4], "constant": [3]}, {"w": _random(3)})
    assert _after(model, passes.fold_constants, _random(2, 5, 6, 4)) == {"Neg": 1, "Relu": 1}


def _convolution(*, tail: list, constants: dict) -> onnx.ModelProto:
    nodes = [node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1]), *tail]
    return _model(nodes, {"y": [2, 3, 5, 6]}, {"kernel": _random(3, 4, 3, 3), **constants}, (2, 4, 5, 6))


def test_batch_normalisation_goes_into_the_convolution():
    tail = [node("Mul", ["c", "scale"], ["m"]), node("Add", ["shift", "m"], ["a"]), node("Relu", ["a"], ["y"])]
    model = _convolution(tail=tail, constants={"scale": _random(1, 3, 1, 1), "shift": _random(3, 1, 1)})
    assert _after(model, passes.fold_scales, _random(2, 4, 5, 6), atol=1e-5) == {"Conv": 1, "Relu": 1}


def test_folding_down_to_the_output_of_the_graph_keeps_its_name():
    model = _convolution(tail=[node("Mul", ["c", "scale"], ["y"])], constants={"scale": _random(1, 3, 1, 1)})
    assert _after(model, passes.fold_scales, _random(2, 4, 5, 6), atol=1e-5) == {"Conv": 1}


def test_scale_stays_where_folding_is_impossible():
    twice = [node("Mul", ["c", "scale"], ["m"]), node("Add", ["m", "c"], ["y"])]  # c is read once more
    model = _convolution(tail=twice, constants={"scale": _random(1, 3, 1, 1)})
    assert _after(model, passes.fold_scales, _random(2, 4, 5, 6)) == {"Conv": 1, "Mul": 1, "Add": 1}
    per_pixel = [node("Add", ["c", "map"], ["y"])]
    model = _convolution(tail=per_pixel, constants={"map": _random(1, 3, 5, 6)})
    assert _after(model, passes.fold_scales, _random(2, 4, 5, 6)) == {"Conv": 1, "Add": 1}


def test_kernel_of_two_convolutions_is_scaled_for_one_of_them():
    nodes = [
        node("Conv", ["x", "kernel"], ["a"], pads=[1, 1, 1, 1]),
        node("Conv", ["x", "kernel"], ["b"], pads=[1, 1, 1, 1]),
        node("Mul", ["a", "scale"], ["scaled"]),
        node("Sub", ["scaled", "b"], ["y"]),
    ]
    constants = {"kernel": _random(3, 4, 3, 3), "scale": _random(1, 3, 1, 1)}
    model = _model(nodes, {"y": [2, 3, 5, 6]}, constants, (2, 4, 5, 6))
    assert _after(model, passes.fold_scales, _random(2, 4, 5, 6), atol=1e-5) == {"Conv": 2, "Sub": 1}


def _cell(opset: int) -> tuple[list, dict]:
    """A cell as the converter writes it: channels last between two transposes; x is (2, 4, 5, 6)."""
    nodes = [
        node("Transpose", ["x"], ["last"], perm=[0, 2, 3, 1]),
        node("Add", ["last", "bias"], ["gates"]),
        node("Split", ["gates", "halves"], ["i", "g"], axis=3),
        node("Sigmoid", ["i"], ["si"]),
        node("Tanh", ["g"], ["tg"]),
        node("Mul", ["si", "tg"], ["h"]),
        node("Mul", ["h", "two"], ["h2"]),
        node("Transpose", ["h2"], ["first"], perm=[0, 3, 1, 2]),
        node("Relu", ["first"], ["y"]),
    ]
    constants = {"bias": _random(4), "halves": np.array([2, 2]), "two": np.float32(2)}
    if opset < 18:
        nodes.append(node("ReduceMax", ["h2"], ["pooled"], axes=[1, 2], keepdims=0))
    else:
        nodes.append(node("ReduceMax", ["h2", "axes"], ["pooled"], keepdims=0))
        constants["axes"] = np.array([1, 2])
    return nodes, constants


def test_cells_stay_in_the_layout_of_the_convolutions():
    for opset in (17, 18):
        nodes, constants = _cell(opset)
        model = _model(nodes, {"y": [2, 2, 5, 6], "pooled": [2, 2]}, constants, (2, 4, 5, 6), opset)
        left = _after(model, passes.channels_first, _random(2, 4, 5, 6))
        assert left == {"Add": 1, "Split": 1, "Sigmoid": 1, "Tanh": 1, "Mul": 2, "Relu": 1, "ReduceMax": 1}


def test_operators_that_need_channels_last_get_them():
    nodes = [
        node("Transpose", ["x"], ["last"], perm=[0, 2, 3, 1]),
        node("Sigmoid", ["last"], ["s"]),
        node("Transpose", ["other"], ["other_last"], perm=[0, 2, 3, 1]),
        node("Softmax", ["other_last"], ["probs"], axis=3),
        node("Mul", ["s", "probs"], ["p"]),
        node("Add", ["p", "map"], ["q"]),
        node("MatMul", ["q", "w"], ["m"]),
        node("Transpose", ["q"], ["y"], perm=[0, 3, 1, 2]),
        node("ReduceMax", ["m"], ["z"], axes=[1, 2], keepdims=0),
    ]
    nodes.insert(0, node("Neg", ["x"], ["other"]))
    constants = {"w": _random(4, 3), "map": _random(1, 5, 6, 4)}
    model = _model(nodes, {"y": [2, 4, 5, 6], "z": [2, 3]}, constants, (2, 4, 5, 6))
    _after(model, passes.channels_first, _random(2, 4, 5, 6))


def test_resize_gives_the_intended_size():
    """26 · (53 / 26) is less than 53 in float32."""
    scales = np.array([1, 1, 53 / 26, 2], np.float32)
    resize = node(
        "Resize", ["x", "roi", "scales"], ["y"], mode="linear", coordinate_transformation_mode="align_corners"
    )
    model = _model(
        [resize], {"y": [1, 1, None, None]}, {"roi": np.zeros(0, np.float32), "scales": scales}, (1, 1, 26, 3)
    )
    x = _random(1, 1, 26, 3)
    assert _run(model, x)[0].shape == (1, 1, 52, 6)
    passes.safe_resizes(model)
    (y,) = _run(model, x)
    assert y.shape == (1, 1, 53, 6)
    np.testing.assert_array_equal(y[0, 0, [0, 52]][:, [0, 5]], x[0, 0, [0, 25]][:, [0, 2]])  # corners on corners
    np.testing.assert_allclose(y[0, 0, 26, 0], x[0, 0, [12, 13], 0].mean(), atol=1e-6)
    assert model.graph.node[0].input[1] == ""
