"""`rsis evaluate` from arguments to table, scores and result files, with a predictor that knows the truth."""

import json
import re
import types

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_tools
from pycocotools.coco import COCO

from rsis_tf.cli import ablation, evaluate
from rsis_tf.cli.evaluation_options import add_model_and_data, data_config, new_parser, predicted_steps
from rsis_tf.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from rsis_tf.config.json_file import to_json
from rsis_tf.config.presets import PRESETS, custom
from rsis_tf.data import Subset, category_ids, load_dataset
from rsis_tf.errors import InputError
from rsis_tf.run import fitted
from rsis_tf.runtime import Instance


class Knowing:
    """Returns the true objects of the images of a dataset, without the first `left_out` of each."""

    def __init__(self, dataset, left_out=0):
        self.class_names = dataset.class_names
        samples = (dataset[index] for index in range(len(dataset)))
        self._answers = {sample.image.tobytes(): sample for sample in samples}
        self._left_out = left_out
        self.stop_threshold, self.mask_threshold = 0.7, 0.25

    def __call__(self, image):
        sample = self._answers[image.tobytes()]
        found = []
        for step, class_id in enumerate(sample.classes[self._left_out :]):
            probs = np.full(len(self.class_names), 0.1 / (len(self.class_names) - 1), np.float32)
            probs[class_id] = 0.9
            mask = sample.label_map == step + 1 + self._left_out
            name = self.class_names[class_id]
            found.append(Instance(mask, int(class_id), name, float(probs[class_id]), step, 1.0, probs))
        return found


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Runs the command with a predictor of a dataset; returns exit code, stdout, stderr, options of the predictor."""

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments, data, split="val", left_out=0):
        opened = []

        def open_predictor(path, **options):
            opened.append((path, options))
            return Knowing(load_dataset(data, split), left_out)

        monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_predictor", open_predictor)
        code = 0
        try:
            evaluate.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr(), opened

    return run


SCENES = DataConfig(dataset="shapes", image_size=(32, 32), val_size=4, seed=3)


@pytest.fixture
def run_folder(tmp_path):
    """A run's folder with the files that the command looks for; the tests replace the predictor."""
    folder = tmp_path / "run"
    (folder / "saved_model").mkdir(parents=True)
    for name in ("best.keras", "model.onnx", "model.tflite", "saved_model/saved_model.pb"):
        (folder / name).touch()
    settings = RunConfig(model=ModelConfig(image_size=SCENES.image_size), data=SCENES, train=TrainConfig())
    (folder / "config.json").write_text(to_json(settings))
    return folder


def test_the_scores_of_a_run_are_printed_and_stored(call, run_folder, tmp_path):
    changed = ["--stop", "each", "--stop-threshold", "0.7", "--out", tmp_path / "each.json"]
    code, out, err, opened = call(run_folder, *changed, data=SCENES)
    assert (code, err) == (0, "")
    ((path, options),) = opened
    assert path == run_folder
    assert {name: value for name, value in options.items() if value is not None} == {
        "stop_mode": "each",
        "stop_threshold": 0.7,
        "flips": False,
        "verify": True,
    }
    assert re.search(r"^AP50 +1\.000 ", out, re.MULTILINE)
    assert "4 images" in out
    kept = json.loads((tmp_path / "each.json").read_text())
    assert (kept["dataset"], kept["split"], kept["stop"], kept["images"]) == ("shapes", "val", "each", 4)
    assert (kept["stop_threshold"], kept["mask_threshold"]) == (0.7, 0.25)
    assert (kept["ap"], kept["sbd"], kept["abs_dic"]) == (1, 1, 0)
    call(run_folder, data=SCENES, left_out=1)
    assert json.loads((run_folder / "metrics.json").read_text())["dic"] == -1


def test_each_protocol_has_its_own_file_of_scores(call, run_folder):
    """The ablation table reads that file."""
    call(run_folder, data=SCENES)
    before = (run_folder / "metrics.json").read_text()
    code, _, err, opened = call(run_folder, "--protocol", "paper-voc", data=SCENES, left_out=1)
    assert (code, err) == (0, "")
    assert opened[0][1].items() >= {"stop_mode": "each", "stop_threshold": 0.5}.items()
    assert (run_folder / "metrics.json").read_text() == before
    kept = json.loads((run_folder / "metrics-paper-voc.json").read_text())
    assert (kept["protocol"]["name"], kept["protocol"]["every_class"], kept["protocol"]["max_dets"]) == (
        "paper-voc",
        True,
        [10, 50],
    )
    ablation.main([str(run_folder)])
    file = run_folder / "three.json"
    assert call(run_folder, "--protocol", "paper-voc", "--max-dets", "3", "--out", file, data=SCENES)[0] == 0
    kept = json.loads(file.read_text())
    assert (kept["protocol"]["name"], kept["protocol"]["max_dets"]) == ("paper-voc", [3])
    assert kept["recall"].keys() == {"ar50@3", "ar70@3", "ar85@3"}


@pytest.mark.parametrize(
    "options",
    [
        *(["--stop-threshold", "0.7"], ["--stop", "each"], ["--mask-threshold", "0.4"], ["--class-threshold", "0.1"]),
        *(["--min-size", "0.01"], ["--largest-component"], ["--every-class"], ["--max-dets", "3"]),
        ["--protocol", "paper-voc", "--stop-threshold", "0.7"],
    ],
)
def test_scores_with_changed_settings_do_not_replace_those_of_the_run(call, run_folder, options):
    for protocol in ("plain", "paper-voc"):
        call(run_folder, "--protocol", protocol, data=SCENES)
    files = {path: path.read_bytes() for path in run_folder.glob("metrics*.json")}
    assert len(files) == 2
    code, out, err, _ = call(run_folder, *options, data=SCENES, left_out=1)
    assert (code, err) == (0, "")
    assert "written" not in out
    assert {path: path.read_bytes() for path in run_folder.glob("metrics*.json")} == files


def test_a_setting_given_as_the_protocol_has_it_changes_nothing(call, run_folder):
    options = ["--protocol", "paper-voc", "--stop", "each", "--stop-threshold", "0.5"]
    assert "metrics-paper-voc.json" in call(run_folder, *options, data=SCENES)[1].splitlines()[-1]


def test_scores_of_fewer_or_other_images_are_not_stored_as_the_runs(call, run_folder, tmp_path):
    assert "2 images" in call(run_folder, "--limit", 2, data=SCENES)[1]
    assert call(run_folder, "--dataset", "synthetic", data=SCENES)[0] == 0
    assert call(run_folder, "--split", "train", "--limit", 2, data=SCENES, split="train")[0] == 0
    code, _, err, _ = call(run_folder, "--data", tmp_path, data=SCENES)
    assert code == 2
    assert re.fullmatch(r"error: .*'shapes' is generated and reads none\. Received: --data .*\n", err)
    assert not (run_folder / "metrics.json").exists()
    call(run_folder, "--limit", 2, "--out", tmp_path / "two.json", data=SCENES)
    assert json.loads((tmp_path / "two.json").read_text())["images"] == 2


@pytest.mark.parametrize("options", [["--flips"], ["--tile", "24"], ["--tile"], ["--steps", "9"]])
def test_scores_of_other_sequences_are_not_stored_as_the_runs_and_name_the_option(call, run_folder, tmp_path, options):
    assert call(run_folder, *options, data=SCENES)[0] == 0
    assert not (run_folder / "metrics.json").exists()
    call(run_folder, *options, "--out", tmp_path / "scores.json", data=SCENES)
    name = options[0].removeprefix("--")
    assert json.loads((tmp_path / "scores.json").read_text())[name] == {"flips": True, "steps": 9}.get(
        name, 24 if len(options) > 1 else "auto"
    )


def test_other_data_are_scored_whole_whatever_the_run_was_limited_to(call, run_folder, coco_folder):
    limited = DataConfig(dataset="coco", root="elsewhere", train_size=1, val_size=1)
    (run_folder / "config.json").write_text(to_json(RunConfig(model=ModelConfig(), data=limited, train=TrainConfig())))
    data = DataConfig(dataset="coco", root=str(coco_folder))
    parser = new_parser("evaluate", "", "")
    add_model_and_data(parser)
    opened = data_config(parser.parse_args([str(run_folder), "--data", str(coco_folder)]))
    assert (opened.root, opened.train_size, opened.val_size) == (data.root, None, None)


def test_objects_beyond_the_steps_that_were_asked_for_are_counted():
    predictor = types.SimpleNamespace(metadata={"num_steps": "20"}, steps=2)
    assert predicted_steps(predictor) == 2
    predictor.steps = None
    assert predicted_steps(predictor) == 20


def test_scores_on_another_annotation_file_are_not_stored_as_the_runs(call, run_folder, coco_folder):
    data = DataConfig(dataset="coco", root=str(coco_folder))
    (run_folder / "config.json").write_text(to_json(RunConfig(model=ModelConfig(), data=data, train=TrainConfig())))
    files = {"annotations": str(coco_folder / "annotations/val.json"), "images": str(coco_folder / "val")}
    options = [word for name, value in files.items() for word in (f"--{name}", value)]
    code, out, err, _ = call(run_folder, *options, data=DataConfig(dataset="coco", **files), split="all")
    assert (code, err) == (0, "")
    assert "1 images" in out
    assert not (run_folder / "metrics.json").exists()
    assert call(run_folder, data=data)[0] == 0
    assert (run_folder / "metrics.json").exists()


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "saved_model", "best.keras"])
def test_a_file_in_a_runs_folder_is_scored_on_the_runs_images(call, run_folder, name):
    code, out, _, opened = call(run_folder / name, data=SCENES)
    assert code == 0
    assert "4 images" in out
    assert opened[0][0] == run_folder / name
    assert not list(run_folder.rglob("metrics.json"))


@pytest.mark.parametrize("option", ["--overlays", "--pictures"])
def test_coco_results_and_overlays(call, run_folder, tmp_path, option):
    dataset = load_dataset(SCENES, "val")
    objects = sum(len(dataset[index].classes) for index in range(4))
    files = ["--coco-results", tmp_path / "results.json", option, tmp_path / "found", f"{option}-count", 3]
    code, out, _, _ = call(run_folder, *files, data=SCENES)
    assert code == 0
    assert str(tmp_path / "results.json") in out.splitlines()[-1]
    entries = json.loads((tmp_path / "results.json").read_text())
    assert len(entries) == objects
    assert [entry["score"] for entry in entries] == pytest.approx([0.9] * objects)
    names = sorted(path.name for path in (tmp_path / "found").iterdir())
    assert len(names) == 6
    assert names[0] == f"001_{dataset[0].image_id}_overlay.png"
    assert names[1] == f"001_{dataset[0].image_id}_strip.png"
    call(run_folder, *files, "--every-class", data=SCENES)  # the other settings of the protocol stay
    assert len(json.loads((tmp_path / "results.json").read_text())) == 3 * objects


@pytest.fixture
def coco_folder(tmp_path):
    """A dataset with the categories 7 and 90, listed in the opposite order."""
    (tmp_path / "data/annotations").mkdir(parents=True)
    box = {"id": 5, "image_id": 41, "category_id": 90, "iscrowd": 0, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}
    content = {
        "images": [{"id": 41, "file_name": "x.png", "width": 8, "height": 6}],
        "annotations": [box],
        "categories": [{"id": 90, "name": "cup"}, {"id": 7, "name": "fork"}],
    }
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir()
        Image.new("RGB", (8, 6)).save(tmp_path / "data" / split / "x.png")
        (tmp_path / f"data/annotations/{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path / "data"


def test_coco_results_have_the_category_ids_of_the_annotation_file(call, tmp_path, coco_folder):
    (tmp_path / "model.onnx").touch()
    data = DataConfig(dataset="coco", root=str(coco_folder))
    options = ["--dataset", "coco", "--data", data.root, "--limit", 1, "--coco-results", tmp_path / "results.json"]
    assert call(tmp_path / "model.onnx", *options, data=data)[0] == 0
    (entry,) = json.loads((tmp_path / "results.json").read_text())
    assert (entry["image_id"], entry["category_id"]) == (41, 90)
    assert mask_tools.toBbox(entry["segmentation"]).tolist() == [1, 1, 4, 3]
    # With a box, COCO's own tools would take its area for that of the mask.
    results = COCO(str(coco_folder / "annotations/val.json")).loadRes(str(tmp_path / "results.json"))
    assert results.anns[1]["area"] == mask_tools.area(entry["segmentation"])
    options += ["--out", tmp_path / "scores.json", "--class", "90"]
    assert call(tmp_path / "model.onnx", *options, data=data)[0] == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["classes"], scores["category_ids"]) == (["cup"], {"fork": 7, "cup": 90})


def test_a_model_stores_the_category_ids_of_its_dataset(coco_folder):
    settings = custom().changed(root=str(coco_folder))
    dataset = load_dataset(settings.data, "train")
    assert category_ids(dataset) == category_ids(Subset(dataset, 1)) == (0, 7, 90)
    model = fitted(settings, dataset).model
    assert (model.class_names, model.category_ids) == (("background", "fork", "cup"), (0, 7, 90))
    assert category_ids(load_dataset(SCENES, "val")) == ()
    for wrong in ((0, 7), (0, 7, 7), (0, 7, "90")):
        with pytest.raises(InputError, match=r"category_ids must be (empty or 3 integers|a list of integers)"):
            ModelConfig(num_classes=3, category_ids=wrong)


def test_an_annotation_file_is_scored_whole_and_its_ids_are_kept(call, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "photos/x.png")
    box = {"id": 5, "image_id": 41, "category_id": 0, "iscrowd": 0, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}
    content = {
        "images": [{"id": 41, "file_name": "x.png", "width": 8, "height": 6}],
        "annotations": [box, {**box, "id": 6, "segmentation": [[9, 9, 12, 9, 12, 12]]}],
        "categories": [{"id": 0, "name": "cup"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(content), encoding="utf-8-sig")
    (tmp_path / "model.onnx").touch()
    files = {"annotations": str(tmp_path / "c.json"), "images": str(tmp_path / "photos")}
    options = [word for name, value in files.items() for word in (f"--{name}", value)]
    code, out, err, _ = call(
        *(tmp_path / "model.onnx", *options, "--coco-results", tmp_path / "results.json"),
        data=DataConfig(dataset="coco", **files),
        split="all",
    )
    assert (code, err) == (0, "")
    assert out.startswith("all: 1 annotations without a pixel are left out")
    (entry,) = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert (entry["image_id"], entry["category_id"]) == (41, 0)


def test_a_class_that_groups_others_may_have_no_object_in_the_scored_file(call, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "photos/x.png")
    car = {"id": 5, "image_id": 41, "category_id": 2, "iscrowd": 0, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}
    vehicle = {**car, "id": 6, "category_id": 1, "segmentation": [[5, 1, 7, 1, 7, 4, 5, 4]]}
    content = {
        "images": [{"id": 41, "file_name": "x.png", "width": 8, "height": 6}],
        "categories": [
            {"id": 0, "name": "road", "supercategory": "none"},
            {"id": 1, "name": "vehicle", "supercategory": "road"},
            {"id": 2, "name": "car", "supercategory": "vehicle"},
        ],
    }
    for name, annotations in (("train", [car, vehicle]), ("other", [car])):
        (tmp_path / f"{name}.json").write_text(json.dumps({**content, "annotations": annotations}), encoding="utf-8")
    (tmp_path / "model.onnx").touch()
    files = {name: {"annotations": str(tmp_path / f"{name}.json"), "images": str(tmp_path / "photos")}
             for name in ("train", "other")}  # fmt: skip
    options = [word for name, value in files["other"].items() for word in (f"--{name}", value)]
    training = DataConfig(dataset="coco", **files["train"])
    assert load_dataset(training, "all").class_names == ("background", "vehicle", "car")
    options += ["--out", tmp_path / "scores.json"]
    code, out, err, _ = call(tmp_path / "model.onnx", *options, data=training, split="all")
    assert (code, err) == (0, "")
    assert "no object has them: road\n" in out
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert scores["category_ids"] == {"vehicle": 1, "car": 2}


def test_the_submission_of_leaves_equals_the_truth_for_perfect_predictions(call, tmp_path):
    folder = tmp_path / "CVPPP/training/A1"
    folder.mkdir(parents=True)
    for plant in range(1, 5):
        labels = np.zeros((12, 10), np.uint8)
        labels[:plant, :4], labels[8:, 5:] = 1, 2
        image = np.dstack([labels * 40 + plant] * 3)
        Image.fromarray(image).save(folder / f"plant{plant:03d}_rgb.png")
        Image.fromarray(labels).save(folder / f"plant{plant:03d}_label.png")
    (tmp_path / "model.onnx").touch()
    data = DataConfig(dataset="cvppp", root=str(tmp_path / "CVPPP"))
    code, _, err, _ = call(
        *(tmp_path / "model.onnx", "--dataset", "cvppp", "--data", data.root, "--leaves-submission", tmp_path / "sent"),
        data=data,
    )
    assert (code, err) == (0, "")
    written = [path.relative_to(tmp_path / "sent").as_posix() for path in sorted((tmp_path / "sent").rglob("*.png"))]
    assert written == ["A1/plant004_label.png"]
    sent = np.asarray(Image.open(tmp_path / "sent" / written[0]))
    assert np.array_equal(sent, np.asarray(Image.open(folder / "plant004_label.png")))


def test_cityscapes_results(call, run_folder, tmp_path):
    for kind, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_instanceIds")):
        folder = tmp_path / "city" / kind / "val" / "ulm"
        folder.mkdir(parents=True)
        ids = np.zeros((16, 32), np.uint16)
        ids[2:8, 3:9], ids[10:12, 20:30] = 24000, 26001
        pixels = ids if kind == "gtFine" else np.dstack([(ids > 0).astype(np.uint8) * 200] * 3)
        Image.fromarray(pixels).save(folder / f"ulm_000000_000019_{ending}.png")
    (tmp_path / "model.onnx").touch()
    data = DataConfig(dataset="cityscapes", root=str(tmp_path / "city"))
    code, _, err, _ = call(
        *(tmp_path / "model.onnx", "--dataset", "cityscapes", "--data", data.root),
        *("--cityscapes-results", tmp_path / "sent"),
        data=data,
    )
    assert (code, err) == (0, "")
    lines = (tmp_path / "sent/ulm_000000_000019.txt").read_text().splitlines()
    assert sorted(line.split()[1] for line in lines) == ["24", "26"]
    areas = [np.count_nonzero(np.asarray(Image.open(tmp_path / "sent" / line.split()[0]))) for line in lines]
    assert sorted(areas) == [20, 36]
    code, _, err, _ = call(run_folder, "--cityscapes-results", tmp_path / "other", data=SCENES)
    assert code == 2
    assert re.fullmatch(r"error: expected Cityscapes' classes.* Received: circle, square, triangle\n", err)


@pytest.mark.parametrize(
    ("options", "received"),
    [
        (["--coco-results", "{tmp}/no/results.json"], "no/results.json"),
        (["--out", "{tmp}/no/scores.json"], "no/scores.json"),
        (["--limit", "0"], "0"),
        (["--overlays", "{tmp}/found", "--overlays-count", "0"], "0"),
        (["--overlays", "{tmp}/run/best.keras"], "best.keras"),
        (["--split", "dev"], "invalid choice: 'dev'"),
    ],
)
def test_wrong_options_are_one_line(call, run_folder, tmp_path, options, received):
    code, _, err, _ = call(run_folder, *(option.format(tmp=tmp_path) for option in options), data=SCENES)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert received in err
    assert not (run_folder / "metrics.json").exists()


def test_an_interrupted_evaluation_leaves_no_result_file(call, run_folder, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("rsis_tf.evaluation.scoring.evaluate", stop)
    code, _, err, _ = call(run_folder, "--coco-results", tmp_path / "results.json", data=SCENES)
    assert (code, err) == (130, "interrupted\n")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_options_reach_the_predictor(call, run_folder):
    options = "--provider TensorrtExecutionProvider --threads 3 --mask-threshold 0.25 --batch-size 2 --no-verify"
    code, _, _, opened = call(run_folder, *options.split(), "--limit", 1, data=SCENES)
    assert code == 0
    assert opened[0][1] == {
        "providers": ["tensorrt", "cuda"],
        "threads": 3,
        "stop_mode": "first",
        "stop_threshold": None,
        "mask_threshold": 0.25,
        "batch_size": 2,
        "steps": None,
        "tile": None,
        "tile_overlap": None,
        "flips": False,
        "verify": False,
    }


def test_only_the_given_classes_are_scored(call, run_folder, tmp_path):
    dataset = load_dataset(SCENES, "val")
    counts = np.bincount(np.concatenate([dataset[index].classes for index in range(4)]), minlength=4)
    assert min(counts[1:3]) > 0
    results = tmp_path / "results.json"
    for asked, name in (("circle", "circle"), ("2", "square")):
        code, _, _, _ = call(
            *(run_folder, "--class", asked, "--out", tmp_path / "scores.json", "--coco-results", results), data=SCENES
        )
        assert code == 0
        kept = json.loads((tmp_path / "scores.json").read_text())
        expected = counts[dataset.class_names.index(name)]
        assert (kept["classes"], kept["objects"], kept["predictions"]) == ([name], expected, expected)
        assert (kept["ap"], kept["abs_dic"], list(kept["per_class"])) == (1, 0, [name])
        assert len(json.loads(results.read_text())) == expected
    both = call(run_folder, "--class", "circle", "--class", "square", data=SCENES)[1]
    assert f"4 images, {counts[1] + counts[2]} objects" in both
    assert not (run_folder / "metrics.json").exists()
    code, _, err, _ = call(run_folder, "--class", "cat", data=SCENES)
    assert (code, err) == (
        2,
        "error: expected --class to be one of circle (1), square (2), triangle (3). Received: cat\n",
    )


def test_an_error_of_the_predictor_is_one_line(call, run_folder, tmp_path, monkeypatch):
    def fail(self, image):
        raise InputError("expected ONNX Runtime to run the model. Received: out of memory")

    monkeypatch.setattr(Knowing, "__call__", fail)
    code, _, err, _ = call(run_folder, "--coco-results", tmp_path / "results.json", data=SCENES)
    assert (code, err) == (2, "error: expected ONNX Runtime to run the model. Received: out of memory\n")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_generated_images_for_a_model_without_a_run_are_those_of_the_preset(tmp_path):
    parser = new_parser("evaluate", "", "")
    add_model_and_data(parser)
    for name in ("leaves", "shapes"):
        data = data_config(parser.parse_args([str(tmp_path / "model.onnx"), "--dataset", name]))
        usual = PRESETS[name]().data
        assert (data.dataset, data.image_size, data.max_objects) == (name, usual.image_size, usual.max_objects)
    stored = parser.parse_args([str(tmp_path / "model.onnx"), "--dataset", "synthetic"])
    assert data_config(stored).dataset == "shapes"
