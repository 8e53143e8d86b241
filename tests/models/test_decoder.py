"""The decoder: split gate convolution, skip modes, stages, dropout."""

import numpy as np
import pytest
from keras import ops

from rsis_tf.models import ModelConfig, build_model
from rsis_tf.models.conv_lstm import ConvLSTMCell
from rsis_tf.ops import resize


def images(batch=2, height=40, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3)).astype(np.uint8)


def model_of(**config):
    return build_model(ModelConfig(**{"encoder": "compact", "hidden_size": 16, "num_classes": 3, **config}))


def unsplit_step(cell, context, inputs, hidden, state):
    """The textbook cell: one convolution over everything, concatenated."""
    parts = [part for part in (context, inputs, hidden) if part is not None]
    gates = ops.conv(ops.concatenate(parts, -1), cell.gate_kernel, padding="same") + cell.gate_bias
    i, f, o, g = ops.split(gates, 4, axis=-1)
    new = ops.sigmoid(f) * state + ops.sigmoid(i) * ops.tanh(g)
    return ops.sigmoid(o) * ops.tanh(new), new


def test_gates_and_cell_state_are_float32_in_16_bits():
    """The cell state sums over all steps: in bfloat16, 256 + 1 is 256."""
    cell = ConvLSTMCell(filters=1, context_channels=1, input_channels=0, kernel_size=1, dtype="mixed_bfloat16")
    cell.gate_kernel.assign(np.zeros(cell.gate_kernel.shape))
    cell.gate_bias.assign([50.0, 50.0, 0.0, 50.0])  # adds 1 and forgets nothing
    context = cell.prepare(ops.zeros((1, 2, 2, 1), "bfloat16"))
    state = (ops.zeros((1, 2, 2, 1), "bfloat16"), ops.full((1, 2, 2, 1), 256.0))
    hidden, summed = cell(context, [], state)
    np.testing.assert_array_equal(summed, np.full((1, 2, 2, 1), 257.0, np.float32))
    assert hidden.dtype == "bfloat16"


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize(("context_channels", "input_channels"), [(3, 4), (3, 0), (0, 4)])
def test_split_cell_equals_one_convolution(kernel_size, context_channels, input_channels):
    rng = np.random.default_rng(1)
    cell = ConvLSTMCell(
        filters=5, context_channels=context_channels, input_channels=input_channels, kernel_size=kernel_size
    )
    cell.gate_kernel.assign(rng.normal(size=cell.gate_kernel.shape))
    cell.gate_bias.assign(rng.normal(size=cell.gate_bias.shape))

    def random(channels):
        return ops.convert_to_tensor(rng.normal(size=(2, 6, 7, channels)).astype("float32")) if channels else None

    context, given, hidden, state = random(context_channels), random(input_channels), random(5), random(5)
    prepared = cell.prepare(context)
    expected = unsplit_step(cell, context, given, hidden, state)
    # A part for each channel is the same as one with all.
    inputs = [] if given is None else ops.split(given, input_channels, axis=-1)
    for got, wanted in zip(cell(prepared, inputs, (hidden, state)), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    zeros = ops.zeros_like(hidden)
    first = cell(prepared, inputs, None)
    for got, wanted in zip(first, unsplit_step(cell, context, given, zeros, zeros), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("skip_mode", ["concat", "sum", "mul", "none"])
def test_skip_modes_equal_their_definition(skip_mode, kernel_size):
    model = model_of(skip_mode=skip_mode, kernel_size=kernel_size)
    rng = np.random.default_rng(2)
    for variable in model.decoder.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    projections = model.project(images(), training=False)
    _, states = model.unroll(images(), 3, training=False)
    hidden_and_cell = [(ops.zeros_like(hidden), ops.zeros_like(cell)) for hidden, cell in states]
    for _ in range(3):
        x = None
        for stage, (cell, projection) in enumerate(zip(model.decoder.cells, projections, strict=True)):
            context, inputs = (projection, None) if stage == 0 else (None, resize(x, projection.shape[1:3]))
            if stage > 0:
                if skip_mode == "concat":
                    context = projection
                elif skip_mode == "sum":
                    inputs = inputs + projection
                elif skip_mode == "mul":
                    inputs = inputs * projection
            hidden_and_cell[stage] = unsplit_step(cell, context, inputs, *hidden_and_cell[stage])
            x = hidden_and_cell[stage][0]
    for (hidden, cell), (wanted_hidden, wanted_cell) in zip(states, hidden_and_cell, strict=True):
        np.testing.assert_allclose(hidden, wanted_hidden, atol=1e-5)
        np.testing.assert_allclose(cell, wanted_cell, atol=1e-5)


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
def test_fewer_stages_still_give_full_size_masks(stages):
    model = model_of(decoder_stages=stages)
    outputs = model(images(), num_steps=2, training=False)
    assert outputs["mask_logits"].shape == (2, 2, 40, 56)
    assert model.decoder.class_head.kernel.shape[0] == sum((16, 8, 4, 2, 1)[:stages])


def test_min_channels_widens_the_fine_stages():
    model = model_of(hidden_size=32, min_channels=8)
    assert [cell.filters for cell in model.decoder.cells] == [32, 16, 8, 8, 8]
    assert model(images(), num_steps=1, training=False)["mask_logits"].shape == (2, 1, 40, 56)


def test_dropout_acts_in_training_and_is_off_at_inference():
    config = {"dropout": 0.5, "dropout_class": 0.5, "dropout_stop": 0.5}
    model, plain = model_of(**config), model_of()
    plain.set_weights([ops.convert_to_numpy(v) for v in plain_variables(model)])
    at_rest = model(images(), num_steps=3, training=False)
    for key, value in plain(images(), num_steps=3, training=False).items():
        np.testing.assert_array_equal(at_rest[key], value)
    first, second = (model(images(), num_steps=3, training=True) for _ in range(2))
    for key in first:
        assert not np.allclose(first[key], second[key]), key


def plain_variables(model):
    """Weights without the states of dropout's random generators."""
    return [variable for variable in model.weights if "seed" not in variable.path]
