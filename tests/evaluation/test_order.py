import itertools
import json
import warnings

import numpy as np
import pytest
from evaluation_fakes import ListDataset, Oracle, make_instance, make_sample
from PIL import Image

from rsis_tf.cli.order import main
from rsis_tf.evaluation.studies.activations import encoder_activations, mean_activation, without_padding
from rsis_tf.evaluation.studies.order import OrderStudy, directions, kendall, table
from rsis_tf.evaluation.studies.order_plots import LEAST, MOST, ActiveObjects
from rsis_tf.runtime import letterbox

SIZE = (40, 60)


def box(y, x, height=6, width=6):
    mask = np.zeros(SIZE, bool)
    mask[y : y + height, x : x + width] = True
    return mask


def sequence(boxes, classes=None):
    classes = classes or [1] * len(boxes)
    return [make_instance(box(*b), c, step=s) for s, (b, c) in enumerate(zip(boxes, classes, strict=True))]


def sample(image_id="a"):
    return make_sample(np.zeros(SIZE), [], image_id)


@pytest.mark.parametrize(
    ("boxes", "order", "expected"),
    [
        ([(5, 50), (5, 30), (5, 10)], "right_to_left", 1),
        ([(5, 10), (5, 30), (5, 50)], "right_to_left", -1),
        ([(30, 1), (20, 1), (10, 1)], "bottom_to_top", 1),
        ([(1, 1, 9, 9), (20, 1, 5, 5), (20, 20, 2, 2)], "large_to_small", 1),
        ([(5, 50), (5, 10), (5, 30)], "right_to_left", 1 / 3),  # two of three pairs in order
    ],
)
def test_tau_worked_out_by_hand(boxes, order, expected):
    study = OrderStudy()
    study(sample(), sequence(boxes))
    assert study.summarize().tau[order] == pytest.approx(expected)


def tau_b(keys):
    """Kendall's definition: concordant minus discordant pairs, over the mean of all pairs and those without a tie."""
    pairs = list(itertools.combinations(keys, 2))  # positions never tie
    ordered = sum((later > earlier) - (later < earlier) for earlier, later in pairs)
    untied = sum(earlier != later for earlier, later in pairs)
    return ordered / (len(pairs) * untied) ** 0.5


def test_tau_follows_its_definition_with_and_without_ties():
    # Of six pairs, five are in order and one is tied: 5 / √(6 · 5).
    assert kendall([1, 2, 2, 3]) == pytest.approx(5 / 30**0.5)
    # Of six pairs, two are in order, three are reversed and one is tied.
    assert kendall([3, 1, 3, 2]) == pytest.approx(-1 / 30**0.5)
    assert np.isnan(kendall([2, 2, 2]))
    rng = np.random.default_rng(0)
    for _ in range(20):
        keys = [*rng.integers(0, 6, rng.integers(3, 9)).tolist(), 7]
        assert kendall(keys) == pytest.approx(tau_b(keys), abs=1e-12)


def test_tau_is_the_mean_over_images_with_at_least_two_objects():
    study = OrderStudy()
    study(sample("a"), sequence([(5, 50), (5, 30), (5, 10)]))
    study(sample("b"), sequence([(5, 10), (5, 30)]))
    study(sample("c"), sequence([(5, 10)]))
    study(sample("d"), [])
    scores = study.summarize()
    assert scores.sequences == 2
    assert scores.tau["right_to_left"] == pytest.approx(0)
    assert scores.intervals["right_to_left"] == (-1, 1)
    assert np.isnan(scores.tau["bottom_to_top"])  # all in one row: no vertical order
    assert np.isnan(scores.tau["large_to_small"])


def test_directions_hold_from_fifteen_percent_on():
    here = (30.0, 20.0, 100)
    assert not any(directions(here, (30 + 9.0, 20 - 6.0, 117), SIZE).values())
    found = directions(here, (30 + 9.1, 20 - 6.1, 118), SIZE)
    assert {name for name, holds in found.items() if holds} == {"right", "up", "larger"}
    found = directions(here, (20.0, 27.0, 84), SIZE)
    assert {name for name, holds in found.items() if holds} == {"left", "down", "smaller"}


def test_pairs_are_consecutive_ordered_and_frequent():
    study = OrderStudy(min_pairs=3)
    for i in range(3):
        boxes = [(5, 50), (5, 30 if i < 2 else 48), (30, 30)]
        study(sample(str(i)), sequence(boxes, [1, 2, 2 if i else 3]))
    assert study.summarize().pairs == [
        {"first": "class 1", "second": "class 2", "count": 3}
        | {"left": pytest.approx(2 / 3), "right": 0, "up": 0, "down": 0, "smaller": 0, "larger": 0}
    ]


def test_activation_is_the_mean_over_the_object():
    mask = box(0, 0, 20, 30)  # the upper left quarter
    maps = np.zeros((4, 6, 2), np.float32)
    maps[:2, :3, 0] = 4.0
    assert mean_activation(maps, mask) == pytest.approx(2.0)
    assert mean_activation(maps, ~mask) == 0
    # The object covers the first cell and half of the second: (4 · 1 + 1 · ½) / 1.5.
    cells = np.array([[[4.0], [1.0]]])
    assert mean_activation(cells, np.array([[1, 1, 1, 0]] * 2, bool)) == pytest.approx(3)
    assert mean_activation(np.full((1, 1, 3), 7.0), box(3, 3, 1, 1)) == pytest.approx(7)
    assert mean_activation(np.full((80, 120, 3), 7.0), box(3, 3, 1, 1)) == pytest.approx(7)


def gradient(image):
    """Returns two blocks: the activation of the second increases to the right, that of the first decreases."""
    columns = np.tile(np.arange(12.0), (8, 1))[..., None]
    return {"block 1": -columns, "block 2": columns}


def test_tau_with_activations_and_the_most_active_object():
    study = OrderStudy({"as trained": gradient})
    study(sample("x"), sequence([(5, 50), (5, 30), (5, 10)]))
    study(sample("y"), sequence([(5, 30), (5, 10), (5, 50)]))
    scores = study.summarize()
    assert scores.activation["as trained"] == pytest.approx({"block 1": -1 / 3, "block 2": 1 / 3})
    assert scores.active["as trained"] == [
        {"image": "x", "first": 0, "most": 0, "least": 2},
        {"image": "y", "first": 0, "most": 2, "least": 1},
    ]
    assert scores.most_active_first == {"as trained": 0.5}


def test_objects_in_one_cell_are_equally_active_and_none_is_the_most_active():
    maps = np.random.default_rng(0).normal(size=(1, 1, 5)).astype(np.float32)
    values = {mean_activation(maps, box(0, 0, height, 7)) for height in range(1, 40)}
    assert len(values) == 1
    study = OrderStudy({"as trained": lambda image: {"block 1": maps}})
    study(sample("x"), sequence([(5, 50), (5, 30), (5, 10)]))
    scores = study.summarize()
    assert scores.active["as trained"] == []
    assert np.isnan(scores.most_active_first["as trained"])
    assert "most active object: –" in table(scores)


def test_the_most_and_the_least_active_objects_are_drawn_in_the_colours_of_the_legend(tmp_path):
    images = ActiveObjects(gradient)
    images(sample(), sequence([(5, 5), (5, 30), (5, 50)]))  # the activation increases to the right
    images(sample(), sequence([(5, 5)]))
    (path,) = images.write(tmp_path / "active.png")
    with Image.open(path) as opened:
        sheet = np.asarray(opened.convert("RGB"))[40:]  # without the legend
    least, most = (np.nonzero((sheet == colour).all(axis=2))[1] for colour in (LEAST, MOST))  # columns
    assert sheet.shape[1] < 2 * 320  # the image with one object is left out
    assert least.max() < sheet.shape[1] / 3
    assert most.min() > 2 * sheet.shape[1] / 3
    assert ActiveObjects(None).write(tmp_path / "none.png") == []


def test_no_predictions_give_no_numbers_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = OrderStudy({"as trained": gradient})
        study(sample(), [])
        scores = study.summarize()
        assert "–" in table(scores)
    assert json.loads(json.dumps(scores.to_dict(), allow_nan=False))["tau"]["right_to_left"] is None


def test_encoder_activations_are_the_models_blocks_finest_first():
    from rsis_tf.config import ModelConfig
    from rsis_tf.models import build_model

    model = build_model(ModelConfig(encoder="compact", hidden_size=16, num_classes=2, image_size=(32, 32)))
    blocks = encoder_activations(model)(np.zeros((50, 70, 3), np.uint8))
    assert {name: maps.shape[:2] for name, maps in blocks.items()} == {
        f"block {i}": (32 >> i, 32 >> i) for i in range(1, 6)
    }


def test_the_command_writes_numbers_and_plots(tmp_path, monkeypatch, capsys):
    names = ("background", "disc", "box", "star")
    dataset = ListDataset([sample(f"p{i}") for i in range(12)], names)
    found = sequence([(5, 50), (5, 30), (30, 10), (20, 1)], [1, 1, 1, 2])
    predictor = Oracle(dataset, lambda s: found)
    predictor.model = object()
    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_data", lambda options: dataset)
    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_following", lambda options, protocol: predictor)
    monkeypatch.setattr("rsis_tf.evaluation.studies.order_results.encoder_activations", lambda model: gradient)
    main(["run", "--no-check", "--out", str(tmp_path / "order")])
    printed = capsys.readouterr().out
    assert "12 sequences" in printed
    assert "class 1 → class 1" in printed
    assert sorted(p.name for p in (tmp_path / "order").iterdir()) == [
        "activation.png",
        "active.png",
        "order.json",
        "pairs.png",
        "tau.png",
    ]
    for path in (tmp_path / "order").glob("*.png"):
        with Image.open(path) as plot:
            assert min(plot.size) > 150
    del predictor.model
    main(["run", "--out", str(tmp_path / "onnx")])
    assert "no activations" in capsys.readouterr().out
    assert not (tmp_path / "onnx" / "active.png").exists()


def test_tiles_are_refused(tmp_path, capsys):
    """Merged objects are in the order of the tiles."""
    for option in ("--tile", "--tile-overlap"):
        with pytest.raises(SystemExit) as stop:
            main(["run", option, "8", "--out", str(tmp_path / "order")])
        assert stop.value.code == 2
        assert f"unrecognized arguments: {option} 8" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_refused_dataset_leaves_no_folder(tmp_path, monkeypatch, capsys):
    dataset = ListDataset([sample()], ("background", "disc"))
    predictor = Oracle(ListDataset([sample()], ("background", "box")), lambda s: [])
    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_data", lambda options: dataset)
    monkeypatch.setattr("rsis_tf.cli.evaluation_options.open_following", lambda options, protocol: predictor)
    with pytest.raises(SystemExit) as stop:
        main(["run", "--no-check", "--out", str(tmp_path / "order")])
    assert stop.value.code == 2
    assert "Received: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_activations_of_padding_are_cut_off():
    # Cells of 8 pixels in a frame of 64: an image of 32 rows in the middle covers rows 2 to 5.
    maps = np.zeros((8, 8, 1))
    maps[2:6] = 1
    cut = without_padding(maps, letterbox((100, 200), (64, 64)), (64, 64))
    assert cut.shape == (4, 8, 1)
    assert cut.all()
    # Cells that the image covers in part are kept.
    assert without_padding(maps, (12, 0, 40, 64), (64, 64)).shape == (6, 8, 1)
