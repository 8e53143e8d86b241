"""Commands on exported files and small datasets, compared with a rewrite of the original's evaluations."""

import functools
import json

import numpy as np
import pytest
from cityscapes_reference import official as official_cityscapes
from coco_reference import official as official_coco
from evaluation_fakes import ListDataset, make_instance
from original_protocols import cityscapes_files, corners, imresize, largest_part, leaf_labels, voc_masks
from PIL import Image
from toy_network import outputs, smooth_image, write_network

from rsis_tf.cli import cityscapes, evaluate, leaves, voc
from rsis_tf.config import DataConfig
from rsis_tf.data import load_dataset
from rsis_tf.data.readers.voc import CLASS_NAMES as VOC_NAMES
from rsis_tf.errors import InputError
from rsis_tf.evaluation import scoring
from rsis_tf.evaluation.benchmarks import cityscapes as cityscapes_benchmark
from rsis_tf.evaluation.benchmarks import voc as voc_benchmark
from rsis_tf.evaluation.benchmarks.cityscapes_files import LABEL_IDS
from rsis_tf.evaluation.metrics.leaves import label_map, symmetric_best_dice
from rsis_tf.evaluation.protocol_masks import draw, follow, largest_component, stretched
from rsis_tf.evaluation.protocols import PLAIN, PROTOCOLS, Protocol
from rsis_tf.inference import open_predictor
from rsis_tf.runtime import BasePredictor, ModelInfo, Options, decode

CITY_NAMES = ("background", *LABEL_IDS)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Intervals take most of the time and are not tested here."""
    for module, name in (
        (voc_benchmark, "evaluate_voc"),
        (scoring, "evaluate"),
        (cityscapes_benchmark, "evaluate_files"),
    ):
        monkeypatch.setattr(module, name, functools.partial(getattr(module, name), resamples=2))


def save(path, pixels, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette(palette)
    image.save(path)


def true_objects(rng, network, image, *, count=4):
    """Returns a label map of the network's masks, shifted by a few pixels, and their classes."""
    masks, classes, _ = outputs(network, image)
    labels = np.zeros(image.shape[:2], int)
    for step in range(count):
        drawn = largest_part(masks[step] > 0.5) if step % 2 else masks[step] > 0.5
        big = np.asarray(Image.fromarray(drawn).resize(image.shape[1::-1], Image.Resampling.NEAREST))
        labels[np.roll(big, rng.integers(-2, 3, 2), (0, 1))] = step + 1
    return labels, [1 + int(classes[step][1:].argmax()) for step in range(count)]


# --- Cityscapes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def city(tmp_path):
    """Cityscapes' folders with four images, and a network."""
    rng = np.random.default_rng(5)
    network = write_network(tmp_path / "city.onnx", CITY_NAMES, size=(24, 48), seed=1)
    ids = list(LABEL_IDS.values())
    for i in range(4):
        stem, image = f"ulm_{i:06d}_000019", smooth_image(rng, (96, 192))
        labels, classes = true_objects(rng, network, image)
        values = np.full(image.shape[:2], 7, np.uint16)
        for number, class_id in enumerate(classes, start=1):
            values[labels == number] = ids[class_id - 1] * 1000 + number
        save(tmp_path / "leftImg8bit" / "val" / "ulm" / f"{stem}_leftImg8bit.png", image)
        save(tmp_path / "gtFine" / "val" / "ulm" / f"{stem}_gtFine_instanceIds.png", values)
    return tmp_path, network


def test_cityscapes_scores_equal_the_official_commands_for_the_originals_files(city):
    root, network = city
    pytest.importorskip("cityscapesscripts")
    (root / "results" / "original_masks").mkdir(parents=True)
    theirs = {}
    for path in sorted((root / "leftImg8bit" / "val" / "ulm").glob("*.png")):
        stem, image = path.name.removesuffix("_leftImg8bit.png"), np.asarray(Image.open(path))
        lines = []
        for number, (grey, class_id, score) in enumerate(
            cityscapes_files(*outputs(network, image), size=image.shape[:2])
        ):
            name = f"original_masks/{stem}_{number}.png"
            Image.fromarray(grey).save(root / "results" / name)
            lines.append(f"{name} {list(LABEL_IDS.values())[class_id - 1]} {score}\n")
            if (grey > 0).any():
                theirs.setdefault(stem, []).append((np.flatnonzero(grey), CITY_NAMES[class_id], float(score)))
        (root / "results" / f"{stem}.txt").write_text("".join(lines))
    expected = official_cityscapes(root)

    cityscapes.main([str(network), "--data", str(root), "--out", str(root / "out")])
    written = json.loads((root / "out" / "cityscapes.json").read_text())
    assert written["protocol"]["name"] == "paper-cityscapes"
    assert 0.02 < expected["allAp50%"] < 0.9
    assert written["mean"]["ap"] == pytest.approx(expected["allAp"], abs=1e-9)
    assert written["mean"]["ap50"] == pytest.approx(expected["allAp50%"], abs=1e-9)
    for stem, wanted in theirs.items():
        lines = (root / "out" / "results" / f"{stem}.txt").read_text().split("\n")[:-1]
        assert len(lines) == len(wanted)
        for line, (pixels, name, score) in zip(lines, wanted, strict=True):
            file, label, confidence = line.split()
            assert (int(label), float(confidence)) == (LABEL_IDS[name], pytest.approx(score, rel=1e-5))
            np.testing.assert_array_equal(
                np.flatnonzero(np.asarray(Image.open(root / "out" / "results" / file))), pixels
            )


def test_each_setting_of_cityscapes_can_be_changed(city):
    root, network = city
    pytest.importorskip("cityscapesscripts")
    counts = {}
    for name, options in {
        "paper": [],
        "threshold": ["--stop-threshold", "0.5"],
        "plain": ["--protocol", "plain"],
        "class": ["--best-class"],
        "parts": ["--no-largest-component"],
        "score": ["--class-threshold", "0.1"],
        "size": ["--min-size", "0.05"],
    }.items():
        cityscapes.main([str(network), "--data", str(root), "--out", str(root / name), "--limit", "1", *options])
        lines = "".join(path.read_text() for path in sorted((root / name / "results").glob("*.txt"))).splitlines()
        pixels = sum(np.count_nonzero(Image.open(root / name / "results" / line.split()[0])) for line in lines)
        counts[name] = len(lines), pixels
    assert counts["paper"][0] == 6 * 8  # steps, classes
    assert counts["class"][0] == 6
    assert 0 < counts["plain"][0] < counts["threshold"][0] / 8 < 6
    assert counts["parts"][0] == counts["paper"][0]
    assert counts["parts"][1] > counts["paper"][1]
    assert 0 < counts["score"][0] < counts["paper"][0]
    assert 0 < counts["size"][0] < counts["paper"][0]


# --- CVPPP --------------------------------------------------------------------------------------------------------


@pytest.fixture
def plants(tmp_path):
    """CVPPP's folders with eight plants, the last two for validation, and a network."""
    rng = np.random.default_rng(8)
    network = write_network(tmp_path / "leaves.onnx", ("background", "leaf"), size=(32, 32), seed=3, steps=8)
    for i in range(8):
        image = smooth_image(rng, (53, 50))
        folder = tmp_path / "training" / "A1"
        save(folder / f"plant{i:03d}_rgb.png", np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]))
        labels, _ = true_objects(rng, network, image)
        save(folder / f"plant{i:03d}_label.png", labels.astype(np.uint8), palette=bytes(range(256)) * 3)
    return tmp_path, network


def test_label_images_of_leaves_equal_the_originals_except_for_their_numbers(plants):
    root, network = plants
    leaves.main([str(network), "--data", str(root), "--out", str(root / "sent")])
    seen = set()
    for number in (6, 7):
        image = np.asarray(Image.open(root / "training" / "A1" / f"plant{number:03d}_rgb.png"))[..., :3]
        masks, _, stop = outputs(network, image)
        wanted = leaf_labels(masks, stop, image.shape[:2])
        seen |= {"skipped" for objectness in stop if objectness < 0.2} | {"low" for o in stop if 0.2 < o < 0.5}
        written = np.asarray(Image.open(root / "sent" / "A1" / f"plant{number:03d}_label.png"))
        ids = np.unique(np.append(wanted, 0))  # numbered from 1 without gaps, otherwise equal
        np.testing.assert_array_equal(ids[written], wanted)
        assert len(ids) > 3
    assert seen == {"skipped", "low"}  # both thresholds have an effect


def test_order_and_threshold_of_leaves_can_be_changed(plants):
    root, network = plants
    image = np.asarray(Image.open(root / "training" / "A1" / "plant007_rgb.png"))[..., :3]
    masks, classes, stop = outputs(network, image)

    def sent(*options):
        leaves.main([str(network), "--data", str(root), "--out", str(root / "new"), *options])
        return np.asarray(Image.open(root / "new" / "A1" / "plant007_label.png"))

    kept = [i for i in range(len(stop)) if stop[i] > 0.5]
    drawn = [imresize(masks[i], image.shape[:2]) > 127.5 for i in kept]
    first_wins = np.zeros(image.shape[:2], int)
    for number, mask in reversed(list(enumerate(drawn, start=1))):
        first_wins[mask] = number
    result = sent("--stop-threshold", "0.5", "--overlap", "earliest")
    np.testing.assert_array_equal(np.unique(np.append(first_wins, 0))[result], first_wins)
    plain = decode(masks, classes, stop, size=image.shape[:2], class_names=())
    np.testing.assert_array_equal(sent("--protocol", "plain"), label_map(plain, image.shape[:2]))


def test_evaluate_scores_leaves_in_the_protocol(plants, capsys):
    root, network = plants
    options = [str(network), "--dataset", "cvppp", "--data", str(root), "--protocol", "paper-cvppp"]
    evaluate.main([*options, "--out", str(root / "scores.json"), "--leaves-submission", str(root / "sent")])
    scores = json.loads((root / "scores.json").read_text())
    leaves.main(["--score", str(root / "sent" / "A1"), str(root / "training" / "A1")])
    assert capsys.readouterr().out.count("SymmetricBestDice") == 1
    dice = []
    for number in (6, 7):
        sent, truth = (
            np.asarray(Image.open(root / folder / f"plant{number:03d}_label.png"))
            for folder in ("sent/A1", "training/A1")
        )
        dice.append(symmetric_best_dice(sent, truth))
    assert scores["sbd"] == pytest.approx(np.mean(dice))
    assert (scores["stop"], scores["stop_threshold"], scores["protocol"]["overlap"]) == ("each", 0.2, "latest")


# --- Pascal VOC ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pascal(tmp_path):
    """VOC2012's folders with six images, the outlines of their objects void, and a network."""
    rng = np.random.default_rng(2)
    network = write_network(tmp_path / "voc.onnx", VOC_NAMES, size=(32, 32), seed=4, steps=8)
    names = []
    for i in range(6):
        name, image = f"2007_{i:06d}", smooth_image(rng, (60, 75))
        names.append(name)
        save(tmp_path / "JPEGImages" / f"{name}.jpg", image)
        image = np.asarray(Image.open(tmp_path / "JPEGImages" / f"{name}.jpg"))
        labels, classes = true_objects(rng, network, image)
        edge = (np.diff(labels, axis=0, append=labels[-1:]) != 0) | (
            np.diff(labels, axis=1, append=labels[:, -1:]) != 0
        )
        objects, meaning = labels.copy(), np.array([0, *classes])[labels]
        objects[edge], meaning[edge] = 255, 255
        for folder, values in (("SegmentationObject", objects), ("SegmentationClass", meaning)):
            save(tmp_path / folder / f"{name}.png", values.astype(np.uint8), palette=bytes(range(256)) * 3)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(names) + "\n")
    return tmp_path, network


def reference_predictions(dataset, network):
    found = {}
    for sample in dataset.samples:
        found[sample.image_id] = []
        masks, classes, stop = outputs(network, sample.image)
        for step, mask, _ in voc_masks(masks, classes, stop, sample.label_map.shape):
            one = make_instance(mask, objectness=float(stop[step]), step=step, num_classes=len(VOC_NAMES))
            one.class_probs[:] = classes[step]
            found[sample.image_id].append(one)
    return found


def test_voc_scores_equal_pycocotools_for_the_originals_masks(pascal):
    root, network = pascal
    read = load_dataset(DataConfig(dataset="voc", root=str(root)), "val")
    dataset = ListDataset([read[i] for i in range(len(read))], read.class_names)
    found = reference_predictions(dataset, network)
    options = {"every_class": True, "min_share": 0.001}
    precision = official_coco(dataset, found, **options)["precision"][..., 0, -1]  # (10, 101, 20)
    precision = precision[:, :, precision[0, 0] > -1].mean(axis=(1, 2))
    recall = official_coco(dataset, found, **options, agnostic=True, max_dets=(1, 7, 30))["recall"][:, 0, 0]

    arguments = [str(network), "--data", str(root), "--out", str(root / "out")]
    voc.main([*arguments, "--max-dets", "1", "7", "30"])
    written = json.loads((root / "out" / "voc.json").read_text())
    assert (written["protocol"]["name"], written["protocol"]["max_dets"]) == ("paper-voc", [1, 7, 30])
    assert 0.05 < precision[0] < 0.95
    for name, row in {"ap50": 0, "ap60": 2, "ap70": 4, "ap80": 6}.items():
        assert written["mean"][name] == pytest.approx(precision[row], abs=1e-9), name
    for t, iou in enumerate(("ar50", "ar70", "ar85")):
        for m, limit in enumerate((1, 7, 30)):
            assert written["recall"][f"{iou}@{limit}"] == pytest.approx(recall[t, m], abs=1e-9)
    assert len(set(recall[0])) > 1


def test_options_drop_small_masks_and_uncertain_classes_of_voc(pascal):
    root, network = pascal
    arguments = [str(network), "--data", str(root), "--out", str(root / "out")]

    def entries(*options):
        voc.main([*arguments, *options])
        return json.loads((root / "out" / "results.json").read_text())

    everything, large = entries("--min-size", "0"), entries("--min-size", "0.2")
    assert 0 < len(large) < len(everything)
    assert len(entries("--min-size", "0", "--no-every-class")) * 20 == len(everything)
    sure = entries("--min-size", "0", "--no-every-class", "--class-threshold", "0.15")
    assert 0 < len(sure) < len(everything) / 20
    assert min(entry["score"] for entry in sure) >= 0.15


def test_evaluate_and_voc_give_the_same_scores_in_the_papers_protocol(pascal):
    root, network = pascal
    voc.main([str(network), "--data", str(root), "--out", str(root / "out")])
    table = json.loads((root / "out" / "voc.json").read_text())
    shared = [str(network), "--dataset", "voc", "--data", str(root)]
    evaluate.main([*shared, "--protocol", "paper-voc", "--out", str(root / "paper.json")])
    evaluate.main([*shared, "--out", str(root / "plain.json")])
    paper, plain = (json.loads((root / f"{name}.json").read_text()) for name in ("paper", "plain"))
    assert paper["ap50"] == table["mean"]["ap50"] != plain["ap50"]
    assert paper["recall"] == table["recall"]
    assert paper["per_class"]["person"]["ap50"] == table["per_class"]["person"]["ap50"]
    assert (plain["protocol"]["name"], plain["stop"]) == ("plain", "first")


# --- masks --------------------------------------------------------------------------------------------------------


def test_stretching_equals_imresize_of_scipy_1_0():
    """The numbers were printed by scipy 1.0."""
    values = np.array([[1, 2], [3, 4]], np.float32)
    printed = np.array([[0, 21, 64, 85], [43, 64, 107, 128], [128, 149, 192, 213], [170, 191, 234, 255]])
    np.testing.assert_array_equal(imresize(values, (4, 4)), printed)
    for threshold in (0.1, 0.3, 0.5, 0.9):
        mask = draw(
            values,
            (4, 4),
            0.0,
            protocol=Protocol(name="", summary="", mask_resize="stretched", mask_threshold=threshold),
        )
        np.testing.assert_array_equal(mask, printed > threshold * 255)
    assert stretched(np.full((2, 3), 0.7, np.float32)).tolist() == [[0, 0, 0]] * 2  # as in SciPy


@pytest.mark.parametrize("size", [(31, 47), (20, 30), (9, 11), (20, 31)])
def test_resizing_by_corners_equals_linear_interpolation(size):
    values = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    mask = draw(values, size, 0.4, protocol=Protocol(name="", summary="", mask_resize="corners"))
    np.testing.assert_array_equal(mask, corners(values, size) > 0.4)


def test_masks_of_the_plain_protocol_equal_the_runtimes():
    rng = np.random.default_rng(1)
    masks, classes, stop = rng.random((3, 20, 30)), rng.random((3, 4)), np.ones(3)
    wanted = decode(masks, classes, stop, size=(33, 41), class_names=(), mask_threshold=0.6)
    for step, found in enumerate(wanted):
        mask = draw(masks[step], (33, 41), 0.6, protocol=PLAIN)
        np.testing.assert_array_equal(mask, found.mask)
    assert not np.array_equal(wanted[0].mask, draw(masks[0], (33, 41), 0.6, protocol=PROTOCOLS["paper-voc"]))


def test_the_largest_component_equals_a_flood_fill():
    rng = np.random.default_rng(3)
    for share in (0.05, 0.3, 0.45, 0.6):
        mask = rng.random((24, 31)) < share
        np.testing.assert_array_equal(largest_component(mask), largest_part(mask))
    corner = np.eye(6, dtype=bool)  # pixels that share a corner are connected
    np.testing.assert_array_equal(largest_component(corner), corner)
    twins = np.zeros((3, 5), bool)
    twins[:, 0], twins[:, 4] = True, True
    assert largest_component(twins)[:, 0].all()
    assert not largest_component(twins)[:, 4].any()
    assert not largest_component(np.zeros((3, 3), bool)).any()


def test_later_steps_overwrite_earlier_ones():
    first, hidden, last = np.zeros((3, 2, 4), bool)
    first[:, :3], hidden[0, 1:2], last[:, 1:] = True, True, True
    void = np.array([[0, 0, 0, 1], [0, 0, 0, 0]], bool)
    instances = [make_instance(mask) for mask in (first, hidden, last)]
    assert label_map(instances, (2, 4), void=void, overlap="latest").tolist() == [[1, 2, 2, 0], [1, 2, 2, 2]]
    assert label_map(instances, (2, 4), void=void).tolist() == [[1, 1, 1, 0], [1, 1, 1, 2]]
    assert label_map([], (1, 2), overlap="latest").tolist() == [[0, 0]]


def test_a_predictor_follows_a_protocol_however_it_is_called(plants):
    root, network = plants
    images = [np.asarray(Image.open(p))[..., :3] for p in sorted((root / "training" / "A1").glob("*_rgb.png"))[:3]]
    protocol = Protocol(name="", summary="", stop_mode="each", mask_resize="binary", mask_threshold=0.4, min_size=0.3)
    opened = open_predictor(network, stop_mode="each", stop_threshold=0.3)
    predictor = follow(opened, protocol)
    assert follow(opened, PLAIN) is opened
    assert predictor.class_names == ("background", "leaf")
    assert predictor.stop_threshold == 0.3
    one_by_one = [predictor(image) for image in images]
    for answers in (list(predictor.stream(images)), predictor.batch(images)):
        assert [[i.step for i in found] for found in answers] == [[i.step for i in found] for found in one_by_one]
    masks, _, stop = outputs(network, images[0])
    wanted = {}
    for step in np.flatnonzero(stop >= 0.3):
        grey = Image.fromarray((masks[step] > 0.4).astype(np.uint8) * 255)
        wanted[step] = np.asarray(grey.resize(images[0].shape[1::-1], Image.Resampling.BILINEAR)) > 0
    large = {step: mask for step, mask in wanted.items() if mask.mean() >= protocol.min_size}
    assert 0 < len(large) < len(wanted)
    assert [found.step for found in one_by_one[0]] == list(large)
    for found in one_by_one[0]:
        np.testing.assert_array_equal(found.mask, large[found.step])
    assert opened.draw is None  # the original predictor is not changed


class Elsewhere(BasePredictor):
    """The base class of the Keras, SavedModel and TFLite predictors, here with ONNX Runtime."""

    def __init__(self, network):
        info = ModelInfo(image_size=(32, 32), class_names=("background", "leaf"))
        super().__init__(network, info, Options(stop_mode="each", stop_threshold=0.2, batch_size=2))
        self._network = network

    def compute(self, images):
        return tuple(map(np.stack, zip(*(outputs(self._network, image) for image in images), strict=True)))


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_kind_of_predictor_draws_masks_as_the_protocol_says(plants, name):
    root, network = plants
    images = [np.asarray(Image.open(p))[..., :3] for p in sorted((root / "training" / "A1").glob("*_rgb.png"))[:3]]
    one = follow(open_predictor(network, stop_mode="each", stop_threshold=0.2), PROTOCOLS[name])
    other = follow(Elsewhere(network), PROTOCOLS[name])
    for image, found in zip(images, other.stream(images), strict=True):
        wanted = one(image)
        assert [i.step for i in found] == [i.step for i in wanted]
        for mine, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(mine.mask, theirs.mask)


# --- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "received"),
    [
        (["--min-size", "1.5"], "min_size=1.5"),
        (["--min-size", "nan"], "min_size=nan"),
        (["--class-threshold", "-0.1"], "class_threshold=-0.1"),
        (["--stop-threshold", "2"], "--stop-threshold: expected a number from 0 to 1. Received: 2"),
        (["--max-dets", "50", "10"], "50 10"),
        (["--max-dets", "0"], "0"),
        (["--protocol", "paper"], "'paper'"),
        (["--mask-resize", "nearest"], "'nearest'"),
    ],
)
def test_wrong_settings_are_one_line(plants, capsys, options, received):
    root, network = plants
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(network), "--dataset", "cvppp", "--data", str(root), *options])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert received in line


def test_a_command_refuses_options_that_have_no_effect_on_it(capsys):
    for command, option in ((voc, "--overlap"), (leaves, "--max-dets"), (cityscapes, "--max-dets")):
        with pytest.raises(SystemExit) as stop:
            command.main(["model.onnx", "--out", "x", option, "latest" if option == "--overlap" else "5"])
        assert stop.value.code == 2
        assert option in capsys.readouterr().err


def test_help_describes_each_protocol(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # no line breaks in names
    with pytest.raises(SystemExit):
        evaluate.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, protocol in PROTOCOLS.items():
        assert f"{name} {protocol.summary}" in text
    assert "paper-cvppp 0.2" in text


def test_wrong_settings_of_a_protocol_are_refused():
    with pytest.raises(InputError, match="overlap"):
        Protocol(name="", summary="", overlap="both")
    with pytest.raises(InputError, match="none"):
        Protocol(name="", summary="", max_dets=())
