"""What a model file says of itself is checked when it is opened, and what its network computes in every call."""

import hashlib
import json
import pathlib
import pickle

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rsis_tf.runtime import InputError, ModelInfo, Predictor, checksums, printable

FACTS = {
    "class_names": '["background", "leaf", "stone"]',
    "image_size": "[8, 8]",
    "dynamic_size": "false",
    "num_steps": "3",
    "stop_threshold": "0.5",
    "mask_threshold": "0.5",
}
WHITE = np.full((8, 8, 3), 255, np.uint8)


def refused(path, **options) -> str:
    with pytest.raises(InputError) as caught:
        Predictor(path, **options)
    message = str(caught.value)
    assert ". Received: " in message
    assert message == printable(message)  # one line, nothing that controls a terminal
    assert len(message) < 1000
    return message


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("image_size", ["null", "[8]", "[8, 8, 8]", "[[8], 8]", "[8.0, 8]", '["8", "8"]', "[true, 8]", "[0, 8]", "8"]),
        ("image_size", ["[100000000, 8]", "[-8, 8]", "[16, 16]", "[" * 100_000, "[" + "9" * 5000 + ", 8]", "{}"]),
        ("class_names", ["null", "[]x", '["one"]', '["a", "b"]', '["a", "b", "c", "d"]', "[1, 2, 3]", '"abc"', "{}"]),
        ("class_names", ['["a", "b", null]', '[["a"], "b", "c"]', '["a", "b", "\\ud800"]', "[" * 2000 + "]" * 2000]),
        ("category_ids", ["[0, 1]", "[0, 7, 7]", "[0, 1.5, 2]", '["0", "1", "2"]', "[0, true, 2]", "null"]),
        ("category_ids", [f"[0, 1, {10**30}]", "[[0], 1, 2]", "{}"]),
        ("stop_threshold", ["NaN", "2", "-0.1", "null", "true", '"0.5"', "[0.5]", "Infinity", "9" * 5000]),
        ("mask_threshold", ["NaN", "2", "-Infinity", "{}"]),
        ("aspect", ["crop", "", "null", "[]", "\x1b[31m"]),
        ("dynamic_size", ["0", '"false"', "null"]),
        ("format_version", ["2", "0", "null", "1.5", "true"]),
    ],
)
def test_a_wrong_value_in_the_metadata_is_refused_when_the_file_is_opened(toy_model, key, values):
    for value in values:
        assert str(toy_model(metadata={**FACTS, key: value})) in refused(toy_model(metadata={**FACTS, key: value}))


def test_metadata_that_is_not_utf8_is_refused(toy_model):
    path = toy_model(metadata={**FACTS, "license": "PLACEHOLDER"})
    path.write_bytes(path.read_bytes().replace(b"PLACEHOLDER", b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff"))
    assert "UTF-8" in refused(path)


def test_class_names_may_hold_any_characters_and_messages_none_that_control_the_terminal(toy_model):
    names = ["background", "\x1b[31mred", "line\nbreak \u202e"]
    predictor = Predictor(toy_model(metadata={**FACTS, "class_names": json.dumps(names)}))
    first, second, *_ = found = predictor(WHITE)
    assert [first.class_name, second.class_name] == names[1:]
    assert r"\x1b[31mred" in repr(first)
    assert printable(repr(found)) == repr(found)


def test_messages_escape_control_characters_and_survive_a_process_border():
    error = InputError("expected a file. Received: a\x1b[2J\r\n\x7f\x9b\u2028\udcff.png")
    assert str(error) == r"expected a file. Received: a\x1b[2J\r\n\x7f\x9b\u2028\udcff.png"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert printable("ordinary: é 漢字 \U0001f600 tab?") == "ordinary: é 漢字 \U0001f600 tab?"


def test_a_number_of_thousands_of_digits_is_an_ordinary_mistake(toy_model):
    huge = 10**5000
    for option in ("stop_threshold", "batch_size", "threads", "image_size"):
        message = refused(toy_model(), **{option: huge})
        assert message.startswith(f"{option} must be ")
        assert message.endswith("an integer of many digits")
    for option in ("threads", "batch_size"):
        assert f"{option} must be a positive integer up to" in refused(toy_model(), **{option: 10**10})
    assert "verify must be True or False" in refused(toy_model(), verify="no")


def edited(path: pathlib.Path, change) -> pathlib.Path:
    model = onnx.load(path)
    change(model.graph)
    path.write_bytes(model.SerializeToString())
    return path


def test_shapes_of_the_graph_are_compared_with_the_metadata(toy_model):
    def wide(graph):
        graph.input[0].type.tensor_type.shape.dim[2].dim_value = 9

    def four_channels(graph):
        graph.input[0].type.tensor_type.shape.dim[3].dim_value = 4

    assert "image of the shape (?, 8, 8, 3)" in refused(edited(toy_model(), wide))
    assert "image of the shape (?, 8, 8, 3)" in refused(edited(toy_model(), four_channels))
    message = refused(toy_model(metadata={**FACTS, "class_names": '["background", "leaf"]'}))
    assert "classes of the shape (?, 3, 2), as the metadata says. Received: (?, 3, 3)" in message
    message = refused(toy_model(dtype=TensorProto.DOUBLE))
    assert "the input must be uint8 or float32. Received: 'tensor(double)'" in message
    assert "pixels in one run" in refused(toy_model(batch=10**8))


@pytest.mark.parametrize(("name", "value"), [("probs", np.nan), ("probs", np.inf), ("scale", np.nan), ("scale", 0)])
def test_a_network_that_computes_nan_is_an_error(toy_model, name, value):
    def damage(graph):
        weight = next(weight for weight in graph.initializer if weight.name == name)
        values = numpy_helper.to_array(weight).copy()
        values[...] = value
        weight.CopyFrom(numpy_helper.from_array(values, name))

    predictor = Predictor(edited(toy_model(), damage))
    image = WHITE.copy()
    image[:4] = 0
    with pytest.raises(InputError, match=r"may be damaged\. Received: (NaN|an infinite value) in (stop|classes)"):
        predictor(image)
    with pytest.raises(InputError, match="weights may be damaged"):
        predictor.run(image[None])


def test_one_nan_in_one_mask_is_found(toy_model):
    class Broken(Predictor):
        def compute(self, images):
            masks, classes, stop = super().compute(images)
            masks = masks.copy()
            masks[-1, 2, 3, 4] = self.value
            return masks, classes, stop

    predictor = Broken(toy_model())
    for value, text in ((np.nan, "NaN"), (-np.inf, "an infinite value")):
        predictor.value = value
        with pytest.raises(InputError, match=rf"Received: {text} in masks from .*toy\.onnx"):
            predictor.batch([WHITE, WHITE])
    predictor.value = 0.5
    assert len(predictor(WHITE)) == 3


def test_outputs_of_other_shapes_are_refused(toy_model):
    class Other(Predictor):
        change = staticmethod(lambda *outputs: outputs)

        def compute(self, images):
            return self.change(*super().compute(images))

    predictor = Other(toy_model())
    for change in (
        lambda masks, classes, stop: (masks[:, :, 0], classes, stop),
        lambda masks, classes, stop: (masks, classes[:, :2], stop),
        lambda masks, classes, stop: (masks[:1], classes[:1], stop[:1]),
        lambda masks, classes, stop: (masks[:, :0], classes[:, :0], stop[:, :0]),
        lambda masks, classes, stop: (masks, classes[..., :1], stop),
        lambda masks, classes, stop: (masks, classes, stop.astype(np.int64)),
    ):
        predictor.change = change
        with pytest.raises(InputError, match=r"expected masks, classes and stop of the shapes \(2, T, h, w\)"):
            predictor.batch([WHITE, WHITE])


# Checksums


def test_a_changed_file_is_refused_if_its_sidecar_has_a_checksum(toy_model):
    path = toy_model()
    side = path.with_name("toy.onnx.json")
    side.write_text(json.dumps({"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    assert checksums(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(Predictor(path)(WHITE)) == 3

    def other_score(graph):
        graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full((1, 3, 3), 0.25, np.float32), "probs"))

    edited(path, other_score)
    message = refused(path)
    assert "SHA-256 is in toy.onnx.json" in message
    assert f"Received: {path}, which was changed or damaged" in message
    assert Predictor(path, verify=False)(WHITE)[0].score == 0.25
    for content in (b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"9" * 5000):
        side.write_bytes(content)
        assert "toy.onnx.json (" in refused(path)
        assert len(Predictor(path, verify=False)(WHITE)) == 3
    for value in (1, [], {}, "", {"toy.onnx": 3}):
        side.write_text(json.dumps({"sha256": value}))
        assert "which was changed or damaged" in refused(path)
    side.write_text("{}")  # of an earlier version
    assert len(Predictor(path)(WHITE)) == 3


# Stepwise exports


def stepwise(folder: pathlib.Path, *, steps: str = "3", graphs: str | None = None, change=None) -> pathlib.Path:
    """Writes an encoder and a step by the names of a stepwise export: each step halves what is left of the image."""

    def info(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    encoder = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["float"], ["grey"], axes=[3], keepdims=0),
            helper.make_node("Div", ["grey", "scale"], ["hidden_0"]),
        ],
        "encoder",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [info("hidden_0", 8, 8)],
        [numpy_helper.from_array(np.array(255, np.float32), "scale")],
    )
    step = helper.make_graph(
        [
            helper.make_node("Identity", ["hidden_0"], ["mask"]),
            helper.make_node("Mul", ["hidden_0", "half"], ["next_hidden_0"]),
            helper.make_node("ReduceMax", ["hidden_0"], ["stop_of_step"], axes=[1, 2], keepdims=0),
            helper.make_node("ReduceMean", ["hidden_0"], ["mean"], axes=[2], keepdims=0),
            helper.make_node("MatMul", ["mean", "classes"], ["classes_of_step"]),
        ],
        "step",
        [info("hidden_0", 8, 8)],
        [info("mask", 8, 8), info("classes_of_step", 3), info("stop_of_step"), info("next_hidden_0", 8, 8)],
        [
            numpy_helper.from_array(np.array(0.5, np.float32), "half"),
            numpy_helper.from_array(np.full((8, 3), 1 / 8, np.float32), "classes"),
        ],
    )
    folder.mkdir()
    for name, graph in (("encoder", encoder), ("step", step)):
        if change:
            change(name, graph)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        extra = {"graphs": graphs} if graphs else {}
        helper.set_model_props(model, {**FACTS, "layout": "stepwise", "num_steps": steps, **extra})
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    return folder


def test_a_stepwise_export_takes_the_steps_that_it_needs(tmp_path):
    predictor = Predictor(stepwise(tmp_path / "model", steps="10"))
    assert [instance.objectness for instance in predictor(WHITE)] == [1, 0.5]
    assert len(Predictor(tmp_path / "model", stop_mode="each", stop_threshold=0).run(WHITE[None])[2][0]) == 10


def three_graphs(folder, *, graphs='["encoder", "step", "masks"]', change=None):
    """Writes a stepwise export of today: the encoder takes the first step; masks are enlarged after the last one."""

    def today(name, graph):
        for value in [*graph.output, *(node for node in graph.node)]:
            names = value.output if hasattr(value, "output") else None
            if names and names[0] == "mask":
                names[0] = "logits_of_step"
            elif not names and value.name == "mask":
                value.name = "logits_of_step"
        if name == "encoder":
            graph.node[-1].output[0] = "start"
            for op, inputs, output, attributes in (
                ("Identity", ["start"], "logits_of_step", {}),
                ("Mul", ["start", "half"], "hidden_0", {}),
                ("ReduceMax", ["start"], "stop_of_step", {"axes": [1, 2], "keepdims": 0}),
                ("ReduceMean", ["start"], "mean", {"axes": [2], "keepdims": 0}),
                ("MatMul", ["mean", "classes"], "classes_of_step", {}),
            ):
                graph.node.append(helper.make_node(op, inputs, [output], **attributes))
            graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
            graph.initializer.append(numpy_helper.from_array(np.full((8, 3), 1 / 8, np.float32), "classes"))
            for output, *sides in (("logits_of_step", 8, 8), ("classes_of_step", 3), ("stop_of_step",)):
                graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *sides]))
        if change:
            change(name, graph)

    stepwise(folder, change=today, graphs=graphs)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "step", 8, 8]) for name in ("logits", "masks")
    ]
    masks = helper.make_graph([helper.make_node("Sigmoid", ["logits"], ["masks"])], "masks", ends[:1], ends[1:])
    if change:
        change("masks", masks)
    model = helper.make_model(masks, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "masks.onnx").write_bytes(model.SerializeToString())
    return folder


def test_images_leave_the_batch_when_they_have_no_object_left(tmp_path):
    predictor = Predictor(three_graphs(tmp_path / "model"), batch_size=3)
    images = [WHITE // 3, WHITE, WHITE * 0]  # objectness 1/3, 1 and 0 at the first step
    assert [[instance.objectness for instance in found] for found in predictor.batch(images)] == [[], [1, 0.5], []]
    masks, classes, stop = predictor.run(np.stack(images))
    np.testing.assert_allclose(stop, [[1 / 3, 0, 0], [1, 0.5, 0.25], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(masks[:, :, 0, 0][1], 1 / (1 + np.exp([-1, -0.5, -0.25])), rtol=1e-6)
    assert masks[[0, 2], 1:].max() < 1e-30
    assert classes[1].min() > 0
    assert classes[[0, 2], 1:].max() == 0
    assert len(Predictor(tmp_path / "model", stop_mode="each").run(np.stack(images))[2][0]) == 3


def half_of_the_rows(name, graph):
    if name == "step":  # ONNX Runtime cannot infer the sides of a slice whose ends are computed
        graph.node[0].CopyFrom(helper.make_node("Slice", ["hidden_0", "zero", "ends"], ["logits_of_step"]))
        graph.node.insert(0, helper.make_node("Shape", ["hidden_0"], ["sides"]))
        graph.node.insert(1, helper.make_node("Div", ["sides", "divisors"], ["ends"]))
        graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.int64), "zero"))
        graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 1]), "divisors"))


def open_axis(name, graph):
    half_of_the_rows(name, graph)
    for value in graph.output if name == "step" else ():
        if value.name == "logits_of_step":
            value.type.tensor_type.shape.dim[1].dim_param = "height"


def other_masks(name, graph):
    if name == "masks":
        graph.input[0].type.tensor_type.shape.dim[3].dim_value = 4
        graph.output[0].type.tensor_type.shape.dim[3].dim_value = 4


def other_name(name, graph):
    if name == "masks":
        graph.node[0].output[0] = graph.output[0].name = "probabilities"


def first_step_missing(name, graph):
    if name == "encoder":
        graph.output.remove(next(value for value in graph.output if value.name == "stop_of_step"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (open_axis, "logits_of_step (?, ?, 8) tensor(float), not float with sides that are known"),
        (other_masks, "logits_of_step (?, 8, 8) for the input logits (?, ?, 8, 4)"),
        (other_name, "['logits'] and ['probabilities'] of the masks"),
        (first_step_missing, "no output stop_of_step of the encoder"),
    ],
)
def test_graphs_that_do_not_fit_each_other_are_refused(tmp_path, change, problem):
    message = refused(three_graphs(tmp_path / "model", change=change))
    assert message.startswith("expected the graphs of the same stepwise export. Received: ")
    assert problem in message


def test_a_step_that_makes_another_shape_than_it_declares_is_one_line(tmp_path):
    with pytest.raises(InputError, match="to run on an input of shape"):
        Predictor(three_graphs(tmp_path / "model", change=half_of_the_rows))(WHITE)


@pytest.mark.parametrize("graphs", ['["encoder", "step"]', "3", "masks"])
def test_graphs_of_a_newer_version_are_refused(tmp_path, graphs):
    assert "of the graphs encoder, step and masks" in refused(three_graphs(tmp_path / "model", graphs=graphs))


def remove_output(wanted):
    def change(name, graph):
        for output in [output for output in graph.output if output.name == wanted]:
            graph.output.remove(output)

    return change


def rename_state(name, graph):
    if name == "encoder":
        graph.node[-1].output[0] = graph.output[0].name = "hidden_1"


def other_size(name, graph):
    if name == "encoder":
        for value in (graph.input[0], graph.output[0]):
            value.type.tensor_type.shape.dim[1].dim_value = 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (remove_output("mask"), "no output mask of the step"),
        (remove_output("classes_of_step"), "no output classes_of_step of the step"),
        (remove_output("stop_of_step"), "no output stop_of_step of the step"),
        (remove_output("next_hidden_0"), "no output next_hidden_0 of the step"),
        (rename_state, "no output hidden_0 of the encoder"),
        (other_size, "hidden_0 (?, 4, 8) tensor(float) for the input hidden_0 (?, 8, 8) tensor(float)"),
    ],
)
def test_a_step_that_does_not_fit_its_encoder_is_refused_when_it_is_opened(tmp_path, change, problem):
    message = refused(stepwise(tmp_path / "model", change=change))
    assert message.startswith("expected an encoder.onnx and a step.onnx of the same stepwise export. Received: ")
    assert problem in message


@pytest.mark.parametrize("steps", ["0", "-1", "ten", "", "1e3", "٣", "1" + "0" * 30, "9" * 5000, "10001"])
def test_the_number_of_steps_is_bounded(tmp_path, steps):
    assert "with 'num_steps' (1 … 10000) in its metadata" in refused(stepwise(tmp_path / "model", steps=steps))


def test_each_file_of_a_stepwise_export_has_its_checksum(tmp_path):
    folder = stepwise(tmp_path / "model")
    sums = checksums(folder)
    assert sorted(sums) == ["encoder.onnx", "step.onnx"]
    (tmp_path / "model.json").write_text(json.dumps({"sha256": sums}))
    (folder / "notes.txt").write_text("mine")  # other files do not count
    assert len(Predictor(folder)(WHITE)) == 2
    content = bytearray((folder / "step.onnx").read_bytes())
    content[-20] ^= 1
    (folder / "step.onnx").write_bytes(content)
    assert "(differs: 'step.onnx')" in refused(folder)


def test_what_a_model_says_of_itself_is_checked_wherever_it_comes_from():
    """A Keras model has it in its config, which an older file may have written without a check."""
    for wrong in ({"stop_threshold": float("nan")}, {"mask_threshold": 2}, {"class_names": ("one",)}, {"batch": 0}):
        with pytest.raises(InputError, match=rf"{next(iter(wrong))} must be"):
            ModelInfo(image_size=(8, 8), **wrong)
