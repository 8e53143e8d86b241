"""The parts of the report that need predictions, counted by hand."""

import numpy as np
import pytest
from evaluation_fakes import make_sample

from rsis_tf.cli import report as command
from rsis_tf.evaluation.details import Details, match
from rsis_tf.evaluation.report_details import details_html
from rsis_tf.runtime import Instance

NAMES = ("background", "cup", "<plate>")


def instance(columns, class_id=1, *, score=0.9, objectness=0.95):
    mask = np.zeros((4, 12), bool)
    mask[:, columns] = True
    probs = np.eye(3, dtype=np.float32)[class_id]
    name = NAMES[class_id]
    return Instance(
        mask=mask, class_id=class_id, class_name=name, score=score, step=0, objectness=objectness, class_probs=probs
    )


def sample(*columns, classes, void=None, image_id="a"):
    label_map = np.zeros((4, 12), np.int32)
    for number, part in enumerate(columns, start=1):
        label_map[:, part] = number
    if void is not None:
        label_map[:, void] = -1
    return make_sample(label_map, classes, image_id)


def test_a_prediction_on_void_alone_is_neither_right_nor_wrong():
    details = Details(NAMES)
    details(sample(slice(0, 4), classes=[1], void=slice(8, 12)), [instance(slice(0, 4)), instance(slice(9, 11))])
    assert details.confusion.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert details.precision_and_recall()[0].tolist() == [1]
    # An image without annotations has no scores, so it is not among the worst.
    details(sample(classes=[], void=slice(0, 12), image_id="b"), [instance(slice(0, 4))])
    assert [image.sample.image_id for image in details.worst] == ["a"]
    assert details.confusion.sum() == 1


def test_a_prediction_takes_the_best_object_that_is_free():
    truth = sample(slice(0, 4), slice(4, 8), classes=[1, 2])
    found = [
        instance(slice(0, 3), score=0.5),  # IoU 3/4, after the next one
        instance(slice(0, 4), score=0.9),
        instance(slice(4, 9), score=0.8),  # IoU 4/5
        instance(slice(8, 12), score=0.7),
        instance(slice(2, 6), score=0.6),  # IoU 1/3 with both
    ]
    assert match(truth, found).tolist() == [-1, 0, 1, -1, -1]
    assert match(truth, []).tolist() == []
    assert match(sample(classes=[]), found[:1]).tolist() == [-1]
    # Without the void columns, 2 of 3 columns are right.
    assert match(sample(slice(0, 2), classes=[1], void=slice(6, 12)), [instance(slice(0, 12))]).tolist() == [-1]
    assert match(sample(slice(0, 2), classes=[1], void=slice(3, 12)), [instance(slice(0, 12))]).tolist() == [0]


@pytest.fixture
def details():
    collected = Details(NAMES, worst=2)
    first = sample(slice(0, 4), slice(4, 8), classes=[1, 2], image_id="first")
    right = instance(slice(0, 4), score=0.9, objectness=0.95)
    wrong_class = instance(slice(4, 8), 1, score=0.8, objectness=0.85)
    collected(first, [right, wrong_class])
    collected(sample(slice(0, 4), classes=[2], image_id="missed & more"), [])
    collected(sample(slice(0, 4), classes=[2], image_id="none"), [instance(slice(6, 9), 2, score=0.3, objectness=0.85)])
    return collected


def test_confusions_curves_and_calibration(details):
    assert details.confusion.tolist() == [[0, 0, 1], [0, 1, 0], [2, 1, 0]]
    precision, recall = details.precision_and_recall()
    assert precision == pytest.approx([1, 1 / 2, 1 / 3])
    assert recall == pytest.approx([1 / 4, 1 / 4, 1 / 4])
    low, high = details.calibration()
    assert (low.count, low.objectness, low.right) == (2, pytest.approx(0.85), 0.5)
    assert (high.count, high.objectness, high.right) == (1, pytest.approx(0.95), 1.0)
    assert details.calibration_error() == pytest.approx((2 * 0.35 + 0.05) / 3)
    assert [(image.sample.image_id, image.sbd, image.dic) for image in details.worst] == [
        ("missed & more", 0, -1),
        ("none", 0, 0),
    ]


def test_the_html_shows_them(details):
    page = details_html(details)
    assert page.count("<svg") == 2
    assert page.count("data:image/png;base64,") == 2
    assert page.index("missed &amp; more: SBD 0.000, DiC -1") < page.index("none: SBD 0.000")
    assert "<tr><td>&lt;plate&gt;</td><td>1</td>" in page
    assert "calibration error: 0.250" in page
    one_class = Details(("background", "leaf"))
    assert "no object in any" in details_html(one_class)
    one_class(sample(slice(0, 4), classes=[1]), [instance(slice(0, 4))])
    assert "Confusions" not in details_html(one_class)


def test_details_of_a_folder_without_a_run_are_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main([str(tmp_path), "--details"])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
