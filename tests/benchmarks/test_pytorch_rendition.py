"""The PyTorch version of the network computes the outputs of the Keras model."""

import pathlib
import sys

import numpy as np
import pytest

from rsis_tf.config import ModelConfig
from rsis_tf.models import build_model
from rsis_tf.models.pytorch.convert import state_dicts

torch = pytest.importorskip("torch")
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))


@pytest.mark.parametrize(("encoder", "size"), [("resnet34", (64, 96)), ("resnet50", (64, 64))])
def test_outputs_are_those_of_the_keras_model(encoder, size):
    """Whether each step convolves the projections again, or they are convolved once."""
    from pytorch_rendition import Rendition

    model = build_model(ModelConfig(encoder=encoder, hidden_size=32, num_classes=5))
    shape = {"encoder": encoder, "hidden_size": 32, "num_classes": 5, "num_steps": 3}
    rendition = Rendition(**shape).eval()
    for part, state in zip((rendition.encoder, rendition.decoder), state_dicts(model), strict=True):
        missing, unexpected = part.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
        assert not unexpected
        assert all(name.endswith("num_batches_tracked") for name in missing)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    wanted = model(images, num_steps=3, training=False)
    hoisted = Rendition(**shape, hoisted=True).eval()
    hoisted.load_state_dict(rendition.state_dict())
    with torch.inference_mode():
        outputs = rendition(torch.from_numpy(images))
        for channels_last in (False, True):
            again = hoisted(torch.from_numpy(images), channels_last=channels_last)
            torch.testing.assert_close(again, outputs, atol=1e-5, rtol=0)
    masks, classes, stop = (output.numpy() for output in outputs)
    np.testing.assert_allclose(masks, 1 / (1 + np.exp(-np.asarray(wanted["mask_logits"]))), atol=1e-4)
    np.testing.assert_allclose(classes, wanted["class_probs"], atol=1e-4)
    np.testing.assert_allclose(stop, 1 / (1 + np.exp(-np.asarray(wanted["stop_logits"]))), atol=1e-4)
