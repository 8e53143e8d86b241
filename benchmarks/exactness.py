"""Prints the differences of the network and its training from the original's numbers: python benchmarks/exactness.py"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))

from golden_weights import FORWARD, GOLDEN, checkpoint, golden_image, golden_model

from rsis_tf.models import ModelConfig, build_model
from rsis_tf.models.pytorch.convert import load_state_dicts
from rsis_tf.training import TrainConfig, compile_model

TERMS = ("loss", "mask_loss", "stop_loss", "class_loss")


def forward() -> None:
    """Prints the largest absolute difference of each output, and of the states after the last step."""
    print(f"{'forward':<14}{'mask logits':>14}{'class probs':>14}{'stop logits':>14}{'states':>14}")
    for name, config in FORWARD.items():
        golden = np.load(GOLDEN / f"forward_{name}.npz")
        model = golden_model(**config)
        outputs, states = model.unroll(golden_image(golden["image"]), golden["mask_logits"].shape[1], training=False)
        cells = [np.abs(outputs[key] - golden[key]).max() for key in ("mask_logits", "class_probs", "stop_logits")]
        pairs = [
            np.abs(np.transpose(state, (0, 3, 1, 2)) - golden[f"{kind}{stage}"]).max()
            for stage, both in enumerate(states)
            for kind, state in zip(("hidden", "cell"), both, strict=True)
        ]
        print(f"{name:<14}" + "".join(f"{value:>14.1e}" for value in [*cells, max(pairs)]))


def training() -> None:
    """Prints the largest relative difference of a loss in three optimiser steps and the validation pass after them."""
    print(f"\n{'training':<14}{'losses':>14}{'validation':>14}")
    for name in ("full", "masks_only"):
        golden = np.load(GOLDEN / f"train_{name}.npz")
        model = build_model(ModelConfig(encoder="resnet34", hidden_size=16, num_classes=21))
        load_state_dicts(model, *checkpoint("resnet34_hidden16"))
        full = name == "full"
        compile_model(model, TrainConfig(num_steps=5, use_class_loss=full, use_stop_loss=full, update_encoder=full))
        masks = np.unpackbits(golden["masks"], axis=-1).reshape(-1, 8, 64, 64)
        batch = (
            golden_image(golden["image"]),
            {"masks": masks, "classes": golden["classes"], "valid": golden["mask_weight"]},
        )
        steps = [model.train_on_batch(*batch, return_dict=True) for _ in range(3)]
        worst = max(
            abs(losses[term] / expected - 1)
            for losses, row in zip(steps, golden["losses"], strict=True)
            for term, expected in zip(TERMS, row, strict=True)
        )
        after = model.test_on_batch(*batch, return_dict=True)
        validation = max(abs(after[term] / value - 1) for term, value in zip(TERMS, golden["val_losses"], strict=True))
        print(f"{name:<14}{worst:>14.1e}{validation:>14.1e}")


if __name__ == "__main__":
    forward()
    training()
