"""An exported network small enough for these tests: smooth images in, masks of several parts each out."""

import json

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image


def write_network(path, class_names, *, size, steps=6, seed=0, metadata=()):
    """Writes a file with the exporter's names: step t's mask is a mixture of the colours, its objectness about t's own.

    Objectness falls on both sides of 0.2 and 0.5; class probabilities depend on the image.
    """
    rng = np.random.default_rng(seed)
    k = len(class_names)
    weights = {
        "scale": np.array(255, np.float32),
        "half": np.array(0.5, np.float32),
        "mix": (rng.normal(size=(steps, 3, 1, 1)) * 14).astype(np.float32),
        "mix_bias": (rng.normal(size=steps) - 3).astype(np.float32),
        "class_mix": (rng.normal(size=(1, steps, k)) * 2).astype(np.float32),
        "class_slope": (rng.normal(size=(1, steps, k)) * 4).astype(np.float32),
        "stop_mean": np.array([[2.0, -0.8, 1.0, -2.5, 0.4, -0.3, 3.0, -4.0][:steps]], np.float32),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["channels", "scale"], ["unit"]),
        helper.make_node("Sub", ["unit", "half"], ["centred"]),
        helper.make_node("Conv", ["centred", "mix", "mix_bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["masks"]),
        helper.make_node("ReduceMean", ["masks"], ["share"], axes=[2, 3], keepdims=0),  # (B, T)
        helper.make_node("Add", ["share", "stop_mean"], ["stop_logits"]),
        helper.make_node("Sigmoid", ["stop_logits"], ["stop"]),
        helper.make_node("Unsqueeze", ["share", "last"], ["column"]),  # (B, T, 1)
        helper.make_node("Mul", ["column", "class_slope"], ["sloped"]),
        helper.make_node("Add", ["sloped", "class_mix"], ["class_logits"]),
        helper.make_node("Softmax", ["class_logits"], ["classes"], axis=2),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *size, 3])],
        [
            helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["batch", steps, *size]),
            helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["batch", steps, k]),
            helper.make_tensor_value_info("stop", TensorProto.FLOAT, ["batch", steps]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    properties = {
        "class_names": json.dumps(list(class_names)),
        "image_size": json.dumps(size),
        "dynamic_size": "false",
        "num_steps": str(steps),
        "stop_threshold": "0.5",
        "mask_threshold": "0.5",
    }
    helper.set_model_props(model, properties | dict(metadata))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def outputs(path, image):
    """Runs the file with nothing but ONNX Runtime and Pillow: (T, h, w), (T, K), (T,) probabilities."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    height, width = session.get_inputs()[0].shape[1:3]
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    masks, classes, stop = session.run(["masks", "classes", "stop"], {"image": small[None]})
    return masks[0], classes[0], stop[0]


def smooth_image(rng, size):
    """Returns (H, W, 3) uint8, a few soft blobs in each colour."""
    small = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))
