import json
import warnings

import numpy as np
import pytest
from coco_reference import official
from evaluation_fakes import ListDataset, Oracle, make_instance, make_sample, perfect
from pycocotools import mask as coco_mask

from rsis_tf.cli.voc import main
from rsis_tf.evaluation.benchmarks.coco_results import ResultsFile, records
from rsis_tf.evaluation.benchmarks.voc import evaluate_voc, table


def test_scores_equal_pycocotools_in_the_originals_protocol(random_dataset):
    dataset, predictions = random_dataset
    scores = evaluate_voc(Oracle(dataset, lambda s: predictions[s.image_id]), dataset, resamples=20)
    precision = official(dataset, predictions, every_class=True, min_share=0.001)["precision"][..., 0, -1]
    recall = official(dataset, predictions, every_class=True, min_share=0.001, agnostic=True)["recall"][:, 0, 0]
    for name, row in {"ap50": 0, "ap60": 2, "ap70": 4, "ap80": 6}.items():
        assert scores.mean[name] == pytest.approx(precision[row].mean(), abs=1e-12)
        low, high = scores.intervals[name]
        assert low <= scores.mean[name] <= high
    assert scores.recall["ar70@50"] == pytest.approx(recall[1, 1], abs=1e-12)
    assert scores.recall["ar85@10"] == pytest.approx(recall[2, 0], abs=1e-12)
    assert f"{100 * scores.mean['ap60']:.1f}" in table(scores)
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["images"] == 40


def test_masks_smaller_than_a_thousandth_of_the_image_are_dropped():
    truth = np.zeros((100, 100), np.int32)
    truth[:50] = 1
    small, big = np.zeros((2, 100, 100), bool)
    small[60, :9], big[60, :10] = True, True
    names = ("background", "disc", "box", "star")
    for stray, expected in ((small, 1.0), (big, 0.5)):
        dataset = ListDataset([make_sample(truth, [1])], names)
        found = [make_instance(stray, 1, 1.0), make_instance(truth == 1, 1, 0.9)]
        scores = evaluate_voc(Oracle(dataset, lambda s, found=found: found), dataset, resamples=2)
        assert scores.mean["ap50"] == pytest.approx(expected)


def test_perfect_and_empty_predictions_score_one_and_zero(random_dataset):
    dataset, _ = random_dataset
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        best = evaluate_voc(Oracle(dataset, perfect), dataset, resamples=5)
        worst = evaluate_voc(Oracle(dataset, lambda s: []), dataset, resamples=5)
    assert [*best.mean.values(), best.recall["ar85@50"]] == pytest.approx([1] * 5)
    assert {*worst.mean.values(), *worst.recall.values()} == {0}


def test_the_result_file_is_in_the_format_of_coco(random_dataset, tmp_path):
    dataset, predictions = random_dataset
    with ResultsFile(tmp_path / "results.json") as results:
        for sample in dataset.samples:
            results(sample, predictions[sample.image_id])
            assert not (tmp_path / "results.json").exists()
    read = json.loads((tmp_path / "results.json").read_text())
    assert len(read) == sum(map(len, predictions.values()))
    first = next(iter(found for found in predictions.values() if found))[0]
    code = coco_mask.encode(np.asfortranarray(first.mask.astype(np.uint8)))
    assert coco_mask.iou([read[0]["segmentation"]], [code], [0]).item() == 1
    assert read[0]["score"] == pytest.approx(first.score)
    ids = ("7", 7, "07", "2007_000033")
    assert [next(records(image_id, [first]))["image_id"] for image_id in ids] == [7, 7, "07", "2007_000033"]
    every = list(records("a", [first], every_class=True, category_ids=[0, 7, 8, 9]))
    assert [entry["category_id"] for entry in every] == [7, 8, 9]
    assert every[1]["score"] == pytest.approx(float(first.class_probs[2]) * first.objectness)


def test_an_error_leaves_no_result_file(random_dataset, tmp_path):
    dataset, predictions = random_dataset
    results = ResultsFile(tmp_path / "results.json")
    with pytest.raises(KeyError), results:
        results(dataset.samples[0], predictions["no such image"])
    assert list(tmp_path.iterdir()) == []


def test_an_empty_result_file_is_a_list(tmp_path):
    with ResultsFile(tmp_path / "results.json"):
        pass
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_the_command_writes_scores_and_results(random_dataset, tmp_path, monkeypatch, capsys):
    dataset, predictions = random_dataset
    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_data", lambda options: dataset)
    oracle = Oracle(dataset, lambda s: predictions[s.image_id])
    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_following", lambda options, protocol: oracle)
    main(["run", "--data", "voc", "--out", str(tmp_path / "out")])
    assert "AP50" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["results.json", "voc.json"]
    with pytest.raises(SystemExit) as stop:
        main(["run", "--dat", "voc", "--out", str(tmp_path)])
    assert stop.value.code == 2
