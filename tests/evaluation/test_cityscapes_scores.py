import json
import os
import warnings

import numpy as np
import pytest
from cityscapes_reference import official
from evaluation_fakes import ListDataset, make_instance, make_sample
from PIL import Image

from rsis_tf.cli.cityscapes import main
from rsis_tf.errors import InputError
from rsis_tf.evaluation.benchmarks.cityscapes import distances, evaluate_cityscapes, evaluate_files, table
from rsis_tf.evaluation.benchmarks.cityscapes_files import LABEL_IDS, ResultFiles
from rsis_tf.evaluation.metrics.cityscapes_curves import ap_matrix, average_precisions, curve_points

pytest.importorskip("cityscapesscripts")
CLASSES = ("background", *LABEL_IDS)
SIZE = (96, 128)


def write_truth(root, stem, ids, rng):
    """Writes an annotation, a disparity and a camera in the layout of the dataset."""
    city = stem.split("_")[0]
    disparity = rng.integers(5000, 30000, SIZE).astype(np.uint16)
    disparity[:, :30] //= 20  # about 140 m away on the left, then 55 m, then 7 m
    disparity[:, 30:60] //= 8
    disparity[rng.random(SIZE) < 0.3] = 0
    disparity[:, -30:] = 0
    for kind, name, image in (
        ("gtFine", "gtFine_instanceIds", ids.astype(np.uint16)),
        ("disparity", "disparity", disparity),
    ):
        folder = root / kind / "val" / city
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{stem}_{name}.png")
    folder = root / "camera" / "val" / city
    folder.mkdir(parents=True, exist_ok=True)
    camera = {"intrinsic": {"fx": 2262.52}, "extrinsic": {"baseline": 0.209313}}
    (folder / f"{stem}_camera.json").write_text(json.dumps(camera))
    return root / "gtFine" / "val" / city / f"{stem}_gtFine_instanceIds.png"


def scene(rng):
    """Returns ids with objects of two classes, a group, void, and objects too small to count."""
    ids = np.full(SIZE, 7)
    ids[:8] = 0
    for number in range(int(rng.integers(2, 7))):
        y, x = rng.integers(0, 70), rng.integers(0, 100)
        height, width = rng.integers(6, 40, 2)
        ids[y : y + height, x : x + width] = (24 if rng.random() < 0.4 else 26) * 1000 + number
    ids[60:90, 5:30] = 26  # a group of cars
    return ids


def predictions(rng, ids):
    found = []
    for number in [n for n in np.unique(ids) if n >= 1000]:
        for _ in range(int(rng.integers(0, 3))):  # some objects twice
            mask = np.roll(ids == number, rng.integers(-2, 3, 2), (0, 1))
            class_id = list(LABEL_IDS.values()).index(number // 1000) + 1
            found.append((mask, class_id))
    for _ in range(3):
        mask = np.zeros(SIZE, bool)
        y, x = rng.integers(0, 80, 2)
        mask[y : y + 20, x : x + 20] = True
        found.append((mask, int(rng.integers(1, 5))))
    found.append((ids == 26, 3))
    return [
        make_instance(m, c, float(rng.integers(1, 9)) / 8, 0.7, step=s, num_classes=9) for s, (m, c) in enumerate(found)
    ]


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(4)
    truths = []
    writer = ResultFiles(tmp_path / "results", CLASSES)
    for i in range(8):
        stem = f"{'aachen' if i < 4 else 'bonn'}_{i:06d}_000019"
        ids = scene(rng)
        truths.append(write_truth(tmp_path, stem, ids, rng))
        writer(make_sample(np.zeros(SIZE), [], stem), predictions(rng, ids))
    return tmp_path, truths


def test_equals_the_official_command(files):
    root, truths = files
    scores = evaluate_files(root / "results", truths, resamples=20)
    expected = official(root)
    assert 0.05 < scores.mean["ap"] < 0.8
    assert scores.mean["ap"] == pytest.approx(expected["allAp"], abs=1e-12)
    assert scores.mean["ap50"] == pytest.approx(expected["allAp50%"], abs=1e-12)
    assert (scores.mean["ap50m"], scores.intervals["ap100m"]) == (None, None)
    for name, values in expected["classes"].items():
        assert scores.per_class[name]["ap"] == pytest.approx(values["ap"], abs=1e-12, nan_ok=True)
        assert scores.per_class[name]["ap50"] == pytest.approx(values["ap50%"], abs=1e-12, nan_ok=True)
    low, high = scores.intervals["ap"]
    assert low < scores.mean["ap"] < high


def test_distances_equal_the_official_command_given_the_same_distances(files):
    root, truths = files
    scores = evaluate_files(root / "results", truths, with_distances=True, cache=root / "cache.json", resamples=20)
    stored = json.loads((root / "cache.json").read_text())
    (root / "truth.json").write_text(json.dumps({name: entry["instances"] for name, entry in stored.items()}))
    expected = official(root, with_distances=True)
    for key, theirs in {"ap": "allAp", "ap50": "allAp50%", "ap100m": "allAp100m", "ap50m": "allAp50m"}.items():
        assert scores.mean[key] == pytest.approx(expected[theirs], abs=1e-12)
    assert len({scores.mean[key] for key in ("ap", "ap100m", "ap50m")}) == 3


def test_curves_equal_the_official_numbers_for_all_images_and_for_a_draw_of_them(files):
    root, truths = files
    from rsis_tf.evaluation.benchmarks import cityscapes

    module = cityscapes._official()
    seen = {}
    original = module.evaluateMatches

    def spy(matches, arguments):
        seen["matches"], seen["arguments"] = matches, arguments
        return original(matches, arguments)

    module.evaluateMatches = spy
    try:
        evaluate_files(root / "results", truths, with_distances=True, resamples=1)
    finally:
        module.evaluateMatches = original
    matches, arguments = seen["matches"], seen["arguments"]
    np.testing.assert_allclose(ap_matrix(matches, arguments), original(matches, arguments), atol=1e-12)
    weights = np.array([2, 0, 1, 0, 3, 1, 0, 1])
    drawn = {f"{name}.{i}": match for (name, match), w in zip(matches.items(), weights, strict=True) for i in range(w)}
    expected = original(drawn, arguments)
    for k, label in enumerate(arguments.instLabels):
        ours = average_precisions(curve_points(matches, arguments, label, 0, 2), weights[None])
        np.testing.assert_allclose(ours[0], expected[0, k, 2], atol=1e-12)


def test_perfect_and_empty_results_give_one_and_zero_without_a_warning(tmp_path):
    rng = np.random.default_rng(0)
    ids = np.full(SIZE, 7)
    ids[10:50, 10:60], ids[60:90, 50:100] = 24001, 26001
    stem = "ulm_000000_000019"
    truth = write_truth(tmp_path, stem, ids, rng)
    found = [make_instance(ids == 24001, 1, num_classes=9), make_instance(ids == 26001, 3, num_classes=9)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, instances, expected in (("best", found, 1.0), ("none", [], 0.0)):
            ResultFiles(tmp_path / name, CLASSES)(make_sample(ids * 0, [], stem), instances)
            scores = evaluate_files(tmp_path / name, [truth], resamples=5)
            assert (scores.mean["ap"], scores.mean["ap50"]) == (expected, expected)
            assert np.isnan(scores.per_class["bus"]["ap"])
            assert "–" in table(scores)
            assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["per_class"]["bus"]["ap"] is None


def test_predictions_only_on_ignored_pixels_score_zero_where_the_official_code_fails(tmp_path):
    ids = np.full(SIZE, 7)
    ids[10:50, 10:60], ids[60:90] = 26001, 26
    truth = write_truth(tmp_path, "ulm_000000_000019", ids, np.random.default_rng(0))
    ResultFiles(tmp_path / "results", CLASSES, every_class=False)(
        make_sample(ids * 0, [], "ulm_000000_000019"), [make_instance(ids == 26, 3, num_classes=9)]
    )
    assert evaluate_files(tmp_path / "results", [truth], resamples=5).mean["ap"] == 0


def test_the_distance_is_the_median_over_pixels_with_known_disparity():
    ids = np.array([[1, 1, 1, 2]])
    disparity = np.array([[257, 513, 0, 0]], np.uint16)  # one and two pixels, unknown, unknown
    camera = {"intrinsic": {"fx": 1000}, "extrinsic": {"baseline": 0.2}}
    assert distances(ids, disparity, camera) == {1: (pytest.approx(150.0), pytest.approx(2 / 3)), 2: (-1.0, 0.0)}


def test_the_cache_is_not_used_for_files_that_changed(files):
    root, truths = files
    cache = root / "cache.json"
    first = evaluate_files(root / "results", truths, cache=cache, resamples=2).to_dict()
    assert evaluate_files(root / "results", truths, cache=cache, resamples=2).to_dict() == first
    Image.fromarray(np.full(SIZE, 7, np.uint16)).save(truths[0])
    changed = evaluate_files(root / "results", truths, resamples=2).to_dict()
    assert changed != first
    assert evaluate_files(root / "results", truths, cache=cache, resamples=2).to_dict() == changed
    cache.write_text("{")
    with pytest.raises(InputError, match=r"cache\.json"):
        evaluate_files(root / "results", truths, cache=cache)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {"hidden_size": 16}}'])
def test_a_file_that_is_no_cache_is_refused_before_anything_is_predicted(files, content):
    root, _ = files
    other = root / "config.json"
    other.write_text(content)
    dataset = ListDataset([make_sample(np.zeros(SIZE), [], "bonn_000000_000019")], CLASSES)
    with pytest.raises(InputError, match=r"config\.json"):
        evaluate_cityscapes(None, dataset, root=root, split="val", results=root / "new", cache=other)
    assert other.read_text() == content
    assert not (root / "new").exists()


def test_nothing_is_written_into_the_package_or_the_current_folder(files, monkeypatch, capfd):
    root, truths = files
    from cityscapesscripts import evaluation

    package = os.path.dirname(evaluation.__file__)
    (root / "here").mkdir()
    monkeypatch.chdir(root / "here")
    before = sorted(os.listdir(package))
    evaluate_files(root / "results", truths, resamples=2)
    assert sorted(os.listdir(package)) == before
    assert os.listdir() == []
    assert capfd.readouterr() == ("", "")


def test_missing_and_broken_result_files_are_refused(files):
    root, truths = files
    with pytest.raises(InputError, match="none"):
        evaluate_files(root / "results", [])
    with pytest.raises(InputError, match="nowhere"):
        evaluate_files(root / "nowhere", truths)
    with pytest.raises(InputError, match="dog"):
        ResultFiles(root / "new", ("background", "dog"))
    with pytest.raises(InputError, match="results"):
        ResultFiles(root / "results", CLASSES)
    with pytest.raises(InputError, match="tree"):
        ResultFiles(root / "new", CLASSES)(make_sample(np.zeros(SIZE), [], "tree"), [])
    result = next(iter(sorted((root / "results").glob("*.txt"))))
    result.write_text("masks/a.png 26\n")
    with pytest.raises(InputError, match="Invalid prediction file"):
        evaluate_files(root / "results", truths)
    result.unlink()
    with pytest.raises(InputError, match="Received: 0"):
        evaluate_files(root / "results", truths)


def test_the_command_predicts_writes_and_scores(files, monkeypatch, capsys):
    root, truths = files
    for truth in truths:
        stem = truth.name.removesuffix("_gtFine_instanceIds.png")
        folder = root / "leftImg8bit" / "val" / truth.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(folder / f"{stem}_leftImg8bit.png")

    class Fixed:
        class_names = CLASSES

        def __call__(self, image):
            return [make_instance(np.ones(image.shape[:2]), 3, num_classes=9)]

    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_predictor", lambda path, **options: Fixed())
    main(["model.onnx", "--data", str(root), "--out", str(root / "out"), "--limit", "5"])
    printed = capsys.readouterr().out
    assert "5 images" in printed
    assert json.loads((root / "out" / "cityscapes.json").read_text())["mean"]["ap50m"] is not None
