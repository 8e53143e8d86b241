import csv

import numpy as np
import pytest
from evaluation_fakes import ListDataset, make_instance, make_sample
from PIL import Image

from rsis_tf.cli.leaves import main
from rsis_tf.errors import InputError
from rsis_tf.evaluation.benchmarks.leaves_submission import SubmissionFolder, score_folders, table, write_csv


def leaves(shift=0):
    labels = np.zeros((20, 30), np.int32)
    labels[2:10, 2 + shift : 12 + shift], labels[12:18, 4:26] = 1, 2
    return labels


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "truth").mkdir()
    for number in (3, 14, 15):
        Image.fromarray(leaves().astype(np.uint8)).save(tmp_path / "truth" / f"plant{number:03d}_label.png")
    writer = SubmissionFolder(tmp_path / "mine")
    for number, shift in ((3, 0), (14, 5)):
        masks = [leaves(shift) == 1, leaves() == 2]
        writer(make_sample(leaves(), [1, 1], f"plant{number:03d}"), [make_instance(m) for m in masks])
    return tmp_path


def test_files_have_the_names_and_the_format_of_the_challenge(folders):
    assert sorted(p.name for p in (folders / "mine").rglob("*")) == ["A1", "plant003_label.png", "plant014_label.png"]
    with Image.open(folders / "mine" / "A1" / "plant003_label.png") as image:
        assert image.mode == "L"
        assert np.unique(np.asarray(image)).tolist() == [0, 1, 2]


def test_scores_worked_out_by_hand_with_a_missing_plant(folders):
    scores = score_folders(folders / "mine" / "A1", folders / "truth")
    assert list(scores) == ["plant003_label.png", "plant014_label.png", "plant015_label.png"]
    assert list(scores["plant003_label.png"].values()) == [1, 1, 0, 0]
    # Half of the first leaf is found: Dice 2·40/160; the second is whole.
    assert scores["plant014_label.png"]["SymmetricBestDice"] == pytest.approx((0.5 + 1) / 2)
    assert list(scores["plant015_label.png"].values()) == [0, 0, 2, -2]
    assert "3 plants" in table(scores)
    (row,) = [line for line in table(scores).splitlines() if line.startswith("SymmetricBestDice")]
    mean = (1 + 0.75 + 0) / 3
    deviation = (((1 - mean) ** 2 + (0.75 - mean) ** 2 + mean**2) / 2) ** 0.5
    assert row.split()[1:3] == [f"{mean:.4f}", f"{deviation:.4f}"]
    write_csv(folders / "scores.csv", scores)
    with (folders / "scores.csv").open() as file:
        assert [row["DiffFGLabels"] for row in csv.DictReader(file)] == ["0", "0", "-2"]


def test_wrong_names_sizes_and_folders_are_refused(folders):
    with pytest.raises(InputError, match="B1"):
        SubmissionFolder(folders, leaf_set="B1")
    with pytest.raises(InputError, match="'oak'"):
        SubmissionFolder(folders)(make_sample(leaves(), [1, 1], "oak"), [])
    many = [make_instance(np.arange(600).reshape(20, 30) == i) for i in range(256)]
    with pytest.raises(InputError, match="256"):
        SubmissionFolder(folders)(make_sample(leaves(), [1, 1], "plant1"), many)
    with pytest.raises(InputError, match="nowhere"):
        score_folders(folders / "nowhere", folders / "truth")
    with pytest.raises(InputError, match="none in"):
        score_folders(folders / "truth", folders)
    with pytest.raises(InputError, match="mine"):  # the label images are in mine/A1
        score_folders(folders / "mine", folders / "truth")
    Image.fromarray(leaves()[:10].astype(np.uint8)).save(folders / "mine" / "A1" / "plant015_label.png")
    with pytest.raises(InputError, match=r"\(10, 30\)"):
        score_folders(folders / "mine" / "A1", folders / "truth")
    Image.fromarray(leaves().astype(np.uint8)).save(folders / "mine" / "A1" / "b_plant14_label.png")
    with pytest.raises(InputError, match="plant014_label"):
        score_folders(folders / "mine" / "A1", folders / "truth")


def test_the_command_scores_a_folder_and_writes_one(folders, monkeypatch, capsys):
    main(["--score", str(folders / "mine" / "A1"), str(folders / "truth"), "--csv", str(folders / "rows.csv")])
    mine, truth = folders / "mine" / "A1", folders / "truth"
    screen = capsys.readouterr().out
    assert screen.startswith(f"1 of 3 plants have no label map in {mine} and count as without leaves\n3 plants\n")
    assert "SymmetricBestDice" in screen
    main(["--score", str(truth), str(mine)])
    assert capsys.readouterr().out.startswith(f"1 of 3 plants of {truth} are not in {mine} and are not scored\n")
    assert len((folders / "rows.csv").read_text().splitlines()) == 4
    dataset = ListDataset([make_sample(leaves() * 0 - 1, [], "plant021")], ("background", "leaf"))

    class Fixed:
        class_names = dataset.class_names

        def __call__(self, image):
            return [make_instance(leaves() == 1)]

    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_data", lambda options: dataset)
    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_following", lambda options, protocol: Fixed())
    main(["run", "--split", "test", "--out", str(folders / "new"), "--set", "A4"])
    assert np.asarray(Image.open(folders / "new" / "A4" / "plant021_label.png")).max() == 1  # test plants have no truth
    for wrong in ([], ["run"], ["--score", "nowhere", "nowhere"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("error: expected")


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ("run --data set --out sub --csv scores.csv", "--csv scores.csv without it"),
        ("run --score a b", "MODEL run"),
        ("--score a b --out sub", "--out sub"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(options, received, capsys):
    with pytest.raises(SystemExit) as end:
        main(options.split())
    assert end.value.code == 2
    assert received in capsys.readouterr().err


@pytest.mark.parametrize("image_id", ["../../x1", "/x1", "a/../../../x1", "x1\0", "x1" * 200])
def test_an_id_that_leads_outside_is_refused(tmp_path, image_id):
    writer = SubmissionFolder(tmp_path / "place" / "mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="expected the name of a file inside"):
        writer(make_sample(leaves(), [1, 1], image_id), [])
    assert sorted(tmp_path.rglob("*")) == before
