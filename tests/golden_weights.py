"""Builds models with the golden vectors' weights, which are functions of PyTorch's names and shapes."""

import importlib.util
import json
import pathlib

import numpy as np

from rsis_tf.models import RSIS, ModelConfig, build_model
from rsis_tf.models.pytorch.convert import load_state_dicts
from rsis_tf.models.pytorch.names import decoder_pairs, encoder_pairs

GOLDEN = pathlib.Path(__file__).parent / "golden"
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])
FORWARD = {
    "vgg16": {"encoder": "vgg16"},
    "resnet34": {"encoder": "resnet34"},
    "resnet34_odd": {"encoder": "resnet34"},
    "resnet34_sum": {"encoder": "resnet34", "skip_mode": "sum"},
    "resnet50": {"encoder": "resnet50"},
}
"""Configuration of each `forward_*.npz`."""

_spec = importlib.util.spec_from_file_location("golden_recipe", GOLDEN / "recipe.py")
_recipe = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_recipe)
parameter = _recipe.parameter


def checkpoint(keys: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns encoder and decoder state of `<keys>.keys.json`, classifier of the backbone included if listed."""
    states: dict[str, dict[str, np.ndarray]] = {"encoder": {}, "decoder": {}}
    for full_name, shape in json.loads((GOLDEN / f"{keys}.keys.json").read_text()).items():
        part, name = full_name.split(".", 1)
        states[part][name] = parameter(name, tuple(shape))
    return states["encoder"], states["decoder"]


def recipe_states(model: RSIS) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns states made by the recipe for any model, whether or not a list of keys is stored for it."""
    encoder = {pair.name: parameter(pair.name, pair.torch_shape) for pair in encoder_pairs(model)}
    decoder = {pair.name: parameter(pair.name, pair.torch_shape) for pair in decoder_pairs(model)}
    return encoder, decoder


def golden_model(**config: object) -> RSIS:
    """Builds a model and fills it by the recipe."""
    model = build_model(ModelConfig(**{"hidden_size": 32, "num_classes": 21, **config}))
    load_state_dicts(model, *recipe_states(model))
    return model


def golden_image(normalised: np.ndarray) -> np.ndarray:
    """Returns (B, H, W, 3) float32 in 0..255 from the original's normalised (B, 3, H, W)."""
    return ((normalised.transpose(0, 2, 3, 1) * STD + MEAN) * 255).astype(np.float32)
