"""The predictor on graphs whose outputs can be counted by hand, without TensorFlow."""

import concurrent.futures
import copy
import functools
import json
import multiprocessing
import pathlib
import pickle
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from rsis_tf.runtime import InputError, Predictor


def _image(height: int = 8, width: int = 8, *, columns: tuple[int, ...] = (2, 3, 0)) -> np.ndarray:
    """A black image whose channel t is white in the first columns[t] eighths of its width."""
    image = np.zeros((height, width, 3), np.uint8)
    for channel, count in enumerate(columns):
        image[:, : width * count // 8, channel] = 255
    return image


def test_instances_of_one_image(toy_model):
    predictor = Predictor(toy_model())
    first, second = predictor(_image(columns=(2, 3, 0)))
    assert predictor.class_names == ("background", "leaf", "stone")
    assert (first.step, first.class_name, first.mask.sum()) == (0, "leaf", 2 * 8)
    assert (second.step, second.class_name, second.mask.sum()) == (1, "stone", 3 * 8)
    assert first.score == pytest.approx(0.7)
    assert predictor(_image(columns=(0, 3, 0))) == []  # the first step stops the sequence
    assert [i.step for i in Predictor(predictor.path, stop_mode="each")(_image(columns=(0, 3, 0)))] == [1]


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.FLOAT])
@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_batches_of_any_sizes_give_the_same_as_single_images(toy_model, batch: int | str, dtype: int):
    predictor = Predictor(toy_model(batch=batch, dtype=dtype))
    images = [_image(16 * (i + 1), 24, columns=(i + 1, 8 - i, 2)) for i in range(5)]
    answers = predictor.batch(images)
    assert [[i.mask.shape for i in answer] for answer in answers] == [[image.shape[:2]] * 3 for image in images]
    assert [int(answer[0].mask.sum()) for answer in answers] == [(i + 1) * 3 * 16 * (i + 1) for i in range(5)]
    for image, answer in zip(images, answers, strict=True):
        for one, other in zip(predictor(image), answer, strict=True):
            np.testing.assert_array_equal(one.mask, other.mask)
            assert (one.step, one.class_id, one.score) == (other.step, other.class_id, other.score)
    assert predictor.batch([]) == []


def test_stream_holds_one_batch_at_a_time(toy_model):
    taken = 0

    def images():
        nonlocal taken
        for _ in range(10):
            taken += 1
            yield _image()

    stream = Predictor(toy_model(), batch_size=2).stream(images())
    assert taken == 0
    next(stream)
    assert taken == 2
    assert len(list(stream)) == 9


def test_open_size_takes_the_size_asked_for(toy_model):
    path = toy_model(size=("height", "width"))
    assert Predictor(path).image_size == (8, 8)
    predictor = Predictor(path, image_size=(4, 16))
    assert predictor.run(np.zeros((1, 4, 16, 3), np.uint8))[0].shape == (1, 3, 4, 16)
    assert [i.mask.shape for i in predictor(_image(30, 50))] == [(30, 50), (30, 50)]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (3000, 2000)])
def test_extreme_sizes(toy_model, size: tuple[int, int]):
    (instance,) = Predictor(toy_model())(np.full((*size, 3), (255, 0, 255), np.uint8))
    assert instance.mask.shape == size
    assert instance.mask.all()


def test_thresholds_of_the_file_and_of_the_caller(toy_model):
    metadata = {"class_names": "[]", "image_size": "[8, 8]", "dynamic_size": "false"}
    path = toy_model(metadata={**metadata, "stop_threshold": "0.9", "mask_threshold": "0.1"})
    grey = np.full((8, 8, 3), 128, np.uint8)  # objectness and masks 0.502
    assert Predictor(path)(grey) == []
    assert [i.class_name for i in Predictor(path, stop_threshold=0.5)(grey)] == ["class 1", "class 2", "class 1"]
    assert Predictor(path, stop_threshold=0.5, mask_threshold=0.6)(grey) == []


def test_eight_threads_share_a_predictor(toy_model):
    predictor = Predictor(toy_model(), threads=1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        widths = [1 + i % 8 for i in range(200)]
        answers = pool.map(lambda width: predictor(_image(columns=(width, 0, 0))), widths)
    assert [int(answer[0].mask.sum()) for answer in answers] == [8 * width for width in widths]


def _message(path: pathlib.Path, **options) -> str:
    with pytest.raises(InputError) as error:
        Predictor(path, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def _columns_found(predictor: Predictor, image: np.ndarray) -> list[int]:
    return [instance.box[2] for instance in predictor(image)]


def test_other_processes_open_the_file_again(toy_model, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """A process pool, or Ray, sends the predictor with each task; the working folder there is another one."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("model.onnx").write_bytes(toy_model().read_bytes())
    predictor = Predictor("model.onnx", threads=1, stop_mode="each")
    monkeypatch.chdir(tmp_path.parent)
    images = [_image(columns=(0, 3, n)) for n in range(1, 4)]
    expected = [[3, n] for n in range(1, 4)]
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert list(pool.map(functools.partial(_columns_found, predictor), images)) == expected


def test_pickles_keep_the_settings_and_hold_no_model(toy_model):
    predictor = Predictor(toy_model(), batch_size=2, tile=8, tile_overlap=2, providers=["cpu"])
    predictor.stop_threshold = 0.25  # set later than the options
    content = pickle.dumps(predictor)
    assert len(content) < 2000
    for again in (pickle.loads(content), pickle.loads(pickle.dumps(pickle.loads(content))), copy.deepcopy(predictor)):
        assert again._graph is not predictor._graph
        settings = {name: value for name, value in vars(predictor).items() if not name.startswith("_")}
        assert {name: vars(again)[name] for name in settings} == settings
        assert _columns_found(again, _image()) == _columns_found(predictor, _image())
    assert copy.copy(predictor)._graph is predictor._graph
    pathlib.Path(predictor.path).unlink()
    with pytest.raises(InputError, match="expected an ONNX file"):
        pickle.loads(content)


def test_missing_file_and_folder(tmp_path: pathlib.Path):
    for path in (tmp_path / "none.onnx", tmp_path):
        assert str(path) in _message(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_truncated_file(toy_model, share: float):
    path = toy_model()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert str(path) in _message(path)


def test_files_that_are_not_models(tmp_path: pathlib.Path):
    path = tmp_path / "model.onnx"
    for content in (b"PK\x03\x04 a Keras archive", b"\x89PNG\r\n\x1a\n" + bytes(100), b"word " * 100):
        path.write_bytes(content)
        assert str(path) in _message(path)


def test_models_of_other_projects(toy_model, tmp_path: pathlib.Path):
    foreign = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    model = helper.make_model(foreign, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "foreign.onnx"
    path.write_bytes(model.SerializeToString())
    assert "['x'] and ['y']" in _message(path)
    assert "'class_names' in its metadata" in _message(toy_model(metadata={}))
    assert "'class_names' in its metadata" in _message(toy_model(metadata={"class_names": "[leaf"}))


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("stop_threshold", [2, -0.1, 1.0001, "a", float("nan"), float("inf"), True, [0.5], np.array([0.5]), 1j]),
        ("mask_threshold", [2, -1e-9, "0.5", float("nan"), False, (0.5,)]),
        ("batch_size", [0, -1, 1.5, True, "8", 2.0, [4]]),
        ("threads", [0, -1, 1.5, True, "all"]),
        ("stop_mode", ["x", "", None, 1, ["first"], True]),
        ("image_size", [8, (8,), (8, 8, 3), (0, 8), (8.0, 8.0), "8x8", (True, 8), "88"]),
        ("providers", [[], [None], 3, [("cpu",)], [("cpu", "fast")], {"cpu": {}}]),
    ],
)
def test_every_option_is_checked(toy_model, option: str, values: list):
    path = toy_model(size=("height", "width"))
    for value in values:
        message = _message(path, **{option: value})
        assert message.startswith(option), value
        assert repr(value) in message.split(". Received: ")[1], value


def test_unknown_options_are_named(toy_model):
    with pytest.raises(TypeError, match=r"^Predictor and open_model take the options .*Received: stop_treshold, x$"):
        Predictor(toy_model(), threads=1, stop_treshold=0.3, x=1)


def test_options_may_have_numpy_types(toy_model):
    predictor = Predictor(
        toy_model(size=("height", "width")),
        stop_threshold=np.float32(0.25),
        mask_threshold=np.float64(1),
        batch_size=np.int64(2),
        threads=np.int32(1),
        image_size=np.array([4, 8]),
        providers="cpu",
    )
    assert (predictor.stop_threshold, predictor.mask_threshold) == (0.25, 1.0)
    assert (predictor.batch_size, predictor.image_size) == (2, (4, 8))
    assert predictor(_image(columns=(8, 0, 0)))[0].mask.all()


def test_thresholds_in_the_file_are_checked(toy_model):
    metadata = {"class_names": "[]", "image_size": "[8, 8]", "dynamic_size": "false", "mask_threshold": "0.5"}
    for value in ("2", "null", '"high"', "NaN"):
        assert "stop_threshold" in _message(toy_model(metadata={**metadata, "stop_threshold": value}))


def test_values_that_are_not_paths():
    for value in (None, 3, b"model.onnx"):
        assert f"Received: path={value!r}" in _message(value)


def test_images_in_any_memory_layout(toy_model):
    predictor = Predictor(toy_model())
    image = _image(12, 16, columns=(2, 3, 4))
    wanted = [int(instance.mask.sum()) for instance in predictor(image)]
    locked = image.copy()
    locked.setflags(write=False)
    reversed_channels = image[..., ::-1].copy()[..., ::-1]  # as OpenCV's BGR is reversed
    wide = np.zeros((12, 32, 3), np.uint8)
    wide[:, ::2] = image
    for other in (locked, reversed_channels, np.asfortranarray(image), wide[:, ::2]):
        assert [int(instance.mask.sum()) for instance in predictor(other)] == wanted
    assert not locked.flags.writeable


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (None, "NoneType"),
        (5, "int"),
        ("photo.png", "str"),
        (np.zeros((8, 8, 3), np.uint8), "one array of shape (8, 8, 3)"),
    ],
)
def test_anything_but_several_images_is_refused(toy_model, images, received: str):
    with pytest.raises(InputError) as error:
        Predictor(toy_model()).batch(images)
    assert str(error.value) == f"images must be a sequence of images, or a (B, H, W, 3) array. Received: {received}"


def test_run_checks_its_arrays(toy_model):
    predictor = Predictor(toy_model(batch=2))
    for images, received in (
        (np.zeros((8, 8, 3), np.uint8), "shape (8, 8, 3), dtype uint8"),
        (np.zeros((1, 8, 8, 3), np.float32), "shape (1, 8, 8, 3), dtype float32"),
        (np.zeros((0, 8, 8, 3), np.uint8), "shape (0, 8, 8, 3)"),
        (np.zeros((3, 8, 8, 3), np.uint8), "shape (3, 8, 8, 3)"),
        ([[0]], "list"),
    ):
        with pytest.raises(InputError, match=re.escape(f"Received: {received}")):
            predictor.run(images)


def test_a_failure_of_onnx_runtime_is_one_line(toy_model):
    path = toy_model()
    with pytest.raises(InputError) as error:
        Predictor(path).run(np.zeros((1, 9, 9, 3), np.uint8))  # the graph takes 8 × 8
    assert str(error.value).startswith(f"expected {path} to run on an input of shape (1, 9, 9, 3)")
    assert "\n" not in str(error.value)
    assert ". Received: " in str(error.value)


def test_a_failure_inside_the_graph_prints_nothing_else(toy_model, capfd):
    """ONNX Runtime prints the failure of a kernel in colours unless told not to."""
    path = toy_model()
    model = onnx.load(path)
    probs = next(value for value in model.graph.initializer if value.name == "probs")
    probs.CopyFrom(numpy_helper.from_array(np.tile(numpy_helper.to_array(probs), (2, 1, 1)), "probs"))
    path.write_bytes(model.SerializeToString())
    predictor = Predictor(path)
    assert len(predictor.batch([_image()] * 2)) == 2
    capfd.readouterr()
    with pytest.raises(InputError, match="running Add node"):
        predictor.batch([_image()] * 3)
    assert capfd.readouterr() == ("", "")


def test_category_ids_of_coco_files(toy_model):
    metadata = {"class_names": '["background", "leaf", "stone"]', "image_size": "[8, 8]", "dynamic_size": "false"}
    metadata |= {"stop_threshold": "0.5", "mask_threshold": "0.5"}
    assert Predictor(toy_model(metadata=metadata)).category_ids == ()  # as older files are
    assert Predictor(toy_model(metadata={**metadata, "category_ids": "[0, 7, 90]"})).category_ids == (0, 7, 90)


def test_options_that_a_file_cannot_satisfy(toy_model):
    path = toy_model(batch=3)
    assert "takes only batch_size 3. Received: 2" in _message(path, batch_size=2)
    assert "takes only image_size (8, 8). Received: (4, 4)" in _message(path, image_size=(4, 4))
    assert "Received: 'never'" in _message(path, stop_mode="never")
    for threads in (0, -1, 1.5):
        assert f"Received: {threads}" in _message(path, threads=threads)
    assert Predictor(path, batch_size=3, image_size=[8, 8]).batch_size == 3


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs no CUDA build")
def test_provider_that_is_not_installed(toy_model):
    for provider in ("cuda", "CUDAExecutionProvider", ("cuda", {"device_id": 0}), "tensorrt"):
        assert "ExecutionProvider'" in _message(toy_model(), providers=[provider, "cpu"])
    assert "Received: ['Nonsense']" in _message(toy_model(), providers=["Nonsense"])


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs no CUDA build")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_provider_that_does_not_start_is_never_replaced(toy_model, monkeypatch: pytest.MonkeyPatch):
    """A GPU build without a driver lists CUDA among its providers and then continues on the CPU."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    assert "not all of them start here. Received: ['CPUExecutionProvider']" in _message(toy_model(), providers=["cuda"])


def test_runtime_loads_no_framework(toy_model, tmp_path: pathlib.Path):
    path = toy_model()
    program = f"""
import sys
import numpy as np
from rsis_tf.runtime import Predictor, decode
assert "onnxruntime" not in sys.modules, "onnxruntime is loaded when a file is opened"
assert len(Predictor({str(path)!r})(np.full((5, 5, 3), 255, np.uint8))) == 3
loaded = {{name.split(".")[0] for name in sys.modules}}
assert not loaded & {{"tensorflow", "keras", "torch", "onnx", "scipy"}}, sorted(loaded)
of_the_package = {{name for name in sys.modules if name.startswith("rsis_tf")}}
assert of_the_package == {{"rsis_tf", "rsis_tf.runtime"}}, of_the_package
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=pathlib.Path(__file__).parents[2])


def test_an_application_can_copy_the_runtime_file(tmp_path: pathlib.Path, toy_model):
    """The copy needs nothing else of the project."""
    source = pathlib.Path(__file__).parents[2] / "rsis_tf" / "runtime.py"
    (tmp_path / "rsis_runtime.py").write_bytes(source.read_bytes())
    program = f"""
import numpy as np
import rsis_runtime
assert len(rsis_runtime.Predictor({str(toy_model())!r})(np.full((5, 5, 3), 255, np.uint8))) == 3
"""
    subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.')\n{program}"], check=True, cwd=tmp_path
    )


def _toy_facts(**changes: str) -> dict[str, str]:
    """Metadata of a toy graph that runs at 96x96 (see `write_toy_graph`)."""
    return {
        "class_names": json.dumps(["background", "leaf", "stone"]),
        "image_size": "[96, 96]",
        "dynamic_size": "false",
        "num_steps": "3",
        "stop_threshold": "0.5",
        "mask_threshold": "0.5",
        **changes,
    }


def _disc(height: int, width: int) -> np.ndarray:
    """An image with a red disc on black."""
    canvas = Image.new("RGB", (width, height))
    radius = 0.4 * min(height, width)
    x, y = 0.6 * width, 0.45 * height
    ImageDraw.Draw(canvas).ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 0, 0))
    return np.array(canvas)


@pytest.mark.parametrize("size", [(90, 300), (300, 90), (201, 133), (96, 96), (33, 47)])
def test_a_file_that_keeps_the_aspect_sees_the_image_undistorted(toy_model, size):
    path = toy_model(size=(96, 96), metadata=_toy_facts(aspect="keep"))
    predictor = Predictor(path)
    assert predictor.aspect == "keep"
    seen = []
    run = predictor.run
    predictor.run = lambda images: seen.append(images) or run(images)
    (found,) = predictor(_disc(*size))
    disc = _disc(*size)[..., 0] > 0
    assert found.mask.shape == size
    assert (found.mask & disc).sum() / (found.mask | disc).sum() > 0.95
    rows, columns = np.nonzero(seen[0][0, :, :, 0] > 127)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1  # round in the network's frame, too


def test_a_file_without_an_aspect_stretches(toy_model):
    predictor = Predictor(toy_model(size=(96, 96), metadata=_toy_facts()))
    assert predictor.aspect == "stretch"
    said = Predictor(toy_model(size=(96, 96), metadata=_toy_facts(aspect="stretch")))
    for one, other in zip(predictor(_disc(90, 300)), said(_disc(90, 300)), strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)


def test_an_aspect_of_a_later_version_is_refused(toy_model):
    with pytest.raises(InputError, match=r"aspect must be one of stretch, keep\. Received: 'crop', in "):
        Predictor(toy_model(size=(96, 96), metadata=_toy_facts(aspect="crop")))
