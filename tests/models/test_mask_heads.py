"""The interface of mask heads: a new head is one class and one row, and saved weights keep their names and order."""

import numpy as np
import pytest
from keras import ops

from rsis_tf.config import ModelConfig, TrainConfig
from rsis_tf.config.mask_heads import MASK_HEADS, MaskHeadSpec
from rsis_tf.models import build_model
from rsis_tf.models.mask_heads.convolution import ConvolutionHead
from rsis_tf.models.mask_heads.interface import HeadStep, mask_head_class
from rsis_tf.training import compile_model

VOTING = {"neck_channels": 8, "mask_head": "voting"}


class CountingHead(ConvolutionHead):
    """The paper's head, with a state that counts the steps, which every stage and the class head read."""

    input_channels = 1
    feature_channels = 2

    def prepare(self, maps, sizes, image_size):
        return {"ones": ops.ones_like(maps[len(sizes) - 1][..., :1])}, {"brightness": maps[0]}

    def start(self, context, found):
        return {"count": 0 * context.head["ones"]}

    def stage_inputs(self, state, context):
        return [ops.ones((1, *size, 1)) * ops.max(state["count"], axis=(1, 2), keepdims=True) for size in context.sizes]

    def step(self, hidden, context, state):
        drawn = super().step(hidden, context, state)
        features = ops.concatenate([ops.max(state["count"], axis=(1, 2))] * 2, axis=-1)
        state = {"count": state["count"] + context.head["ones"]}
        return HeadStep(drawn.mask_logits, state, features, {"counts": state["count"]})


def count_losses(targets, outputs, assignment):
    return {"count_loss": ops.mean(outputs["counts"]) + 0 * ops.sum(assignment.pairs)}


@pytest.fixture
def counting(monkeypatch):
    spec = MaskHeadSpec(
        implementation=f"{__name__}:CountingHead",
        layer="counting",
        losses=f"{__name__}:count_losses",
        loss_weights={"count_loss": 0.5},
    )
    monkeypatch.setitem(MASK_HEADS, "counting", spec)
    return build_model(ModelConfig(encoder="compact", hidden_size=16, num_classes=3, mask_head="counting"))


def test_a_new_head_is_one_class_and_one_row(counting):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    outputs = counting(images, num_steps=3, training=False)
    assert outputs["mask_logits"].shape == (2, 3, 32, 32)
    assert outputs["brightness"].shape == (2, 1, 1, 16)
    np.testing.assert_array_equal(np.max(outputs["counts"], axis=(0, 1, 2)), [1, 2, 3])
    compile_model(counting, TrainConfig(num_steps=3))
    masks = np.zeros((2, 2, 32, 32), np.uint8)
    masks[:, 0, :16] = 1
    targets = {"masks": masks, "classes": np.ones((2, 2), np.int32), "valid": np.array([[1, 0]] * 2, np.uint8)}
    losses = {name: float(value) for name, value in counting.test_on_batch(images, targets, return_dict=True).items()}
    assert losses["count_loss"] == 2
    others = losses["mask_loss"] + 0.1 * losses["class_loss"] + 0.5 * losses["stop_loss"]
    assert losses["loss"] == pytest.approx(others + 0.5 * 2, rel=1e-5)


@pytest.mark.parametrize("name", sorted(MASK_HEADS))
def test_rows_of_the_table_name_what_exists(name):
    fields = VOTING if MASK_HEADS[name].needs_neck else {"mask_head": name}
    model = build_model(ModelConfig(encoder="compact", hidden_size=16, num_classes=3, **fields))
    assert isinstance(getattr(model.decoder, MASK_HEADS[name].layer), mask_head_class(name))


@pytest.mark.parametrize("name", ["convolution", "voting"])
def test_order_of_the_weights_in_saved_states(name):
    """The arrays in the state of a run have no names: their order is that of the weights."""
    fields = VOTING if name == "voting" else {}
    decoder = build_model(ModelConfig(encoder="compact", hidden_size=16, num_classes=3, **fields)).decoder
    heads = [decoder.class_head, decoder.stop_head]
    if name == "voting":
        layers = [decoder.voting, *decoder.cells, *heads]
    else:
        layers = [*decoder.cells, decoder.mask_head, *heads]
    expected = [id(variable) for layer in layers for variable in layer.trainable_variables]
    assert [id(variable) for variable in decoder.trainable_variables] == expected
