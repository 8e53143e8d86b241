"""The metadata of an exported file: inside the ONNX file, and in a JSON file beside every format."""

import datetime
import json
from typing import Any

import rsis_tf
from export.graph import GraphSpec
from export.options import Options
from rsis_tf.models import RSIS
from rsis_tf.models.encoders import ENCODERS
from rsis_tf.models.rsis import NETWORK_FIELDS

FORMAT_VERSION = 1
"""Version of the names, shapes and keys; a reader may refuse a number that it does not know."""

_PADDING = {
    "stretch": "none: the image fills image_size, each axis scaled by itself",
    "keep": "black: the image is scaled as a whole and lies in the middle of image_size; the same part of each mask is "
    "the image's",
}


def describe(model: RSIS, spec: GraphSpec, options: Options, *, format: str, **extra: Any) -> dict[str, Any]:
    """Returns what an application needs in order to run the file and to show its results.

    Args:
        model: the network.
        spec: shape of the graph.
        options: thresholds, precision and terms of use.
        format: "onnx", "saved_model" or "tflite".
        **extra: what only this format has.

    Returns:
        Plain values, ready for JSON.
    """
    config, encoder = model.config, ENCODERS[model.config.encoder]
    names = config.class_names or ("background", *(f"class {i}" for i in range(1, config.num_classes)))
    return {
        "format": format,
        "format_version": FORMAT_VERSION,
        "class_names": list(names),
        "category_ids": list(config.category_ids),
        "num_steps": spec.steps,
        "stop_threshold": options.stop_threshold,
        "mask_threshold": options.mask_threshold,
        "image_size": list(spec.size or config.image_size),
        "dynamic_size": spec.size is None,
        "aspect": spec.aspect,
        "input": {
            "name": "image",
            "shape": list(spec.named_input_shape),
            "dtype": spec.input_type,
            "values": "RGB, 0..255",
        },
        "outputs": {
            "masks": "(batch, step, height, width) probabilities at the size the network runs at",
            "classes": "(batch, step, class) probabilities, class 0 = background",
            "stop": "(batch, step) objectness; the sequence ends at the first step below stop_threshold",
        },
        "normalization": {"in_graph": True, "scale": 1 / 255, "mean": list(encoder.mean), "std": list(encoder.std)},
        "resize": "antialiased triangle filter, in the graph" if spec.resize else "none in the graph",
        "padding": _PADDING[spec.aspect],
        "num_classes": config.num_classes,
        **{name: getattr(config, name) for name in NETWORK_FIELDS},
        "precision": options.precision,
        "version": rsis_tf.__version__,
        "license": options.license,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **extra,
    }


def as_text(metadata: dict[str, Any]) -> dict[str, str]:
    """Returns the metadata as text: strings as they are, everything else as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}


def to_json(metadata: dict[str, Any]) -> str:
    """Returns the content of the JSON file."""
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
