"""`rsis predict` with a model that fails on some images: each is one reported failure, and everything else is done."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from predict_tools import Thresholds, draw
from test_predict_bad_paths import clip

from export.benchmarking.rows import Case, benchmark
from rsis_tf.cli import predict
from rsis_tf.errors import InputError
from rsis_tf.runtime import CroppedMask, Instance, Instances


class FailsOnRed(Thresholds):
    """Fails on a batch with an image whose first pixel is red, as a runtime does: the whole batch is lost."""

    error: Exception = InputError("expected finite numbers from the network. Received: NaN in masks of model.onnx")

    def stream(self, images):
        batches = iter(images)
        while batch := [image for _, image in zip(range(3), batches, strict=False)]:
            if any(tuple(image[0, 0]) == (250, 0, 0) for image in batch):
                raise self.error
            yield from super().stream(batch)


def red(path):
    Image.new("RGB", (9, 6), (250, 0, 0)).save(path)


def rows(folder):
    with (folder / "counts.csv").open(newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


@pytest.fixture
def fails(monkeypatch, run):
    monkeypatch.setattr(predict, "open_model", FailsOnRed)


@pytest.mark.parametrize("bad", [{0}, {1, 2}, {3}, {6}, {0, 3, 4, 5, 6}])
@pytest.mark.parametrize("error", [FailsOnRed.error, RuntimeError("[ONNXRuntimeError] : 6\nout of memory")])
def test_one_image_is_one_failure(fails, run, tmp_path, monkeypatch, bad, error):
    monkeypatch.setattr(FailsOnRed, "error", error)
    names = [f"{number}.png" for number in range(7)]
    for number, name in enumerate(names):
        (red if number in bad else draw)(tmp_path / name)
    (tmp_path / "x.png").write_bytes(b"no image")
    code, out, err = run(*names, "x.png", "--what", "labels,json,counts")
    assert code == 2
    failures = [line for line in err.splitlines() if "x.png" not in line]
    assert len(failures) == len(bad)
    for number, line in zip(sorted(bad), failures, strict=True):
        assert line.startswith(f"error: expected an image that the model can predict. Received: {number}.png (")
    assert rows(tmp_path / "predictions") == [name for number, name in enumerate(names) if number not in bad]
    assert f"skipped {len(bad) + 1} paths: " in out


def test_a_model_that_fails_on_every_image_says_so_once(fails, run, tmp_path):
    for number in range(7):
        red(tmp_path / f"{number}.png")
    code, _, err = run(".")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "a failure on each of 7, the first: expected an image that the model can predict. Received: 0.png" in err
    assert not (tmp_path / "predictions").exists()
    _, _, err = run("3.png")
    assert err.startswith("error: expected an image that the model can predict. Received: 3.png (expected finite")


def test_a_frame_of_a_video_is_one_failure(run, tmp_path, monkeypatch):
    class FailsOnce(Thresholds):
        seen = 0

        def stream(self, images):
            for image in images:
                FailsOnce.seen += 1
                if FailsOnce.seen == 3:
                    raise RuntimeError("out of memory")
                yield from super().stream([image])

    monkeypatch.setattr(predict, "open_model", FailsOnce)
    clip(tmp_path / "clip.mp4", frames=5)
    code, _, err = run("clip.mp4")
    assert (code, err.splitlines()) == (
        2,
        ["error: expected an image that the model can predict. Received: clip.mp4/000002 (out of memory)"],
    )
    assert rows(tmp_path / "predictions") == [f"clip.mp4/00000{number}" for number in (0, 1, 3, 4)]


def test_a_changed_file_is_opened_without_its_checksum(toy_model, tmp_path, capsys):
    model = toy_model()
    model.with_name(f"{model.name}.json").write_text(json.dumps({"sha256": "0" * 64}))
    draw(tmp_path / "a.png")
    arguments = [str(model), str(tmp_path / "a.png"), "--out", str(tmp_path / "found")]
    with pytest.raises(SystemExit):
        predict.main(arguments)
    assert "--no-verify skips this check" in capsys.readouterr().err
    predict.main([*arguments, "--no-verify"])
    assert rows(tmp_path / "found") == [str(tmp_path / "a.png")]
    case = Case(path=model)
    image = np.zeros((8, 8, 3), np.uint8)
    checked, unchecked = (
        benchmark([case], images=[image], warm_up=0, repeat=1, verify=verify)[0] for verify in (True, False)
    )
    assert "--no-verify" in checked["error"]
    assert "error" not in unchecked


class Crowd(Thresholds):
    """Finds an object in each pixel."""

    def stream(self, images):
        dot, probs = np.ones((1, 1), bool), np.array([0, 1], np.float32)
        for image in images:
            size = image.shape[:2]
            masks = [CroppedMask(crop=dot, corner=corner[::-1], size=size) for corner in np.ndindex(size)]
            yield Instances([Instance(mask, 1, "dot", 1.0, 0, 1.0, probs) for mask in masks], size=size)


def test_an_image_of_too_many_objects_for_a_label_map_does_not_end_the_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "open_model", Crowd)
    for name, size in (("a", (4, 4)), ("b", (257, 256)), ("c", (4, 4))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    code, out, err = run("a.png", "b.png", "c.png", "--what", "labels,counts,json")
    assert code == 2
    assert err == (
        "error: expected at most 65535 objects in a label map (--what json,counts has no such limit). "
        "Received: 65792 in b.png\n"
    )
    assert "skipped 1 path: b.png" in out
    assert rows(tmp_path / "predictions") == ["a.png", "c.png"]
    assert not (tmp_path / "predictions/b_labels.png").exists()
    assert "b_labels.png" not in (tmp_path / "predictions/results.txt").read_text()
