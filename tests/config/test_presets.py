"""Presets: the figures of the paper, and the settings that options make of them."""

import json

import pytest

from rsis_tf import config
from rsis_tf.cli.train import parse
from rsis_tf.cli.train_settings import configure, resumed
from rsis_tf.config import json_file as config_file
from rsis_tf.config import presets
from rsis_tf.config.presets import PRESETS
from rsis_tf.data import DATASETS, require_dataset
from rsis_tf.errors import InputError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole(name):
    settings = PRESETS[name]()
    assert f"rsis train --preset {name}" in PRESETS[name].__doc__ or name in ("custom", "leaves", "shapes")
    assert settings.data.dataset in DATASETS
    assert settings.model.image_size == settings.data.image_size
    assert config_file.from_dict(config.RunConfig, json.loads(config_file.to_json(settings))) == settings


@pytest.mark.parametrize(
    ("name", "model", "data", "train"),
    [
        ("voc", (128, 21), ((256, 256), 28, False), (10, 0.5, 20, 3000, 0, 15, 60, False)),
        ("cityscapes", (128, 9), ((256, 512), 32, True), (20, 1.0, 60, 100, 20, 25, 500, True)),
        ("cvppp", (64, 2), ((400, 400), 20, True), (20, 0.1, -1, 500, 0, 30, 500, True)),
    ],
)
def test_presets_of_the_paper(name, model, data, train):
    settings = PRESETS[name]()
    assert settings.data.dataset == name
    assert settings.data.max_objects == 20
    assert settings.model.encoder == "resnet101"
    assert settings.model.min_channels == settings.train.losses.mask_cross_entropy == 0
    assert (settings.model.hidden_size, settings.model.num_classes) == model
    assert (settings.data.image_size, settings.data.batch_size, settings.data.transforms.augment) == data
    fields = (
        *("num_steps", "stop_weight", "class_loss_after", "stop_loss_after", "finetune_after", "patience"),
        *("patience_stop", "curriculum_learning"),
    )
    assert tuple(settings.train.flat()[field] for field in fields) == train
    rates = (
        settings.train.optimization.learning_rate,
        settings.train.optimization.encoder_learning_rate,
        settings.train.optimization.weight_decay,
    )
    assert rates == (1e-3, 1e-6, 1e-6)
    assert settings.train.optimization.schedule == "constant"


def test_the_paper_is_one_flag_away():
    command = "--dataset coco --data there".split()
    ours, paper = configure(parse(command)), configure(parse(["--preset", "paper", *command]))
    assert ours.model.mask_head == "voting"
    assert paper.model.mask_head == "convolution"
    assert paper.model.neck_channels == paper.model.min_channels == paper.data.partial_sequences == 0
    assert paper.train.losses.mask_cross_entropy == 0
    assert paper.train.curriculum.curriculum_learning
    assert paper.train.curriculum.class_loss_after >= 0  # your own images may have many classes
    assert paper.model.encoder == ours.model.encoder
    assert paper.data.image_size == ours.data.image_size


@pytest.mark.parametrize(
    ("options", "weights", "norm", "rate"),
    [
        ("", "imagenet", "frozen", 6e-4),
        ("--encoder-weights features.h5", "features.h5", "frozen", 6e-4),
        ("--encoder compact", "none", "train", 4e-3),
        ("--encoder mobilenet_v2", "imagenet", "frozen", 6e-4),
        ("--encoder-weights none --learning-rate 1e-3", "none", "train", 1e-3),
        ("--encoder resnet50", "imagenet", "frozen", 6e-4),
        ("--encoder resnet50 --encoder-weights resnet50.pth", "resnet50.pth", "frozen", 6e-4),
        ("--transfer run", "none", "frozen", 6e-4),
        ("--encoder compact --encoder-batch-norm frozen --encoder-learning-rate 0", "none", "frozen", 0),
    ],
)
def test_an_encoder_from_nothing_learns_like_the_rest(options, weights, norm, rate):
    train = configure(parse(["--dataset", "coco", "--data", "there", *options.split()])).train
    assert (
        train.start.encoder_weights,
        train.optimization.encoder_batch_norm,
        train.optimization.encoder_learning_rate,
    ) == (weights, norm, rate)


PAPER = ("voc", "cityscapes", "cvppp")
WEIGHTS = ("", "none", "imagenet", "w.pth")


@pytest.mark.parametrize("given", WEIGHTS)
@pytest.mark.parametrize("encoder", ["", *config.ENCODER_NAMES])
@pytest.mark.parametrize("name", PRESETS)
def test_what_an_encoder_starts_from(name, encoder, given):
    """All presets, encoders and weights: trained ones keep the preset's rate, others learn as fast as the rest."""
    preset = PRESETS[name]()
    options = [
        *("--preset", name, "--data", "there"),
        *(["--encoder", encoder] * bool(encoder)),
        *(["--encoder-weights", given] * bool(given)),
    ]
    settings = configure(parse(options))
    starts_trained = name not in ("leaves", "shapes") and settings.model.encoder != "compact"
    assert settings.train.start.encoder_weights == (given or ("imagenet" if starts_trained else "none"))
    if settings.train.start.encoder_weights == "none":
        assert settings.train.optimization.encoder_learning_rate == settings.train.optimization.learning_rate
        assert settings.train.optimization.encoder_batch_norm == "train"
        assert settings.train.curriculum.finetune_after == 0
        assert configure(parse([*options, "--learning-rate", "0.5"])).train.optimization.encoder_learning_rate == 0.5
        assert (
            configure(parse([*options, "--encoder-learning-rate", "0.5"])).train.optimization.encoder_learning_rate
            == 0.5
        )
    else:
        assert settings.train.optimization.encoder_learning_rate == preset.train.optimization.encoder_learning_rate
        assert settings.train.optimization.encoder_batch_norm == preset.train.optimization.encoder_batch_norm
        assert settings.train.curriculum.finetune_after == preset.train.curriculum.finetune_after


@pytest.mark.parametrize("name", PAPER)
def test_presets_of_the_paper_start_from_imagenet(name):
    train = configure(parse(["--preset", name])).train
    assert (train.start.encoder_weights, train.optimization.encoder_learning_rate) == ("imagenet", 1e-6)
    train = configure(parse(["--preset", name, "--transfer", "run"])).train
    assert (train.start.encoder_weights, train.optimization.encoder_learning_rate) == ("none", 1e-6)


@pytest.mark.parametrize(
    ("options", "threshold", "calibrate"),
    [
        ("", 0.5, True),
        ("--stop-threshold 0.7", 0.7, False),
        ("--stop-threshold auto", 0.5, True),
        ("--preset paper", 0.5, False),
        ("--preset paper --stop-threshold auto", 0.5, True),
    ],
)
def test_the_stop_threshold_is_given_or_the_objectness_is_calibrated(options, threshold, calibrate):
    settings = configure(parse(["--dataset", "coco", "--data", "there", *options.split()]))
    assert (settings.model.stop_threshold, settings.train.calibrate_objectness) == (threshold, calibrate)


def test_options_bring_along_what_they_need():
    def settings(options):
        return configure(parse(["--data", "there", "--dataset", *options.split()]))

    def data(options):
        return settings(options).data

    assert data("coco").partial_sequences == data("coco --transfer run").partial_sequences == 1
    assert data("coco --mask-head convolution").partial_sequences == 0
    assert settings("coco").model.class_features == "mask"
    assert settings("coco --mask-head convolution").model.class_features == "pooled"
    # Sequences that all begin at the beginning must not be cut short: none would show its end.
    assert settings("coco").train.sequence_length == settings("coco --partial-sequences 0.5").train.sequence_length == 6
    assert settings("coco --mask-head convolution").train.sequence_length is None
    assert settings("coco --partial-sequences 0").train.sequence_length is None
    assert settings("coco --partial-sequences 0 --sequence-length 9").train.sequence_length == 9
    assert data("voc --preset voc --augmentation strong").transforms.augment
    assert not data("voc --preset voc --augmentation strong --no-augment").transforms.augment
    with pytest.raises(InputError, match=r"Received: partial_sequences=0\.5"):
        data("coco --mask-head convolution --partial-sequences 0.5")


def test_ranges_of_the_augmentation_are_options():
    def data(options):
        return configure(parse(["--data", "there", *options.split()])).data

    ranges = data("--preset voc --rotation 5 --translation 0.2 --shear 3 --zoom 0.8 1.25 --border black")
    assert ranges.transforms.augment
    assert (
        ranges.transforms.rotation,
        ranges.transforms.translation,
        ranges.transforms.shear,
        ranges.transforms.zoom,
    ) == (5, 0.2, 3, (0.8, 1.25))
    assert ranges.transforms.border == "black"
    assert data("--preset cvppp --zoom 1 1").transforms.border == "replicate"
    # Another augmentation brings its own ranges; those of the preset end with the preset's.
    other = data("--preset cvppp --augmentation strong --rotation 7")
    assert (other.transforms.rotation, other.transforms.zoom, other.transforms.border) == (7, None, None)
    assert not data("--preset voc").transforms.augment
    assert data("--dataset coco").transforms.border is data("--dataset coco").transforms.zoom is None


def test_aspect_crop_draft_and_cache_are_options():
    def settings(options):
        return configure(parse(["--data", "there", "--dataset", "coco", *options.split()]))

    plain = settings("").data
    assert (plain.aspect, plain.transforms.crop, plain.draft, plain.cache) == ("stretch", False, True, None)
    keeping = settings("--aspect keep --no-draft --cache memory")
    assert (keeping.data.aspect, keeping.model.aspect) == ("keep", "keep")
    assert (keeping.data.draft, keeping.data.cache) == (False, "memory")
    # What is cropped undistorted in training is shown undistorted afterwards.
    assert settings("--crop").data.aspect == settings("--crop").model.aspect == "keep"
    assert settings("--crop --aspect stretch").model.aspect == "stretch"


def test_a_configuration_of_an_earlier_version_means_what_it_did():
    old = {"dataset": "coco", "root": "there", "image_size": [64, 64], "augment": True, "augmentation": "paper"}
    data = config_file.from_dict(config.DataConfig, old)
    assert (data.aspect, data.transforms.crop, data.draft, data.cache) == ("stretch", False, False, None)
    assert (
        data.transforms.rotation
        is data.transforms.translation
        is data.transforms.shear
        is data.transforms.zoom
        is data.transforms.border
        is None
    )
    assert config_file.from_dict(config.ModelConfig, {"encoder": "compact"}).aspect == "stretch"


def test_options_of_the_original_reach_the_settings():
    command = (
        "--preset cityscapes --data there --steps 7 --max-objects 9 --class-loss-after -1 --stop-loss-after 3 "
        "--finetune-after 4 --patience 5 --patience-stop 6 --no-curriculum-learning --steps-cl 2 --min-steps 3 "
        "--no-augment --seed 11 --stop-weight 0.3"
    )
    settings = configure(parse(command.split()))
    paper = PRESETS["cityscapes"]()
    assert settings == paper.changed(
        num_steps=7,
        root="there",
        max_objects=9,
        augment=False,
        class_loss_after=-1,
        stop_loss_after=3,
        finetune_after=4,
        patience=5,
        patience_stop=6,
        curriculum_learning=False,
        steps_cl=2,
        min_steps=3,
        stop_weight=0.3,
        seed=11,
    )


def test_without_options_it_is_the_preset_for_generated_leaves():
    assert configure(parse([])) == configure(parse(["--dataset", "leaves"])) == PRESETS["leaves"]()
    assert configure(parse(["--preset", "custom"])) == PRESETS["leaves"]()
    assert configure(parse(["--dataset", "shapes"])) == configure(parse(["--preset", "shapes"])) == PRESETS["shapes"]()


def test_a_generated_dataset_takes_no_files(tmp_path):
    for given in ({"root": str(tmp_path)}, {"annotations": "x.json"}, {"val_share": 0.2}, {"crowds": "objects"}):
        with pytest.raises(InputError, match=r"Received: --(data|dataset shapes)"):
            require_dataset(config.DataConfig(dataset="shapes", **given))
    # The settings of a run on files lose them with the dataset.
    stored = PRESETS["nuclei"]().changed(root=str(tmp_path), annotations="a.json", val_share=0.2, crowds="objects")
    config_file.write(stored, tmp_path / "config.json")
    data = configure(parse(["--config", str(tmp_path), "--dataset", "shapes"])).data
    assert (data.dataset, data.crowds) == ("shapes", "auto")
    assert {data.root, data.annotations, data.val_share} == {None}
    require_dataset(data)


def test_numbers_of_images_belong_to_their_dataset(tmp_path):
    stored = PRESETS["nuclei"]().changed(root="elsewhere", train_size=4, val_size=2, crowds="objects")
    config_file.write(stored, tmp_path / "config.json")
    command = f"--config {tmp_path} --data {tmp_path}"
    for options, sizes, crowds in (
        (f"--config {tmp_path}", (4, 2), "objects"),
        (command, (None, None), "objects"),
        (f"{command} --train-size 9", (9, None), "objects"),
        (f"{command} --dataset folder", (None, None), "auto"),
    ):
        data = configure(parse(options.split())).data
        assert ((data.train_size, data.val_size), data.crowds) == (sizes, crowds)
    photos = configure(parse(f"--preset leaves --dataset coco --data {tmp_path}".split())).data
    assert (photos.train_size, photos.val_size) == (None, None)


@pytest.mark.parametrize(
    "options",
    [
        "--preset paper --dataset shapes --found-by-votes 0.5",
        "--mask-head convolution --found-by-votes 0.5",
        "--partial-sequences 0 --found-by-votes 0.5",
    ],
)
def test_found_by_votes_is_refused_without_partial_sequences(options):
    with pytest.raises(InputError, match=r"is for partial sequences.* Received: --found-by-votes "):
        configure(parse(options.split()))


def test_the_earlier_name_of_the_shapes_is_accepted():
    assert presets.synthetic() == presets.shapes()
    assert presets.paper_synthetic() == presets.paper_shapes()
    assert config.DataConfig(dataset="synthetic") == config.DataConfig(dataset="shapes")
    for options in ("--dataset synthetic", "--preset synthetic", "--preset synthetic --dataset synthetic"):
        assert configure(parse(options.split())) == presets.shapes()
    assert configure(parse("--preset paper --dataset synthetic".split())) == presets.paper_shapes()


def test_the_default_is_the_recipe_for_your_own_data():
    ours, custom = configure(parse([])), PRESETS["custom"]()
    for field in ("mask_head", "class_features", "neck_channels", "hidden_size", "decoder_stages"):
        assert getattr(ours.model, field) == getattr(custom.model, field)
    assert ours.data.partial_sequences == 1
    assert ours.train.calibrate_objectness


def test_the_paper_without_data_is_trained_on_generated_images():
    paper = configure(parse(["--preset", "paper"]))
    assert (paper.data.dataset, paper.model.mask_head, paper.model.neck_channels) == ("leaves", "convolution", 0)
    shapes = configure(parse(["--preset", "paper", "--dataset", "shapes"]))
    assert (shapes.data.dataset, shapes.model.mask_head, shapes.model.num_classes) == ("shapes", "convolution", 4)
    assert configure(parse("--preset paper --data there".split())).data.dataset == "coco"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--data there", "Received: --data there"),
        ("--patience -1", "Received: patience=-1"),
        ("--class-loss-after -2", "Received: class_loss_after=-2"),
        ("--zoom 1.4 0.7", r"Received: zoom=\(1\.4, 0\.7\)"),
        ("--zoom nan 1", r"Received: zoom=\[nan, 1\.0\]"),
        ("--rotation -3", "Received: rotation=-3"),
        ("--transfer run --encoder-weights imagenet", "Received: --encoder-weights imagenet"),
    ],
)
def test_wrong_options_are_named(command, said):
    with pytest.raises(InputError, match=said):
        configure(parse(command.split()))


def test_a_resumed_run_keeps_its_settings(tmp_path):
    settings = PRESETS["cvppp"]()
    (tmp_path / "config.json").write_text(config_file.to_json(settings))
    assert resumed(parse(["--resume", str(tmp_path)])) == settings
    longer = resumed(parse(["--resume", str(tmp_path), "--epochs", "12000"]))
    assert longer == settings.changed(epochs=12000)
    with pytest.raises(InputError, match=r"Received: --batch-size, --seed with --resume"):
        resumed(parse(["--resume", str(tmp_path), "--seed", "1", "--batch-size", "2"]))


def test_the_data_of_a_resumed_run_may_have_moved(tmp_path):
    settings = PRESETS["custom"]().changed(dataset="coco", root="data")
    (tmp_path / "config.json").write_text(config_file.to_json(settings))
    assert resumed(parse(["--resume", str(tmp_path), "--data", "/moved"])) == settings.changed(root="/moved")
    named = resumed(parse(["--resume", str(tmp_path), "--annotations", "a.json", "--images", "photos"]))
    assert named == settings.changed(annotations="a.json", images="photos")
    with pytest.raises(InputError, match=r"Received: --dataset with --resume"):
        resumed(parse(["--resume", str(tmp_path), "--data", "/moved", "--dataset", "folder"]))


def test_a_resumed_run_cannot_stretch_a_cosine(tmp_path):
    (tmp_path / "config.json").write_text(config_file.to_json(PRESETS["leaves"]()))
    with pytest.raises(InputError, match=r"Received: epochs=99, where the cosine schedule"):
        resumed(parse(["--resume", str(tmp_path), "--epochs", "99"]))


def test_a_resumed_run_cannot_stretch_its_kept_statistics(tmp_path):
    settings = PRESETS["cvppp"]().changed(frozen_batch_norm=0.4)
    (tmp_path / "config.json").write_text(config_file.to_json(settings))
    assert resumed(parse(["--resume", str(tmp_path)])) == settings
    with pytest.raises(InputError, match=r"without --frozen-batch-norm.*Received: epochs=99, .* for 0\.4 of"):
        resumed(parse(["--resume", str(tmp_path), "--epochs", "99"]))


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Received: .*config\.json"):
        resumed(parse(["--resume", str(tmp_path)]))
