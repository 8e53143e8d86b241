"""The C++ example, compiled and run: the same objects and label map as the Python runtime.

It needs CMake, a compiler and the headers of ONNX Runtime: set ONNXRUNTIME_INCLUDE_DIR, or install them for the system.
The library is the one in the Python package.
"""

import os
import pathlib
import shutil
import subprocess

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from rsis_tf.images import read_image
from rsis_tf.runtime import Predictor

SOURCE = pathlib.Path(__file__).parents[2] / "examples" / "cpp"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The example, compiled."""
    places = [os.environ.get("ONNXRUNTIME_INCLUDE_DIR"), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime"]
    headers = [place for place in places if place and (pathlib.Path(place) / "onnxruntime_cxx_api.h").is_file()]
    libraries = sorted((pathlib.Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not (headers and libraries and shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("needs CMake, a C++ compiler and the headers of ONNX Runtime (ONNXRUNTIME_INCLUDE_DIR)")
    build = tmp_path_factory.mktemp("build")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # the name to link with, and the one it asks for
        (build / name).symlink_to(libraries[-1])
    options = [
        f"-DONNXRUNTIME_INCLUDE_DIR={headers[0]}",
        f"-DONNXRUNTIME_LIBRARY={build / 'libonnxruntime.so'}",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_CXX_FLAGS=-Werror",
    ]
    for command in (["cmake", "-S", SOURCE, "-B", build, *options], ["cmake", "--build", build]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "predict"


@pytest.fixture(params=[0, 1, 2])
def ppm(request, image_files, tmp_path) -> tuple[pathlib.Path, np.ndarray]:
    """An image as PPM, and its pixels."""
    image = read_image(image_files[request.param])
    Image.fromarray(image).save(tmp_path / "image.ppm")
    return tmp_path / "image.ppm", image


@pytest.mark.parametrize("file", ["model_file", "keeping_model_file"])
def test_same_objects_as_the_python_runtime(program, ppm, file, request, tmp_path):
    path, image = ppm
    model_file = request.getfixturevalue(file)
    done = subprocess.run([program, model_file, path, tmp_path / "labels.pgm"], capture_output=True, check=True)
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    wanted = Predictor(model_file)(image)
    assert len(wanted) >= 2
    assert [(int(line[0]), line[1]) for line in lines] == [(found.step, found.class_name) for found in wanted]
    np.testing.assert_allclose(
        [list(map(float, line[2:4])) for line in lines],
        [(found.score, found.objectness) for found in wanted],
        atol=1e-3,
    )
    with Image.open(tmp_path / "labels.pgm") as opened:
        labels = np.asarray(opened)
    # Pillow scales in fixed point, columns or rows first depending on its version: single values differ by 1.
    assert (labels == wanted.to_label_map()).mean() > 0.995
    assert [int(line[4]) for line in lines] == pytest.approx([found.mask.sum() for found in wanted], rel=0.01)


def test_stops_where_the_file_says(program, image_files, model_file, tmp_path):
    """The first step below the threshold ends the sequence."""
    import onnx

    image = read_image(image_files[0])
    stops = Predictor(model_file, stop_mode="each", stop_threshold=0).run(image[None])[2][0]  # (T,)
    model = onnx.load(model_file)
    threshold = float(np.sort(stops)[1])  # one of four steps is below it
    for entry in model.metadata_props:
        if entry.key == "stop_threshold":
            entry.value = str(threshold)
    onnx.save(model, tmp_path / "other.onnx")
    Image.fromarray(image).save(tmp_path / "image.ppm")
    command = [program, tmp_path / "other.onnx", tmp_path / "image.ppm", tmp_path / "labels.pgm"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == int(np.argmax(stops < threshold))


def test_an_aspect_of_a_later_version_is_refused(program, ppm, keeping_model_file, tmp_path):
    import onnx

    model = onnx.load(keeping_model_file)
    for entry in model.metadata_props:
        if entry.key == "aspect":
            entry.value = "crop"
    onnx.save(model, tmp_path / "other.onnx")
    command = [program, tmp_path / "other.onnx", ppm[0], tmp_path / "labels.pgm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: expected the aspect stretch or keep. Received: crop\n")


def test_mistakes_give_one_line(program, image_files, model_file, tmp_path):
    labels = tmp_path / "labels.pgm"
    (tmp_path / "short.ppm").write_bytes(b"P6 # a comment\n4 4\n255\n" + bytes(47))
    for words, message, code in [
        ([model_file], "usage: ", 2),
        ([model_file, image_files[0], labels], "expected a binary PPM", 1),
        ([model_file, tmp_path / "nowhere.ppm", labels], "nowhere.ppm", 1),
        ([model_file, tmp_path / "short.ppm", labels], "expected 48 bytes of pixels. Received: 47", 1),
    ]:
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1)
        assert message in done.stderr
        assert not labels.exists()
