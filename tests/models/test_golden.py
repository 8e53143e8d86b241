"""The network against numbers of the original PyTorch code."""

import numpy as np
import pytest
from golden_weights import FORWARD, GOLDEN, checkpoint, golden_model, picture
from keras import ops

from rsis_tf.models.pytorch.convert import load_state_dicts


@pytest.mark.parametrize("name", sorted(FORWARD))
def test_forward_equals_the_original(name):
    golden = np.load(GOLDEN / f"forward_{name}.npz")
    model = golden_model(**FORWARD[name])
    if FORWARD[name].get("skip_mode") is None:  # the listed keys are those of "concat"
        load_state_dicts(model, *checkpoint(FORWARD[name]["encoder"]))
    images = picture(golden["image"])
    projections = model.project(images, training=False)
    for level, projection in zip((5, 4, 3, 2, 1), projections, strict=True):
        np.testing.assert_allclose(_channels_first(projection), golden[f"skip{level}"], atol=1e-4)
    outputs, states = model.unroll(images, golden["mask_logits"].shape[1], training=False)
    np.testing.assert_allclose(outputs["mask_logits"], golden["mask_logits"], atol=1e-4)
    np.testing.assert_allclose(outputs["stop_logits"], golden["stop_logits"], atol=1e-4)
    np.testing.assert_allclose(outputs["class_probs"], golden["class_probs"], atol=1e-5)
    for stage, (hidden, cell) in enumerate(states):
        np.testing.assert_allclose(_channels_first(hidden), golden[f"hidden{stage}"], atol=1e-4)
        np.testing.assert_allclose(_channels_first(cell), golden[f"cell{stage}"], atol=1e-4)


def _channels_first(x):
    return ops.convert_to_numpy(x).transpose(0, 3, 1, 2)
