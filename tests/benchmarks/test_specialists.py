"""benchmarks/specialists.py: label maps of other tools become instances, and wrong input is one line."""

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import specialists


def test_objects_of_a_label_map_come_by_falling_score():
    labels = np.zeros((4, 6), int)
    labels[0, :2], labels[1, :3], labels[3, 4:] = 1, 2, 3
    found = specialists.LabelMaps(lambda image: (labels, np.array([0.2, 0.9, 0.5])), "nucleus")(
        np.zeros((4, 6, 3), np.uint8)
    )
    assert [(one.area, one.score, one.class_name) for one in found] == [
        (3, 0.9, "nucleus"),
        (2, 0.5, "nucleus"),
        (2, 0.2, "nucleus"),
    ]
    np.testing.assert_array_equal(found[0].mask, labels == 2)


@pytest.mark.parametrize("ground", [20, 230])
def test_otsu_separates_discs_that_touch(ground):
    pytest.importorskip("skimage")
    rows, columns = np.mgrid[:64, :64]
    discs = [np.hypot(rows - 32, columns - x) < 12 for x in (20, 43)]
    image = np.where((discs[0] | discs[1])[..., None], 255 - ground, ground) * np.ones(3)
    labels, scores = specialists.otsu(image.astype(np.uint8))
    assert labels.max() == len(scores) == 2
    assert len({int(labels[32, x]) for x in (20, 43)} - {0}) == 2


def test_wrong_input_is_one_line(tmp_path, capsys):
    for words in (["train", "x", "--out", str(tmp_path)], ["score", str(tmp_path)]):
        with pytest.raises(SystemExit) as end:
            specialists.main(words)
        assert end.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
