import copy
import dataclasses
import itertools
import json
import pickle
import warnings

import numpy as np
import pytest
from coco_reference import official, ours
from evaluation_fakes import ListDataset, Oracle, make_instance, make_sample, perfect

from rsis_tf.errors import InputError
from rsis_tf.evaluation.benchmarks.coco_results import ResultsFile
from rsis_tf.evaluation.metrics.bootstrap import draws, mean_interval, precision_intervals, ratio_intervals
from rsis_tf.evaluation.metrics.table import SCORES, Score
from rsis_tf.evaluation.predictions import only_classes, predict_dataset
from rsis_tf.evaluation.protocols import PROTOCOLS
from rsis_tf.evaluation.scoring import evaluate, image_scores, table

FRACTIONS = ("ap", "ap50", "ap75", "sbd", "foreground_dice")


def test_scores_equal_those_of_each_metric(random_dataset):
    dataset, predictions = random_dataset
    scores = evaluate(Oracle(dataset, lambda s: predictions[s.image_id]), dataset, resamples=50)
    assert scores.ap == ours(dataset, predictions).summarize().mean["ap"]
    per_image = [image_scores(predictions[s.image_id], s.label_map) for s in dataset.samples]
    assert scores.sbd == pytest.approx(np.mean([p["sbd"] for p in per_image]))
    assert scores.abs_dic == pytest.approx(np.mean([abs(p["dic"]) for p in per_image]))
    assert (scores.images, scores.objects) == (40, sum(len(s.classes) for s in dataset.samples))
    assert scores.predictions == sum(map(len, predictions.values()))
    assert scores.seconds_per_image > 0
    for name, (low, high) in scores.intervals.items():
        assert low <= scores.values[name] <= high, name
        assert low < high, name


def test_perfect_and_empty_predictions(random_dataset):
    dataset, _ = random_dataset
    dataset = ListDataset([s for s in dataset.samples if (s.label_map > 0).any()], dataset.class_names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        best = evaluate(Oracle(dataset, perfect), dataset, resamples=20)
        worst = evaluate(Oracle(dataset, lambda s: []), dataset, resamples=20)
    assert [getattr(best, name) for name in FRACTIONS] == pytest.approx([1] * 5)
    assert best.abs_dic == best.dic == 0
    assert [getattr(worst, name) for name in FRACTIONS] == [0] * 5
    assert worst.dic == -worst.abs_dic < 0


def test_images_without_objects():
    dataset = ListDataset([make_sample(np.zeros((8, 8)), [], "a")], ("background", "disc", "box", "star"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = evaluate(Oracle(dataset, lambda s: [make_instance(np.eye(8))]), dataset, resamples=20)
    assert np.isnan(scores.ap)
    assert (scores.sbd, scores.abs_dic, scores.foreground_dice) == (0, 1, 0)
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["ap"] is None
    assert "–" in table(scores)


def test_void_is_background_in_the_image_scores():
    truth = np.array([[1, 1, -1, -1], [0, 0, -1, -1]])
    instances = [make_instance(truth != 0), make_instance(truth == -1)]
    assert image_scores(instances, truth) == {"sbd": 1, "abs_dic": 0, "dic": 0, "foreground_dice": 1}


def test_scores_are_reproducible_and_progress_and_sinks_receive_every_image(random_dataset):
    dataset, predictions = random_dataset
    oracle = Oracle(dataset, lambda s: predictions[s.image_id])
    done, seen = [], []
    runs = [
        evaluate(
            oracle,
            dataset,
            resamples=30,
            progress=lambda *counts: done.append(counts),
            sinks=[lambda sample, instances: seen.append((sample.image_id, len(instances)))],
        ).to_dict()
        for _ in range(2)
    ]
    for run in runs:
        run.pop("seconds_per_image")
    assert runs[0] == runs[1]
    assert done[:40] == [(i + 1, 40) for i in range(40)]
    assert seen[:40] == [(name, len(found)) for name, found in predictions.items()]


def test_an_empty_dataset_and_other_classes_are_refused(random_dataset):
    dataset, _ = random_dataset
    with pytest.raises(InputError, match="empty"):
        evaluate(Oracle(dataset, perfect), ListDataset([], dataset.class_names))
    predictor = Oracle(dataset, perfect)
    predictor.class_names = ("background", "cat")
    with pytest.raises(InputError, match=r"Received: \('background', 'disc'"):
        evaluate(predictor, dataset)


def test_the_table_and_the_layout_of_metrics_json(random_dataset):
    dataset, predictions = random_dataset
    scores = evaluate(Oracle(dataset, lambda s: predictions[s.image_id]), dataset, resamples=20)
    text = table(scores)
    for part in ("40 images", f"{scores.ap50:.3f}", f"{scores.sbd:.3f}", "disc", "AR50@10"):
        assert part in text
    read = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert list(read) == [
        *("ap", "ap50", "ap75", "sbd", "abs_dic", "dic", "foreground_dice"),
        *("images", "objects", "predictions", "seconds_per_image"),
        *("at", "recall", "per_class", "intervals"),
    ]
    assert list(read["at"]) == ["ap50", "ap60", "ap70", "ap75", "ap80"]
    assert {**read, **read["at"], **read["recall"]}.items() >= scores.values.items()
    assert list(read["intervals"]) == list(scores.values)
    assert [scores.ap50, scores.sbd] == [read["ap50"], read["sbd"]]
    assert pickle.loads(pickle.dumps(scores)) == copy.copy(scores) == scores
    with pytest.raises(AttributeError, match="ap51"):
        scores.ap51  # noqa: B018


def test_resampled_precision_equals_that_of_the_resampled_dataset(random_dataset):
    """Compares each draw with pycocotools on a dataset that contains images as often as they were drawn."""
    dataset, predictions = random_dataset
    rng = np.random.default_rng(0)
    predictions = {  # no equal scores in one image: copies of it could be ranked either way
        name: [dataclasses.replace(i, score=i.score + 0.01 * rng.random()) for i in found]
        for name, found in predictions.items()
    }
    classes = ours(dataset, predictions).detections()
    for weights in draws(40, resamples=3, seed=5):
        repeated, found = [], {}
        for sample, count in zip(dataset.samples, weights, strict=True):
            for i in range(count):
                name = f"{sample.image_id}.{i}"
                repeated.append(make_sample(sample.label_map, sample.classes, name))
                found[name] = predictions[sample.image_id]
        precision = official(ListDataset(repeated, dataset.class_names), found)["precision"][..., 0, -1]
        drawn = np.array([c.average_precision(weights, range(10)) for c in classes])
        np.testing.assert_allclose(drawn.T, precision.mean(axis=1), atol=1e-12)


def test_intervals_have_the_width_of_the_standard_error():
    rng = np.random.default_rng(0)
    few, many = (mean_interval(rng.normal(5, 1, n), seed=1) for n in (20, 2000))
    assert few[1] - few[0] == pytest.approx(2 * 1.96 / 20**0.5, rel=0.35)
    assert many[1] - many[0] == pytest.approx(2 * 1.96 / 2000**0.5, rel=0.15)
    assert mean_interval([3.0]) == (3.0, 3.0)
    assert mean_interval([1.0, np.nan, 1.0]) == (1.0, 1.0)
    assert np.isnan(mean_interval([np.nan])).all()
    assert ratio_intervals(np.array([[1], [3]]), np.array([2, 6])) == [(0.5, 0.5)]


def test_the_interval_of_a_perfect_precision_has_no_width(random_dataset):
    dataset, _ = random_dataset
    classes = ours(dataset, {s.image_id: perfect(s) for s in dataset.samples}).detections()
    assert np.array(precision_intervals(classes, [[0], range(10)], resamples=20)) == pytest.approx(1.0)


class Batches:
    """An oracle that takes several images at a time and records the largest number that it held."""

    def __init__(self, oracle, size):
        self.class_names, self._oracle, self._size, self.most = oracle.class_names, oracle, size, 0

    def __call__(self, image):
        raise AssertionError("stream should be used")

    def stream(self, images):
        images = iter(images)
        while batch := list(itertools.islice(images, self._size)):
            self.most = max(self.most, len(batch))
            yield from map(self._oracle, batch)


def test_batches_and_single_images_give_the_same_scores(random_dataset):
    dataset, predictions = random_dataset
    oracle = Oracle(dataset, lambda s: predictions[s.image_id])
    alone = evaluate(oracle, dataset, resamples=20)
    for size in (7, 64):
        predictor = Batches(oracle, size)
        shown = []
        scores = evaluate(predictor, dataset, resamples=20, sinks=[lambda sample, _: shown.append(sample.image_id)])  # noqa: B023
        assert predictor.most == min(size, 40)
        assert dataclasses.replace(scores, seconds_per_image=alone.seconds_per_image) == alone
        assert shown == [sample.image_id for sample in dataset.samples]


def test_the_time_per_image_excludes_reading_and_sinks(random_dataset, monkeypatch):
    dataset, _ = random_dataset
    now = [0.0]
    monkeypatch.setattr("rsis_tf.evaluation.predictions.time.perf_counter", lambda: now[0])

    def take(seconds, result=None):
        now[0] += seconds
        return result

    class Slow:
        class_names = dataset.class_names

        def __len__(self):
            return 8

        def __getitem__(self, index):
            return take(100, dataset.samples[index])

    predictor = Batches(Oracle(dataset, lambda s: []), 4)
    predictor.stream = lambda images: (take(3, found) for found in Batches.stream(predictor, images))
    assert predict_dataset(predictor, Slow(), [lambda sample, instances: take(1000)]) == 8 * 3
    alone = Oracle(dataset, lambda s: [])
    monkeypatch.setattr(Oracle, "__call__", lambda self, image: take(5, []))
    assert predict_dataset(alone, Slow(), [lambda sample, instances: take(1000)]) == 8 * 5


def test_only_classes_removes_all_other_classes():
    labels = np.array([[0, 1, 1], [2, 3, -1]], np.int32)
    sample = dataclasses.replace(make_sample(labels, [1, 2, 1]), image_id="x")
    instances = [make_instance(labels == k, class_id=c) for k, c in ((1, 1), (2, 2), (3, 1))]
    shown, kept = only_classes(sample, instances, frozenset({1}))
    assert shown.label_map.tolist() == [[0, 1, 1], [0, 2, -1]]
    assert shown.classes.tolist() == [1, 1]
    assert [instance.class_id for instance in kept] == [1, 1]


def test_a_class_has_the_precision_it_has_among_all_classes_where_masks_count_for_each(random_dataset, tmp_path):
    dataset, predictions = random_dataset
    predictor = Oracle(dataset, lambda s: predictions[s.image_id])
    protocol = PROTOCOLS["paper-voc"]
    everything = evaluate(predictor, dataset, protocol=protocol, resamples=5)
    for number, name in enumerate(dataset.class_names[1:], start=1):
        alone = evaluate(predictor, dataset, protocol=protocol, classes=frozenset({number}), resamples=5)
        assert alone.per_class == {name: everything.per_class[name]}
        assert alone.ap50 == everything.per_class[name]["ap50"]
        # Image scores have one class per mask.
        best = sum(i.class_id == number for found in predictions.values() for i in found)
        assert alone.predictions == best
    with ResultsFile(tmp_path / "results.json", every_class=True, classes=frozenset({2})) as results:
        evaluate(predictor, dataset, protocol=protocol, classes=frozenset({2}), sinks=[results], resamples=5)
    written = json.loads((tmp_path / "results.json").read_text())
    assert {entry["category_id"] for entry in written} == {2}
    assert len(written) == sum(map(len, predictions.values()))


def test_objects_that_cover_the_whole_image_are_no_background():
    whole, half = np.ones((4, 6), np.int32), np.zeros((4, 6), np.int32)
    half[:, :3] = 1
    found = [make_instance(whole)]
    perfect_scores = {"sbd": 1, "abs_dic": 0, "dic": 0, "foreground_dice": 1}
    assert image_scores(found, whole) == perfect_scores
    assert image_scores(found, half) == pytest.approx({"sbd": 2 / 3, "abs_dic": 0, "dic": 0, "foreground_dice": 2 / 3})
    assert image_scores(found, 0 * whole)["dic"] == 1
    two = half + 1  # two objects and nothing else
    assert image_scores([make_instance(two == k, step=k) for k in (1, 2)], two) == perfect_scores


def test_images_without_annotations_have_no_scores():
    void = make_sample(np.full((8, 8), -1), [], "a")
    dataset = ListDataset([void, void], ("background", "disc", "box", "star"))
    dataset.samples[1] = make_sample(np.full((8, 8), -1), [], "b")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = evaluate(Oracle(dataset, lambda s: [make_instance(np.eye(8))]), dataset, resamples=20)
    for name in ("sbd", "abs_dic", "dic", "foreground_dice"):
        assert np.isnan(getattr(scores, name))
        assert np.isnan(scores.intervals[name]).all()
    assert scores.predictions == 2


def test_a_new_row_of_the_table_is_reported(random_dataset, monkeypatch):
    """A score of single images needs no more than a function and a row."""
    row = Score(
        name="covered",
        title="covered",
        description="share of the image that predictions cover",
        function=lambda prediction, truth: (prediction > 0).mean(),
    )
    monkeypatch.setitem(SCORES, "covered", row)
    dataset, predictions = random_dataset
    scores = evaluate(Oracle(dataset, lambda s: predictions[s.image_id]), dataset, resamples=20)
    shares = [
        np.logical_or.reduce([i.mask for i in predictions[s.image_id]] + [np.zeros(s.label_map.shape, bool)])
        & (s.label_map >= 0)
        for s in dataset.samples
    ]
    assert scores.covered == pytest.approx(np.mean(shares))
    assert scores.to_dict()["covered"] == scores.covered
    low, high = scores.intervals["covered"]
    assert low < scores.covered < high
    assert f"covered            {scores.covered:.3f}" in table(scores)
