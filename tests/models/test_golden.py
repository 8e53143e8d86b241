"""The network against numbers of the original PyTorch code."""

import numpy as np
import pytest
from golden_weights import FORWARD, GOLDEN, checkpoint, golden_image, golden_model
from keras import ops

from rsis_tf.models.pytorch.convert import load_state_dicts

# Every bound is at most five times the largest difference measured with oneDNN's SSE 4.1, AVX, AVX2 and AVX-512,
# without oneDNN, and with one thread. The largest differences stand beside the bounds.


@pytest.mark.parametrize("name", sorted(FORWARD))
def test_forward_equals_the_original(name):
    golden = np.load(GOLDEN / f"forward_{name}.npz")
    model = golden_model(**FORWARD[name])
    if FORWARD[name].get("skip_mode") is None:  # the listed keys are those of "concat"
        load_state_dicts(model, *checkpoint(FORWARD[name]["encoder"]))
    images = golden_image(golden["image"])
    projections = model.project(images, training=False)
    for level, projection in zip((5, 4, 3, 2, 1), projections, strict=True):
        np.testing.assert_allclose(_channels_first(projection), golden[f"skip{level}"], atol=6e-5)  # 1.7e-5
    outputs, states = model.unroll(images, golden["mask_logits"].shape[1], training=False)
    np.testing.assert_allclose(outputs["mask_logits"], golden["mask_logits"], atol=1.5e-6)  # 3.8e-7
    np.testing.assert_allclose(outputs["stop_logits"], golden["stop_logits"], atol=3e-6)  # 7.6e-7
    np.testing.assert_allclose(outputs["class_probs"], golden["class_probs"], atol=4e-7)  # 9.7e-8
    for stage, (hidden, cell) in enumerate(states):
        np.testing.assert_allclose(_channels_first(hidden), golden[f"hidden{stage}"], atol=4e-5)  # 9.6e-6
        np.testing.assert_allclose(_channels_first(cell), golden[f"cell{stage}"], atol=6e-5)  # 1.6e-5


def _channels_first(x):
    return ops.convert_to_numpy(x).transpose(0, 3, 1, 2)
