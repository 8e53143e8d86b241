"""Settings in groups: how they are made, changed, checked and read."""

import copy
import dataclasses
import json
import pickle
import re

import numpy as np
import pytest

from rsis_tf import config
from rsis_tf.config import (
    AugmentationConfig,
    CurriculumConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TrainConfig,
    json_file,
)
from rsis_tf.config.mask_heads import MASK_HEADS
from rsis_tf.config.presets import PRESETS, custom, nuclei
from rsis_tf.errors import InputError


def test_fields_are_given_by_name_or_in_their_group():
    flat = TrainConfig(num_steps=5, learning_rate=0.1, stop_balance=0.25, patience=3)
    grouped = TrainConfig(
        num_steps=5,
        optimization=OptimizerConfig(learning_rate=0.1),
        losses=LossConfig(stop_balance=0.25),
        curriculum=CurriculumConfig(patience=3),
    )
    assert flat == grouped
    assert flat.optimization.learning_rate == 0.1
    assert DataConfig(augment=True) == DataConfig(transforms=AugmentationConfig(augment=True))


def test_a_field_given_with_its_group_replaces_the_value_in_the_group():
    train = TrainConfig(losses=LossConfig(class_weight=2.0, stop_weight=3.0), stop_weight=4.0)
    assert (train.losses.class_weight, train.losses.stop_weight) == (2.0, 4.0)


def test_changed_keeps_everything_else():
    before = TrainConfig(learning_rate=0.1, epochs=7, class_weight=2.0)
    after = before.changed(epochs=8, stop_weight=0.125)
    differing = {name for name, value in after.flat().items() if before.flat()[name] != value}
    assert differing == {"epochs", "stop_weight"}
    assert before.epochs == 7


@pytest.mark.parametrize("cls", [TrainConfig, DataConfig])
def test_a_name_that_is_no_setting_is_refused(cls):
    with pytest.raises(TypeError, match=r"Received: learning_rat$"):
        cls(learning_rat=0.1)
    with pytest.raises(TypeError, match=r"Received: learning_rat$"):
        cls().changed(learning_rat=0.1)


@pytest.mark.parametrize("cls", [TrainConfig, DataConfig])
def test_names_of_fields_are_unique(cls):
    members = [len(dataclasses.fields(group)) for group in cls.groups().values()]
    assert len(cls.names()) == sum(members) + len(dataclasses.fields(cls)) - len(members)
    assert cls().flat().keys() == cls.names()


def test_settings_are_frozen_and_can_be_copied():
    train = TrainConfig(head_loss_weights={"voting_loss": 2.0})
    with pytest.raises(AttributeError):
        train.epochs = 3
    assert copy.deepcopy(train) == pickle.loads(pickle.dumps(train)) == train
    assert hash(train) == hash(copy.deepcopy(train))


def test_switches_stand_for_never():
    assert TrainConfig(use_class_loss=True, use_stop_loss=True, update_encoder=True) == TrainConfig()
    off = TrainConfig(use_class_loss=False, use_stop_loss=False, update_encoder=False, class_loss_after=9)
    never = CurriculumConfig(class_loss_after=-1, stop_loss_after=-1, finetune_after=-1)
    assert off.curriculum == never


def test_earlier_names_are_accepted_and_read():
    train, data = TrainConfig(train_steps=3), DataConfig(begin_anywhere=0.5)
    assert train.sequence_length == train.train_steps == 3
    assert data.partial_sequences == data.begin_anywhere == 0.5
    assert train.learning_rate == train.optimization.learning_rate
    with pytest.raises(AttributeError, match="Received: learning_rat"):
        _ = train.learning_rat


def test_weights_of_a_mask_head_default_to_its_table():
    assert LossConfig().of_head("convolution") == {}
    assert LossConfig().of_head("voting") == MASK_HEADS["voting"].loss_weights
    train = TrainConfig(voting_weight=3.0).changed(pointing_weight=0.5)
    assert train.losses.of_head("voting") == {"voting_loss": 3.0, "pointing_loss": 0.5}


@pytest.mark.parametrize("weights", [{"voting": 1.0}, {"voting_loss": -1.0}])
def test_weights_of_no_loss_or_below_zero_are_refused(weights):
    with pytest.raises(InputError, match="Received: head_loss_weights="):
        TrainConfig(head_loss_weights=weights)


def test_weights_must_belong_to_the_mask_head_of_the_model():
    with pytest.raises(InputError, match=r"with mask_head='convolution'. Received: head_loss_weights="):
        RunConfig(model=ModelConfig(), data=DataConfig(), train=TrainConfig(voting_weight=2.0))
    settings = nuclei().changed(voting_weight=2.0)
    other = settings.changed(mask_head="convolution", partial_sequences=0.0)
    assert other.train.losses.head_loss_weights == {}


def test_data_and_training_follow_the_model():
    model = ModelConfig(image_size=(32, 48), aspect="keep", num_steps=3)
    settings = RunConfig(model=model, data=DataConfig(image_size=(8, 8)), train=TrainConfig(num_steps=9))
    assert (settings.data.image_size, settings.data.aspect, settings.train.num_steps) == ((32, 48), "keep", 3)
    larger = settings.changed(image_size=(64, 64), num_steps=4)
    assert larger.model.image_size == larger.data.image_size == (64, 64)
    assert larger.model.num_steps == larger.train.num_steps == 4


def test_a_run_is_changed_by_the_names_of_its_settings():
    settings = custom().changed(encoder="compact", root="photos", epochs=3, zoom=(0.5, 1.0), seed=7)
    assert (settings.model.encoder, settings.data.root, settings.train.epochs) == ("compact", "photos", 3)
    assert settings.data.transforms.zoom == (0.5, 1.0)
    assert settings.data.seed == settings.train.seed == 7
    assert settings.flat()["zoom"] == (0.5, 1.0)
    with pytest.raises(TypeError, match=r"Received: epoch$"):
        settings.changed(epoch=3)


def test_resolved_settings_write_out_the_weights_of_the_head_and_change_nothing_else():
    for make in PRESETS.values():
        settings = make()
        weights = MASK_HEADS[settings.model.mask_head].loss_weights
        assert settings.resolved().train.losses.head_loss_weights == weights
        assert settings.resolved().changed(head_loss_weights={}) == settings


@pytest.mark.parametrize("size", [(0, 8), (8,), (8, 8.5)])
def test_an_image_size_is_two_positive_integers(size):
    for cls in (ModelConfig, DataConfig):
        with pytest.raises(InputError, match=r"Received: image_size=\("):
            cls(image_size=size)


WRONG = ("wide", [], {}, None, float("nan"), True, 16.5, 10**30, 10**4999, -1, "\ud800", [[]])


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("make", [ModelConfig, DataConfig, TrainConfig])
def test_a_value_of_another_type_or_beyond_all_use_is_refused_in_one_line(make, value):
    """Every field is tried. Some take the value, and then they hold what their type says."""
    defaults = vars(make()) if make is ModelConfig else make().flat()
    refused, taken = {}, {}
    for name in defaults:
        try:
            taken[name] = getattr(make(**{name: value}), name)
        except InputError as refusal:
            refused[name] = str(refusal)
    assert len(refused) >= 9
    for name, message in refused.items():
        assert re.fullmatch(rf"[^\n]*Received: {name}=[^\n]*", message)
        assert len(message) < 600
    for name, got in taken.items():
        assert defaults[name] is None or got is None or type(got) in (type(defaults[name]), int), name


@pytest.mark.parametrize(
    ("setting", "largest"),
    [("seed", 2**32 - 1), ("batch_size", 65_536), ("hidden_size", 2048), ("epochs", 10**6), ("learning_rate", 1000)],
)
def test_upper_bounds(setting, largest):
    settings = nuclei()
    assert settings.changed(**{setting: largest}).flat()[setting] == largest
    with pytest.raises(InputError, match=rf"{setting} must be .*\.\.{largest:,}\. Received: {setting}={largest + 16}"):
        settings.changed(**{setting: largest + 16})


def test_numbers_of_numpy_and_paths_are_stored_as_plain_values(tmp_path):
    settings = nuclei().changed(epochs=np.int64(3), ema=np.float32(0.5), root=tmp_path, image_size=[32, np.int32(64)])
    assert (settings.train.epochs, settings.train.optimization.ema, settings.data.root) == (3, 0.5, str(tmp_path))
    assert json_file.from_dict(RunConfig, json.loads(json_file.to_json(settings))) == settings


def test_names_in_the_settings_are_those_of_the_implementations():
    from rsis_tf.data.augment import AUGMENTATIONS
    from rsis_tf.models.encoders import ENCODERS

    assert sorted(config.ENCODER_NAMES) == sorted(ENCODERS)
    assert sorted(config.AUGMENTATION_NAMES) == sorted(AUGMENTATIONS)
