"""An ONNX file may keep weights in other files; ONNX Runtime must not read those outside of its folder."""

import numpy as np
import onnx
import pytest

from rsis_tf.runtime import InputError, Predictor


@pytest.mark.parametrize("kind", ["parent folder", "absolute path", "link", "inside"])
def test_only_weights_in_the_folder_of_the_model_are_read(toy_model, tmp_path, kind):
    folder = tmp_path / "model"
    folder.mkdir()
    secret = folder / "inside.bin" if kind == "inside" else tmp_path / "secret.bin"
    secret.write_bytes(np.ones(9, np.float32).tobytes())
    if kind == "link":
        (folder / "weights.bin").symlink_to(secret)
    places = {"parent folder": "../secret.bin", "absolute path": str(secret), "link": "weights.bin"}
    model = onnx.load(toy_model())
    (weights,) = (tensor for tensor in model.graph.initializer if tensor.name == "probs")
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=places.get(kind, secret.name))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    if kind == "inside":
        assert len(Predictor(folder / "model.onnx")(np.full((8, 8, 3), 255, np.uint8))) == 3
        return
    with pytest.raises(InputError, match="expected an ONNX file that loads"):
        Predictor(folder / "model.onnx")
