import warnings

import numpy as np
import pytest
from coco_reference import official, ours
from evaluation_fakes import make_instance, make_sample, perfect

from rsis_tf.errors import InputError
from rsis_tf.evaluation.metrics.average_precision import AveragePrecision


@pytest.mark.parametrize(("every_class", "min_share"), [(False, 0.0), (True, 0.0), (True, 0.1)])
def test_equals_pycocotools(random_dataset, every_class, min_share):
    dataset, predictions = random_dataset
    precision = official(dataset, predictions, every_class=every_class, min_share=min_share)["precision"][..., 0, -1]
    scores = ours(dataset, predictions, every_class=every_class, min_share=min_share).summarize()
    assert 0.1 < scores.mean["ap"] < 0.9  # neither trivial value
    assert scores.mean["ap"] == pytest.approx(precision.mean(), abs=1e-12)
    for name, row in {"ap50": 0, "ap60": 2, "ap70": 4, "ap75": 5, "ap80": 6}.items():
        assert scores.mean[name] == pytest.approx(precision[row].mean(), abs=1e-12)
        for k, class_name in enumerate(dataset.class_names[1:]):
            assert scores.per_class[class_name][name] == pytest.approx(precision[row, :, k].mean(), abs=1e-12)


@pytest.mark.parametrize("every_class", [False, True])
def test_recall_equals_pycocotools_without_categories(random_dataset, every_class):
    dataset, predictions = random_dataset
    recall = official(dataset, predictions, every_class=every_class, agnostic=True)["recall"][:, 0, 0, :]
    scores = ours(dataset, predictions, every_class=every_class).summarize()
    expected = {
        f"{n}@{m}": recall[t, j] for j, m in enumerate((10, 50)) for t, n in enumerate(("ar50", "ar70", "ar85"))
    }
    assert scores.recall == pytest.approx(expected, abs=1e-12)


def test_average_precision_takes_at_least_the_best_100_of_a_class():
    """With 100 wrong masks before the right one, COCO's limit excludes it and a larger number of proposals does not."""
    truth = np.zeros((12, 12), np.int32)
    truth[:6] = 1
    wrong = [np.arange(144).reshape(12, 12) == 143 - i % 60 for i in range(100)]
    found = [make_instance(mask, objectness=0.9, step=i) for i, mask in enumerate(wrong)]
    found.append(make_instance(truth == 1, objectness=0.5, step=100))
    for proposals, ap50 in (((10, 50), 0.0), ((1, 100), 0.0), ((10, 101), 1 / 101)):
        scores = AveragePrecision(("background", "a", "b", "c"), proposals=proposals)
        scores.add("x", found, truth, [1])
        summary = scores.summarize()
        assert summary.mean["ap50"] == pytest.approx(ap50)
        assert summary.recall[f"ar50@{proposals[-1]}"] == (1 if proposals[-1] > 100 else 0)


def test_crowds_equal_pycocotools(random_dataset):
    dataset, predictions = random_dataset
    rng = np.random.default_rng(1)
    crowd = {s.image_id: rng.random(len(s.classes)) < 0.3 for s in dataset.samples}
    precision = official(dataset, predictions, crowd=crowd)["precision"][..., 0, -1]
    scores = ours(dataset, predictions, crowd=crowd).summarize()
    assert scores.mean["ap"] == pytest.approx(precision.mean(), abs=1e-12)
    assert scores.mean["ap"] != pytest.approx(ours(dataset, predictions).summarize().mean["ap"], abs=1e-3)


def test_the_order_of_the_images_does_not_matter(random_dataset):
    dataset, predictions = random_dataset
    forward, backward = ours(dataset, predictions), ours(dataset, predictions, slice(None, None, -1))
    assert forward.summarize() == backward.summarize()


def test_perfect_predictions_score_one_and_nothing_is_printed(random_dataset, capsys):
    dataset, _ = random_dataset
    predictions = {s.image_id: perfect(s) for s in dataset.samples}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = ours(dataset, predictions).summarize()
    assert [*scores.mean.values(), *scores.recall.values()] == pytest.approx([1.0] * 12)
    for values in scores.per_class.values():
        assert values["objects"] > 0
        assert values["ap"] == pytest.approx(1.0)
    assert capsys.readouterr() == ("", "")


def test_scores_are_zero_without_predictions_and_nan_without_objects(random_dataset):
    dataset, predictions = random_dataset
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = ours(dataset, {s.image_id: [] for s in dataset.samples}).summarize()
        assert {*nothing.mean.values(), *nothing.recall.values()} == {0.0}
        empty = AveragePrecision(dataset.class_names)
        for name, found in predictions.items():
            empty.add(name, found, np.zeros((40, 48), np.int32), np.zeros(0, np.int32))
        assert all(np.isnan([*empty.summarize().mean.values(), *empty.summarize().recall.values()]))


def test_predictions_on_an_image_without_objects_count_as_wrong():
    box = np.zeros((8, 8), np.int32)
    box[2:6, 2:6] = 1
    precision = AveragePrecision(("background", "a"))
    precision.add("with", [make_instance(box == 1, objectness=0.5, num_classes=2)], box, [1])
    assert precision.summarize().mean["ap50"] == pytest.approx(1.0)
    precision.add("without", [make_instance(box == 1, objectness=0.9, num_classes=2)], box * 0, [])
    assert precision.summarize().mean["ap50"] == pytest.approx(0.5)  # the wrong prediction has the higher score


def test_void_is_removed_from_predictions_or_counts_as_background():
    truth = np.zeros((8, 8), np.int32)
    truth[:, :4], truth[:, 4:] = 1, -1
    everything = [make_instance(np.ones((8, 8)), objectness=0.5, num_classes=2)]
    only_void = [make_instance(truth == -1, num_classes=2)]
    for remove_void, expected in ((True, 1.0), (False, 0.0)):
        precision = AveragePrecision(("background", "a"), remove_void=remove_void)
        precision.add(0, everything + only_void, truth, [1])
        assert precision.summarize().mean["ap75"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": "first"}, "'first' again"),
        ({"classes": [1]}, "Received: 0 … 2"),
        ({"classes": [1, 4]}, r"Received: \[4\]"),
        ({"instances": [make_instance(np.ones((8, 8)), 3, num_classes=9)]}, r"Received: \[3\]"),
        ({"instances": [make_instance(np.ones((8, 9)), 1)]}, r"\(8, 9\)"),
        ({"truth": np.zeros((8, 8))}, "float64"),
    ],
)
def test_wrong_inputs_are_refused(change, message):
    sample = make_sample(np.pad([[1, 2]], ((0, 7), (0, 6))), [1, 2])
    call = {"image_id": "second", "instances": perfect(sample), "truth": sample.label_map, "classes": sample.classes}
    precision = AveragePrecision(("background", "a", "b"))
    precision.add(**(call | {"image_id": "first"}))
    with pytest.raises(InputError, match=message):
        precision.add(**(call | change))
