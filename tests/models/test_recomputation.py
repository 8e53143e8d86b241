"""Steps that run again for their gradients: the same results and gradients, and less memory is asked for."""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import ops

from rsis_tf.config import ModelConfig, TrainConfig
from rsis_tf.config.presets import nuclei
from rsis_tf.data.pipeline import plain_batches
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.errors import InputError
from rsis_tf.models import build_model
from rsis_tf.models.recomputation import recomputed
from rsis_tf.training import compile_model

VOTING = {"neck_channels": 8, "mask_head": "voting", "class_features": "mask", "decoder_stages": 4}


class Pair(NamedTuple):
    one: Any
    other: Any


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="uses a gradient tape")
def test_any_structure_passes_and_the_function_runs_twice():
    import tensorflow as tf

    calls = []

    def function(pair, extra):
        calls.append(1)
        assert pair.other is None
        return Pair({"square": ops.square(pair.one) * extra[0]}, None)

    x = tf.constant([1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = recomputed(function)(Pair(x, None), [3, "kept"])
        loss = ops.sum(result.one["square"])
    assert result.other is None
    assert len(calls) == 1
    np.testing.assert_allclose(tape.gradient(loss, x), [6, 12])
    assert len(calls) == 2


@pytest.mark.parametrize("form", [{}, VOTING], ids=["paper", "voting"])
def test_a_training_step_changes_the_weights_in_the_same_way(form):
    settings = nuclei().changed(image_size=(32, 32), batch_size=2, max_objects=2, dataset="shapes")
    scenes = SyntheticDataset(size=(32, 32), length=4, seed=3, max_objects=2)
    images, targets = next(plain_batches(scenes, settings.data, training=bool(form)))
    trained = []
    for recompute in (False, True):
        keras.utils.set_random_seed(0)
        config = ModelConfig(encoder="compact", hidden_size=16, num_classes=4, image_size=(32, 32), **form)
        model = build_model(config)
        # With plain gradient descent, weights differ as gradients do.
        optimization = {"learning_rate": 1e-2, "encoder_learning_rate": 1e-2, "optimizer": "sgd"}
        compile_model(model, TrainConfig(num_steps=3, recompute=recompute, **optimization))
        assert model.recompute_steps == recompute
        losses = model.train_on_batch(images, targets, return_dict=True)
        trained.append((float(losses["loss"]), [ops.convert_to_numpy(weight) for weight in model.weights]))
    (loss, weights), (loss_again, weights_again) = trained
    assert loss_again == pytest.approx(loss, rel=1e-5)
    for one, other in zip(weights, weights_again, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_dropout_is_refused():
    with pytest.raises(InputError, match=r"dropout must be 0 with recompute.* Received: 0\.1|Received: dropout=0\.1"):
        nuclei().changed(recompute=True, dropout=0.1)
