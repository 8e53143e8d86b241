"""The browser example in headless Chromium: a dropped image gives the objects of the Python runtime.

Needs Chromium, and onnxruntime-web: `npm install` in examples/browser, or its folder in RSIS_NODE_MODULES.
"""

import functools
import http.server
import json
import os
import pathlib
import shutil
import threading

import numpy as np
import pytest
from chromium_pipe import Page, find_program
from PIL import Image

from rsis_tf.images import read_image
from rsis_tf.runtime import Predictor
from rsis_tf.zoo import registry

SOURCE = pathlib.Path(__file__).parents[2] / "examples" / "browser"
MODULES = pathlib.Path(os.environ.get("RSIS_NODE_MODULES", SOURCE / "node_modules"))

pytestmark = [
    pytest.mark.skipif(find_program() is None, reason="needs Chromium"),
    pytest.mark.skipif(not (MODULES / "onnxruntime-web").is_dir(), reason="needs npm install in examples/browser"),
]
DROP = """(async () => {
  const blob = await (await fetch(%s)).blob();
  const transfer = new DataTransfer();
  transfer.items.add(new File([blob], %s, {type: blob.type}));
  view.instances = [];
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
})()"""
FOUND = """view.instances.map(({mask, ...rest}) => ({...rest, runs: mask.reduce((runs, value, i) => {
  if (i && value !== mask[i - 1]) runs.push(i);
  return runs;
}, [mask[0]])}))"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Prints nothing."""


@pytest.fixture(scope="module")
def site(model_file, keeping_model_file, image_files, tmp_path_factory):
    """Serves the example and the package's models as in the repository, images and files of the user's beside it."""
    root = tmp_path_factory.mktemp("site")
    folder = root / "examples/browser"
    folder.mkdir(parents=True)
    (root / "rsis_tf/zoo").mkdir(parents=True)
    (root / "rsis_tf/zoo/models").symlink_to(registry.FOLDER)
    for name in ("index.html", "predict.js"):
        shutil.copy(SOURCE / name, folder)
    (folder / "node_modules").symlink_to(MODULES.absolute())
    for path in (model_file, model_file.with_name("model.onnx.json"), *image_files):
        shutil.copy(path, folder)
    for ending in ("onnx", "onnx.json"):
        shutil.copy(keeping_model_file.with_name(f"model.{ending}"), folder / f"keeping.{ending}")
    (folder / "broken.png").write_bytes(b"nothing")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=root))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/examples/browser"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def page(site, tmp_path_factory):
    with Page(tmp_path_factory.mktemp("profile"), f"{site}/index.html?model=model.onnx") as page:
        page.wait_for("document.getElementById('status')?.textContent === 'Ready for an image.'")
        yield page


@pytest.fixture(scope="module")
def keeping_page(site, tmp_path_factory):
    with Page(tmp_path_factory.mktemp("profile"), f"{site}/index.html?model=keeping.onnx") as page:
        page.wait_for("document.getElementById('status')?.textContent === 'Ready for an image.'")
        yield page


def _drop(page: Page, name: str) -> None:
    page.evaluate(DROP % (json.dumps(name), json.dumps(name)))


def _mask(runs: list[int], shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool from the first value and the places where it changes."""
    mask = np.full(shape[0] * shape[1], bool(runs[0]))
    for place in runs[1:]:
        mask[place:] = ~mask[place:]
    return mask.reshape(shape)


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize(("shown", "file"), [("page", "model_file"), ("keeping_page", "keeping_model_file")])
def test_same_objects_as_the_python_runtime(shown, file, image_files, index, request):
    page, model_file = request.getfixturevalue(shown), request.getfixturevalue(file)
    _drop(page, image_files[index].name)
    page.wait_for("view.instances.length")
    found = page.evaluate(FOUND)
    image = read_image(image_files[index])
    wanted = Predictor(model_file)(image)
    assert len(wanted) >= 2
    assert [(one["step"], one["className"]) for one in found] == [(other.step, other.class_name) for other in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one["score"] == pytest.approx(other.score, abs=1e-3)
        assert (_mask(one["runs"], image.shape[:2]) == other.mask).mean() > 0.999


def test_objects_are_drawn_one_after_the_other_with_a_legend(page, model_file, image_files, tmp_path):
    _drop(page, image_files[0].name)
    page.wait_for("view.instances.length")
    wanted = Predictor(model_file)(read_image(image_files[0]))
    pixels = "(() => {const c = document.getElementById('canvas'); return Array.from("
    pixels += "c.getContext('2d').getImageData(0, 0, c.width, c.height).data)})()"
    drawn = []
    for shown in range(len(wanted) + 1):
        page.evaluate(f"slider.value = {shown}; slider.dispatchEvent(new Event('input'))")
        drawn.append(np.reshape(page.evaluate(pixels), (32, 48, 4))[..., :3])
        later = page.evaluate("[...legend.children].map((row) => row.classList.contains('later'))")
        assert later == [i >= shown for i in range(len(wanted))]
    np.testing.assert_array_equal(drawn[0], read_image(image_files[0]))  # no object is drawn yet
    for step, instance in enumerate(wanted):
        changed = (drawn[step] != drawn[step + 1]).any(axis=-1)
        assert (changed <= instance.mask).mean() > 0.999
        assert changed.sum() > 0.9 * instance.mask.sum()
    names = page.evaluate("[...document.querySelectorAll('#legend .name')].map((name) => name.textContent)")
    assert names == [instance.class_name for instance in wanted]
    page.evaluate("document.getElementById('play').click()")
    page.wait_for(f"document.getElementById('count').textContent === '{len(wanted)} of {len(wanted)}'")
    page.screenshot(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as opened:
        assert opened.width > 1000


def test_a_file_that_is_not_an_image_gives_one_line(page):
    _drop(page, "broken.png")
    page.wait_for("document.getElementById('status').className === 'wrong'")
    assert page.evaluate("document.getElementById('status').textContent") == "expected an image. Received: broken.png"


def test_a_missing_model_is_reported(site, tmp_path):
    with Page(tmp_path, f"{site}/index.html?model=nowhere.onnx") as page:
        page.wait_for("document.getElementById('status')?.className === 'wrong'")
        assert "The model does not open: " in page.evaluate("document.getElementById('status').textContent")


@pytest.mark.parametrize(("query", "name"), [("", None), ("?model=shapes", "shapes")])
def test_models_of_the_package_are_opened_by_name(site, image_files, tmp_path, query, name):
    name = name or next(name for name in ("nuclei", "leaves", "shapes") if name in registry.names())
    with Page(tmp_path, f"{site}/index.html{query}") as page:
        page.wait_for("document.getElementById('status')?.textContent === 'Ready for an image.'")
        assert page.evaluate("view.model").endswith(f"/rsis_tf/zoo/models/{name}/{name}.onnx")
        _drop(page, image_files[1].name)
        page.wait_for("document.getElementById('status')?.textContent.includes('the sequence')")
        found = page.evaluate(FOUND)
    wanted = Predictor.from_pretrained(name)(read_image(image_files[1]))
    assert [one["step"] for one in found] == [other.step for other in wanted]


def test_a_name_that_no_model_has_is_reported(site, tmp_path):
    with Page(tmp_path, f"{site}/index.html?model=nobody") as page:
        page.wait_for("document.getElementById('status')?.className === 'wrong'")
        text = page.evaluate("document.getElementById('status').textContent")
    assert "expected the name of a model" in text
    assert text.endswith("Received: nobody")
