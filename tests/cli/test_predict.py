"""`rsis predict` on files, folders, patterns and videos, with a predictor whose results are known."""

import csv
import functools
import io
import json
import os
import pathlib
import struct
import sys

import numpy as np
import pytest
from exact_predictor import ExactPredictor, blobs, image_of
from PIL import Image
from predict_tools import NAMES, Thresholds, draw, files_in, instance

from rsis_tf import images
from rsis_tf.batch_prediction.results import KINDS, TRACK_KINDS, Results
from rsis_tf.batch_prediction.sources import find_sources
from rsis_tf.cli import predict
from rsis_tf.errors import InputError
from rsis_tf.progress import ProgressLine
from rsis_tf.runtime import CroppedMask, Instance


def test_all_results_of_one_image(run, tmp_path):
    draw(tmp_path / "a.png")
    code, out, err = run("a.png", "--what", "all", "--out", "found")
    assert (code, err) == (0, "")
    assert "a.png: 2 objects: bright 0.75, dark 0.75\n" in out
    results = ("a_labels.png", "a_overlay.png", "a_sequence.gif", "a_strip.png", "counts.csv", "instances.json")
    assert files_in(tmp_path / "found") == sorted([*results, "results.txt"])
    assert sorted((tmp_path / "found/results.txt").read_text().splitlines()[1:]) == sorted(results)
    labels = np.asarray(Image.open(tmp_path / "found/a_labels.png"))
    assert labels[:2, :3].tolist() == [[2, 2, 2], [2, 1, 2]]
    assert np.count_nonzero(labels) == 6
    assert (tmp_path / "found/counts.csv").read_text() == "image,objects,dark,bright,full\na.png,2,1,1,0\n"
    assert Image.open(tmp_path / "found/a_sequence.gif").n_frames == 4


def test_the_coco_file_is_read_by_the_official_tools_and_by_the_projects_reader(run, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    from rsis_tf.data.readers.coco import CocoDataset

    draw(tmp_path / "photos/a.png")
    draw(tmp_path / "photos/b.png", bright=False)
    run("photos", "--what", "json", "--out", "found")
    assert files_in(tmp_path / "found") == ["instances.json", "results.txt"]
    read = coco.COCO(str(tmp_path / "found/instances.json"))
    assert [read.cats[k]["name"] for k in sorted(read.cats)] == ["dark", "bright"]
    first, second, third = read.loadAnns(read.getAnnIds())
    assert (first["area"], first["bbox"], first["category_id"], first["score"], first["step"]) == (
        *(1, [1, 1, 1, 1], 2, 0.75, 0),
    )
    assert (second["area"], second["bbox"], second["label"]) == (6, [0, 0, 3, 2], 2)
    assert (third["image_id"], third["area"], third["label"]) == (2, 6, 1)
    mask = read.annToMask(second)
    assert mask.shape == (6, 9)
    assert mask[:2, :3].all()
    assert mask.sum() == 6

    (tmp_path / "data/annotations").mkdir(parents=True)
    os.rename(tmp_path / "found/instances.json", tmp_path / "data/annotations/val.json")
    os.rename(tmp_path / "photos", tmp_path / "data/val")
    dataset = CocoDataset(tmp_path / "data", "val")
    assert dataset.class_names == NAMES
    assert [len(dataset[index].classes) for index in range(2)] == [2, 1]


def test_folders_patterns_and_files_keep_their_order_without_duplicates(run, tmp_path):
    for name in ("p/2.png", "p/10.png", "p/deep/3.JPG", "p/.hidden.png", "q/7.png", "q/x8.png", "one.png"):
        draw(tmp_path / name)
    code, out, err = run("one.png", "p", "q/[0-9].png", "q/*.png", "./one.png")
    assert (code, err) == (0, "")
    shown = [line.split(":")[0] for line in out.splitlines()[:-1]]
    assert shown == ["one.png", "p/10.png", "p/2.png", "p/deep/3.JPG", "q/7.png", "q/x8.png"]
    rows = list(csv.DictReader((tmp_path / "predictions/counts.csv").open()))
    assert [row["image"] for row in rows] == shown
    assert "predictions: labels, overlay, counts of 6 images" in out
    again = run("**/*.png", "--overwrite")[1].splitlines()  # results of the first call are not taken for images
    assert sorted(line.split(":")[0] for line in again[:-1]) == [
        "one.png",
        "p/10.png",
        "p/2.png",
        "q/7.png",
        "q/x8.png",
    ]


def test_files_with_the_same_name_do_not_overwrite_each_other(run, tmp_path):
    for name in ("a/x.png", "b/x.png"):
        draw(tmp_path / name, bright=name == "a/x.png")
    _, out, _ = run("a", "b", "--what", "labels")
    assert out.count("several inputs share a name, so results keep the paths of their inputs: a/x_…\n") == 1
    assert files_in(tmp_path / "predictions") == ["a/x_labels.png", "b/x_labels.png", "results.txt"]
    highest = [int(np.asarray(Image.open(tmp_path / f"predictions/{d}/x_labels.png")).max()) for d in "ab"]
    assert highest == [2, 1]
    draw(tmp_path / "a/x.bmp")
    _, out, _ = run("a", "--what", "labels", "--out", "more")
    assert "so results keep the paths and suffixes of their inputs: x.bmp_…\n" in out
    assert files_in(tmp_path / "more") == ["results.txt", "x.bmp_labels.png", "x.png_labels.png"]
    draw(tmp_path / "c/X.png")
    names = [source.name for source in find_sources(["b", "c"], out=tmp_path / "new")]
    assert names == ["b/x", "c/X"]  # different even where case is ignored


def test_broken_files_are_skipped_and_the_others_predicted(run, tmp_path):
    draw(tmp_path / "good.png")
    draw(tmp_path / "last.png", bright=False)
    draw(tmp_path / "whole.png", size=(60, 90))
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    (tmp_path / "empty").mkdir()
    code, out, err = run("good.png", "cut.png", "empty", "no*.tif", "gone.png", "last.png")
    assert code == 2
    lines = err.splitlines()
    assert len(lines) == 4
    for line, name in zip(lines, ("cut.png", "empty", r"no*.tif", "gone.png"), strict=True):
        assert line.startswith("error: expected ")
        assert name in line.split("Received: ")[1]
    assert "of 2 images\nskipped 4 paths: cut.png, empty, no*.tif, gone.png\n" in out
    assert files_in(tmp_path / "predictions") == sorted(
        [
            "counts.csv",
            "results.txt",
            *(f"{name}_{kind}.png" for name in ("good", "last") for kind in ("labels", "overlay")),
        ]
    )


def test_nothing_is_written_when_nothing_can_be_read(run, tmp_path):
    code, _, err = run("gone.png", "--what", "all")
    assert (code, len(err.splitlines())) == (2, 1)
    assert not (tmp_path / "predictions").exists()


def test_the_exif_orientation_is_applied(run, tmp_path):
    draw(tmp_path / "up.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by 90 degrees
    Image.open(tmp_path / "up.png").rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    run("up.png", "turned.png", "--what", "labels")
    up, turned = (np.asarray(Image.open(tmp_path / f"predictions/{name}_labels.png")) for name in ("up", "turned"))
    assert np.array_equal(up, turned)


def test_results_never_replace_images(run, tmp_path):
    draw(tmp_path / "photos/x.png")
    draw(tmp_path / "photos/x_overlay.png")
    before = (tmp_path / "photos/x_overlay.png").read_bytes()
    for asked in (["photos"], ["photos/x.png", "photos/x_overlay.png"]):
        code, _, err = run(*asked, "--out", "photos")
        assert code == 2
        assert err.startswith("error: expected ")
        assert len(err.splitlines()) == 1
    assert (tmp_path / "photos/x_overlay.png").read_bytes() == before
    assert run("photos/x.png", "--out", "photos/x.png")[0] == 2


def test_an_interrupted_run_leaves_no_half_file(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    (source,) = find_sources(["a.png"], out=tmp_path)

    def interrupted():
        with Results(tmp_path, kinds=[kind for kind in KINDS if kind not in TRACK_KINDS], class_names=NAMES) as results:
            results.add(source, image, [instance(np.eye(4))])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    results = ["a_labels.png", "a_overlay.png", "a_sequence.gif", "a_strip.png"]
    assert files_in(tmp_path) == [*results, "results.txt"]
    assert set(results) < set((tmp_path / "results.txt").read_text().splitlines())


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    (source,) = find_sources(["a.png"], out=tmp_path)
    results = Results(tmp_path / "file/below", kinds=["labels"], class_names=NAMES)
    with pytest.raises(InputError, match=r"Received: .*file"):
        results.add(source, np.zeros((4, 4, 3), np.uint8), [])


def test_label_maps_have_no_gaps_and_grow_to_16_bits(tmp_path):
    hidden = np.zeros((3, 2, 2), bool)
    hidden[0, 0] = hidden[1, 0] = hidden[2, :, 0] = True
    numbers = np.arange(300).reshape(15, 20)
    many = [numbers == i for i in range(300)]
    names = ("hidden.png", "255.png", "300.png")
    with Results(tmp_path, kinds=["labels", "json"], class_names=NAMES) as results:
        for source, masks in zip(find_sources(names, out=tmp_path), (hidden, many[:255], many), strict=True):
            results.add(source, np.zeros((*masks[0].shape, 3), np.uint8), [instance(mask) for mask in masks])
    written = [Image.open(tmp_path / f"{pathlib.Path(name).stem}_labels.png") for name in names]
    assert [image.mode for image in written] == ["L", "L", "I;16"]
    assert np.asarray(written[0]).tolist() == [[1, 1], [2, 0]]
    assert np.array_equal(np.asarray(written[2]), numbers + 1)
    annotations = json.loads((tmp_path / "instances.json").read_text())["annotations"]
    assert [annotation["label"] for annotation in annotations[:3]] == [1, 0, 2]


@pytest.mark.parametrize("kinds", [["json", "counts"], ["labels", "json"]])
def test_only_label_maps_are_limited_to_65535_objects(tmp_path, kinds):
    size, dot, probs = (300, 300), np.ones((1, 1), bool), np.array([0, 1], np.float32)
    masks = [CroppedMask(crop=dot, corner=(number % 300, number // 300), size=size) for number in range(66_000)]
    many = [Instance(mask, 1, "dot", 1.0, step, 1.0, probs) for step, mask in enumerate(masks)]
    (source,) = find_sources(["a.png"], out=tmp_path)
    with Results(tmp_path / "found", kinds=kinds, class_names=("background", "dot")) as results:
        if "labels" in kinds:
            with pytest.raises(InputError, match="at most 65535 objects"):
                results.add(source, np.zeros((*size, 3), np.uint8), many)
            return
        results.add(source, np.zeros((*size, 3), np.uint8), many)
    content = json.loads((tmp_path / "found/instances.json").read_text())
    assert content["info"] == {}
    assert len(content["annotations"]) == content["annotations"][-1]["label"] == 66_000


def test_the_list_of_files_of_an_earlier_version_is_understood(run, tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "found").mkdir()
    (tmp_path / "found/b_labels.png").touch()
    head = "# Files that rsis_tf.predict wrote into this folder; --overwrite removes them.\n"
    (tmp_path / "found/results.txt").write_text(head + "b_labels.png\n")
    assert run("a.png", "--what", "labels", "--out", "found")[0] == 2
    assert run("a.png", "--what", "labels", "--out", "found", "--overwrite")[0] == 0
    assert files_in(tmp_path / "found") == ["a_labels.png", "results.txt"]


def test_options_reach_the_model_and_wrong_options_give_one_line(run, tmp_path, monkeypatch):
    draw(tmp_path / "a.png")
    opened = []
    monkeypatch.setattr(
        predict, "open_model", lambda path, **options: opened.append(options) or Thresholds(path, **options)
    )
    options = "--stop each --stop-threshold 0.7 --batch-size 3 --mask-threshold 0.25 --provider cuda --threads 2"
    options += " --steps 50 --tile 256x128 --tile-overlap 0 --flips --no-verify"
    assert run("a.png", *options.split())[0] == 0
    assert opened == [
        {
            "stop_mode": "each",
            "stop_threshold": 0.7,
            "mask_threshold": 0.25,
            "batch_size": 3,
            "steps": 50,
            "tile": (256, 128),
            "tile_overlap": 0,
            "flips": True,
            "verify": False,
            "providers": "cuda",
            "threads": 2,
        }
    ]
    for given, tile in ((["--tile"], "auto"), (["--tile", "auto"], "auto"), (["--tile", "64"], 64), ([], None)):
        assert run("a.png", "--overwrite", *given)[0] == 0
        assert opened[-1]["tile"] == tile
    for wrong in (
        *(["--tile", "a.png"], ["--tile", "0"], ["--tile", "8x"], ["--tile-overlap", "-1"], ["--steps", "0"]),
        *(["--what", "masks"], ["--batch-size", "0"], ["--every", "x"], ["--threads", "-1"], ["--threads", "²"]),
        *(["--stop-threshold", "2"], ["--stop-threshold", "nan"], ["--mask-threshold", "a"], ["--class", "cat"]),
    ):
        code, _, err = run("a.png", *wrong)
        assert (code, len(err.splitlines())) == (2, 1)
        assert f"Received: {wrong[1]}" in err


def test_a_sequence_without_an_end_is_reported_and_tiles_find_the_rest(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        predict, "open_model", lambda path, **options: ExactPredictor(most=10, any_steps=True, **options)
    )
    labels = blobs(64, 24, radii=(2, 3.5))
    Image.fromarray(image_of(labels)).save(tmp_path / "many.png")
    Image.fromarray(image_of(labels * (labels <= 3))).save(tmp_path / "few.png")
    code, out, _ = run("many.png", "few.png", "--out", "whole")
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("note")] == [
        "note: many.png: a sequence used all its steps, so there may be more objects (--tile and --steps find more)"
    ]
    table = (tmp_path / "whole/counts.csv").read_text().splitlines()
    assert table == ["image,objects,blob,full", "many.png,10,10,1", "few.png,3,3,0"]
    code, out, _ = run("many.png", "--tile", "--out", "tiles", "--what", "all")
    assert (code, "note:" in out) == (0, False)
    assert "many.png: 24 objects: 24 blob\n" in out
    assert (tmp_path / "tiles/counts.csv").read_text().splitlines()[1] == "many.png,24,24,0"
    stored = np.asarray(Image.open(tmp_path / "tiles/many_labels.png"))
    np.testing.assert_array_equal(stored > 0, labels > 0)


@pytest.mark.parametrize(
    ("options", "any_steps", "named"),
    [
        ([], False, " (--tile finds more)"),
        (["--tile"], True, " (--steps finds more)"),
        (["--tile"], False, ""),
    ],
)
def test_the_note_on_a_full_sequence_names_only_options_that_help(
    run, tmp_path, monkeypatch, options, any_steps, named
):
    exact = functools.partial(ExactPredictor, most=1, any_steps=any_steps)
    monkeypatch.setattr(predict, "open_model", lambda path, **options: exact(**options))
    Image.fromarray(image_of(blobs(64, 24, radii=(2, 3.5)))).save(tmp_path / "many.png")
    code, out, _ = run("many.png", *options)
    assert code == 0
    notes = [line for line in out.splitlines() if line.startswith("note")]
    assert notes == [f"note: many.png: a sequence used all its steps, so there may be more objects{named}"]


def test_frames_of_a_video(run, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(7):
            frame = np.zeros((48, 64, 3), np.uint8)
            frame[:16, : 16 + 4 * number] = 160
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes()[:100])
    code, out, err = run("clip.mp4", "broken.mp4", "--every", "3", "--what", "labels,counts")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "broken.mp4" in err
    assert "of 3 images" in out
    frames = ["clip.mp4/000000_labels.png", "clip.mp4/000003_labels.png", "clip.mp4/000006_labels.png"]
    assert files_in(tmp_path / "predictions") == [*frames, "counts.csv", "results.txt"]
    widths = [np.asarray(Image.open(tmp_path / "predictions" / name))[8].astype(bool).sum() for name in frames]
    assert widths == pytest.approx([16, 28, 40], abs=3)


@pytest.mark.parametrize(
    ("matrix", "corner"),  # of ISO/IEC 14496-12, 8.3.2: a, b, u, c, d, v, x, y, w; the corner that is bright
    [
        ((0, 1, 0, -1, 0, 0, 48, 0), (0, -1)),
        ((0, -1, 0, 1, 0, 0, 0, 64), (-1, 0)),
        ((-1, 0, 0, 0, -1, 0, 64, 48), (-1, -1)),
        ((-1, 0, 0, 0, 1, 0, 64, 0), (0, -1)),
        ((1, 0, 0, 0, -1, 0, 0, 48), (-1, 0)),
        ((0, 1, 0, 1, 0, 0, 0, 0), (0, 0)),
        ((0, -1, 0, -1, 0, 0, 48, 64), (-1, -1)),
    ],
    ids=["clockwise", "counterclockwise", "half", "mirrored", "upside down", "transposed", "transversed"],
)
def test_a_video_is_turned_and_mirrored_as_it_says(tmp_path, matrix, corner):
    av = pytest.importorskip("av")
    from rsis_tf.batch_prediction.video import read_frames

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stored = np.zeros((48, 64, 3), np.uint8)
        stored[:16, :16] = 200
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray((tmp_path / "clip.mp4").read_bytes())
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(">9i", *(number << 16 for number in matrix), 1 << 30)
    (tmp_path / "clip.mp4").write_bytes(content)
    ((number, seconds, frame),) = read_frames(tmp_path / "clip.mp4")
    quarter = matrix[0] == 0
    assert (number, seconds, frame.shape) == (0, 0, (64, 48, 3) if quarter else (48, 64, 3))
    for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert int(frame[y, x, 0]) == pytest.approx(200 if (y, x) == corner else 0, abs=8)


def test_a_video_without_pyav_gives_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").touch()
    draw(tmp_path / "a.png")
    code, out, err = run("clip.mp4", "a.png")
    assert code == 2
    assert err == 'error: reading videos needs PyAV: pip install "rsis_tf[video]". Received: clip.mp4\n'
    assert "a.png: 2 objects" in out


def test_progress_is_one_line_on_a_terminal_and_none_elsewhere(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    now = iter([0.0, 0.05, 2.0, 4.0])
    monkeypatch.setattr("rsis_tf.progress.time.monotonic", lambda: next(now))
    terminal = Terminal()
    line = ProgressLine(stream=terminal)
    for done in (1, 4, 200):
        line(done, 200)
    assert terminal.getvalue() == "\r\033[K4/200 images, 2.0/s, 1 min 38 s left\r\033[K"
    monkeypatch.undo()
    silent = io.StringIO()
    ProgressLine(stream=silent)(1, 2)
    assert silent.getvalue() == ""


def test_json_of_a_model_without_class_names(tmp_path):
    (source,) = find_sources(["a.png"], out=tmp_path)
    with Results(tmp_path, kinds=["json", "counts"], class_names=()) as results:
        results.add(source, np.zeros((4, 4, 3), np.uint8), [instance(np.eye(4), 2)])
    read = json.loads((tmp_path / "instances.json").read_text())
    assert read["categories"] == [{"id": 1, "name": "class 1"}, {"id": 2, "name": "class 2"}]
    assert (tmp_path / "counts.csv").read_text().splitlines() == ["image,objects,class 1,class 2,full", "a.png,1,0,1,0"]


def test_results_of_an_earlier_run_are_never_mixed_with_new_ones(run, tmp_path):
    for name in ("one/a.png", "one/b.png", "two/b.png"):
        draw(tmp_path / name, bright=name != "two/b.png")
    assert run("one", "--what", "labels,json", "--out", "found")[0] == 0
    (tmp_path / "found/mine.txt").write_text("kept")
    before = {name: (tmp_path / "found" / name).read_bytes() for name in files_in(tmp_path / "found")}
    code, _, err = run("two", "--what", "labels", "--out", "found")
    assert code == 2
    assert err == (
        "error: expected a folder without results of an earlier run (--overwrite removes those, and nothing else). "
        "Received: --out found with 3 files listed in results.txt\n"
    )
    assert {name: (tmp_path / "found" / name).read_bytes() for name in files_in(tmp_path / "found")} == before
    assert run("two", "--what", "labels", "--out", "found", "--overwrite")[0] == 0
    assert files_in(tmp_path / "found") == ["b_labels.png", "mine.txt", "results.txt"]
    assert int(np.asarray(Image.open(tmp_path / "found/b_labels.png")).max()) == 1


def test_a_run_that_predicts_nothing_removes_nothing(run, tmp_path):
    draw(tmp_path / "a.png")
    run("a.png", "--out", "found")
    before = files_in(tmp_path / "found")
    assert run("gone.png", "--out", "found", "--overwrite")[0] == 2
    assert files_in(tmp_path / "found") == before


def test_files_of_the_user_with_the_name_of_a_result_stay(run, tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "found").mkdir()
    (tmp_path / "found/a_overlay.png").write_text("drawn by hand")
    code, _, err = run("a.png", "--out", "found")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "Received: found/a_overlay.png, which exists" in err
    assert files_in(tmp_path / "found") == ["a_overlay.png"]
    assert (tmp_path / "found/a_overlay.png").read_text() == "drawn by hand"


def test_a_list_of_files_outside_the_folder_is_refused(run, tmp_path):
    draw(tmp_path / "a.png")
    run("a.png", "--out", "found")
    (tmp_path / "victim").write_text("kept")
    with (tmp_path / "found/results.txt").open("a") as file:
        file.write("../victim\n")
    code, _, err = run("a.png", "--out", "found", "--overwrite")
    assert code == 2
    assert "Received: ../victim in found/results.txt" in err
    assert (tmp_path / "victim").exists()


HEIC = struct.pack(">I4s4sI4s4s4s", 28, b"ftyp", b"heic", 0, b"mif1", b"heic", b"miaf")
"""The first box of a HEIC file, ISO/IEC 23008-12."""


def test_other_files_in_a_folder_are_reported_and_counted(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images._heif_reader.cache_clear()
    draw(tmp_path / "photos/a.png")
    (tmp_path / "photos/IMG_1.HEIC").write_bytes(HEIC)
    (tmp_path / "photos/notes.txt").write_text("no image")
    (tmp_path / "photos/raw.cr2").write_bytes(b"II*\0")
    code, out, err = run("photos")
    images._heif_reader.cache_clear()
    assert code == 2
    assert err.splitlines() == [
        "error: reading HEIC needs pillow-heif (pip install pillow-heif), or convert the file to JPEG or PNG. "
        "Received: photos/IMG_1.HEIC",
        "error: expected an image or a video (by its suffix). Received: photos/notes.txt",
        "error: expected an image or a video (by its suffix). Received: photos/raw.cr2",
    ]
    assert out.endswith("of 1 image\nskipped 3 paths: photos/IMG_1.HEIC, photos/notes.txt, photos/raw.cr2\n")
    assert [row["image"] for row in csv.DictReader((tmp_path / "predictions/counts.csv").open())] == ["photos/a.png"]


def test_heic_is_read_if_pillow_heif_is_installed(run, tmp_path):
    heif = pytest.importorskip("pillow_heif")
    draw(tmp_path / "a.png", size=(64, 96))
    heif.from_pillow(Image.open(tmp_path / "a.png")).save(tmp_path / "a.heic", quality=100)
    (tmp_path / "a.png").unlink()
    code, out, err = run("a.heic")
    assert (code, err) == (0, "")
    assert "a.heic: 2 objects" in out


def test_results_in_another_folder_are_not_taken_for_inputs(run, tmp_path):
    draw(tmp_path / "all/a.png")
    run("all", "--out", "all/first")
    code, out, err = run("all", "--out", "all/second")
    assert (code, err) == (0, "")
    assert "of 1 image\n" in out


def test_only_objects_of_the_classes_asked_for_are_written(run, tmp_path, monkeypatch):
    draw(tmp_path / "a.png")
    for asked in ("dark", "1"):
        code, out, _ = run("a.png", "--class", asked, "--what", "all", "--out", f"found-{asked}")
        assert code == 0
        assert "a.png: 1 object: dark 0.75\n" in out
        folder = tmp_path / f"found-{asked}"
        assert np.unique(np.asarray(Image.open(folder / "a_labels.png"))).tolist() == [0, 1]
        assert (folder / "counts.csv").read_text().splitlines()[1] == "a.png,1,1,0,0"
        (found,) = json.loads((folder / "instances.json").read_text())["annotations"]
        assert (found["category_id"], found["step"]) == (1, 1)  # the step keeps its number
    assert "of 1 image" in run("a.png", "--class", "dark", "--class", "bright", "--out", "both")[1]
    code, _, err = run("a.png", "--class", "cat", "--out", "none")
    assert code == 2
    assert err == "error: expected --class to be one of dark (1), bright (2). Received: cat\n"


def test_the_coco_file_has_the_category_ids_of_the_models_dataset(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Thresholds, "category_ids", (0, 7, 90))
    draw(tmp_path / "a.png")
    assert run("a.png", "--what", "json", "--class", "90")[0] == 0
    written = json.loads((tmp_path / "predictions/instances.json").read_text())
    assert [annotation["category_id"] for annotation in written["annotations"]] == [90]
    assert written["categories"] == [{"id": 7, "name": "dark"}, {"id": 90, "name": "bright"}]


def test_a_failure_in_the_middle_is_one_line_and_the_rest_is_written(run, tmp_path, monkeypatch):
    def fail_late(self, images):
        for number, found in enumerate(stream(self, images)):
            if number == 1:
                raise InputError("expected the graph to run. Received: out of memory")
            yield found

    stream = Thresholds.stream
    monkeypatch.setattr(Thresholds, "stream", fail_late)
    for name in ("a.png", "b.png"):
        draw(tmp_path / name)
    code, _, err = run("a.png", "b.png", "--what", "all")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "Received: b.png (expected the graph to run. Received: out of memory)" in err
    assert len((tmp_path / "predictions/counts.csv").read_text().splitlines()) == 2
    written = json.loads((tmp_path / "predictions/instances.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["a.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_file_names_that_are_not_text(run, tmp_path):
    names = ["line\nbreak.png", "back\\nslash.png", os.fsdecode(b"latin-\xe9.png")]
    draw(tmp_path / "photos/a.png")
    content = (tmp_path / "photos/a.png").read_bytes()
    for name in names:
        (tmp_path / "photos" / name).write_bytes(content)
    code, out, err = run("photos", "--what", "labels,json,counts", "--out", "found")
    assert (code, err) == (0, "")
    assert "latin-\\udce9.png: 2 objects" in out
    read = json.loads((tmp_path / "found/instances.json").read_text())
    assert sorted(image["file_name"] for image in read["images"]) == sorted(["a.png", *names])
    (tmp_path / "photos/a.png").rename(tmp_path / "b.png")
    assert run("b.png", "--what", "labels", "--out", "found", "--overwrite")[0] == 0
    assert files_in(tmp_path / "found") == ["b_labels.png", "results.txt"]
