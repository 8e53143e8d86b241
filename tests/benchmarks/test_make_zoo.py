"""benchmarks/make_zoo.py: which run becomes the model, its command line, and weights in half precision."""

import io
import pathlib
import sys

import numpy as np
import pytest

from rsis_tf.cli.train import make_parser
from rsis_tf.cli.train_settings import configure
from rsis_tf.config.presets import PRESETS
from rsis_tf.errors import InputError

h5py = pytest.importorskip("h5py")
pytest.importorskip("keras")
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

import make_zoo  # noqa: E402


def runs(*scores):
    settings = PRESETS["nuclei"]()
    return [
        make_zoo.Run(folder=pathlib.Path(str(seed)), settings=settings.changed(seed=seed), metrics={"ap50": score})
        for seed, score in enumerate(scores)
    ]


@pytest.mark.parametrize(("scores", "seed"), [((0.5,), 0), ((0.9, 0.5), 1), ((0.9, 0.1, 0.5), 2), ((4, 1, 3, 2), 3)])
def test_the_run_in_the_middle_is_chosen(scores, seed):
    assert make_zoo.middle(runs(*scores)).seed == seed


@pytest.mark.parametrize(
    "words",
    [
        "--preset nuclei --data DIR",
        "--preset nuclei --data DIR --encoder compact --encoder-weights none --epochs 60 --precision mixed_bfloat16",
        "--preset nuclei --data DIR --val-share 0.2 --zoom 0.5 1 --image-size 128x96 --no-augment --seed 3",
        "--preset shapes --class-weight 1 --stop-threshold 0.5",
    ],
)
def test_the_command_gives_the_settings(words):
    settings = configure(make_parser(words.split()).parse_args(words.split()))
    made = make_zoo.training_command(words.split()[1], settings, settings.train.seed).split()
    assert made[:4] == ["rsis", "train", *words.split()[:2]]
    again = configure(make_parser(made[2:]).parse_args(made[2:]))
    assert make_zoo.differing(again, settings) == []
    assert again.train.seed == settings.train.seed


def test_settings_that_no_option_gives_are_refused():
    settings = PRESETS["nuclei"]().changed(root="x", val_annotations="elsewhere.json", annotations="here.json")
    with pytest.raises(InputError, match=r"expected settings that options of `rsis train` give\. Received: others in"):
        make_zoo.training_command("nuclei", settings, 0)


def test_half_precision_keeps_groups_attributes_and_integers():
    source = io.BytesIO()
    with h5py.File(source, "w") as file:
        file.attrs["version"] = "1"
        file.create_group("layers/dense").attrs["name"] = "dense"
        file["layers/dense/0"] = np.array([0.5, 1 / 3], np.float32)
        file["seed"] = np.array([7], np.uint32)
    with h5py.File(io.BytesIO(make_zoo.halved(source.getvalue()))) as file:
        assert file.attrs["version"] == "1"
        assert file["layers/dense"].attrs["name"] == "dense"
        assert file["layers/dense/0"].dtype == np.float16
        np.testing.assert_array_equal(file["layers/dense/0"], np.float16([0.5, 1 / 3]))
        assert (file["seed"].dtype, file["seed"][0]) == (np.uint32, 7)


def test_scores_are_written_again_for_the_trainings_of_the_model_only():
    with pytest.raises(InputError, match=r"expected the runs with the seeds \(0, 1, 2\), in this order\. Received: \("):
        make_zoo.score_again("nuclei", runs(0.5, 0.6))
    with pytest.raises(InputError, match=r"expected runs with the settings of the model\. Received: others in \['"):
        make_zoo.score_again("nuclei", runs(0.5, 0.6, 0.7))
