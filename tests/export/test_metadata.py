"""The metadata of exported files describes the network completely."""

import dataclasses
import json
import pathlib

import pytest

from export.graph import GraphSpec
from export.metadata import as_text, describe
from export.options import Options
from rsis_tf.config import ModelConfig
from rsis_tf.models import build_model
from rsis_tf.models.rsis import NETWORK_FIELDS

NOT_THE_NETWORK = {"dropout", "dropout_class", "dropout_stop", "category_ids", "num_steps", "class_names"}
NOT_THE_NETWORK |= {"image_size", "aspect", "stop_threshold"}
VOTING = {"neck_channels": 8, "mask_head": "voting", "class_features": "mask", "min_channels": 4, "decoder_stages": 4}


def test_every_field_of_the_configuration_belongs_to_the_network_or_not():
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    assert set(NETWORK_FIELDS) | {"num_classes"} == fields - NOT_THE_NETWORK


@pytest.mark.parametrize("fields", [{}, VOTING], ids=["paper", "voting"])
def test_the_network_can_be_rebuilt_from_the_metadata(fields: dict):
    model = build_model(ModelConfig(encoder="compact", hidden_size=16, num_classes=3, **fields))
    spec = GraphSpec(size=(48, 64), batch=1, steps=2)
    described = describe(model, spec, Options(source=pathlib.Path("a"), out=pathlib.Path("b")), format="onnx")
    described = json.loads(json.dumps(described))
    again = build_model(ModelConfig(**{name: described[name] for name in (*NETWORK_FIELDS, "num_classes")}))
    assert [variable.shape for variable in again.weights] == [variable.shape for variable in model.weights]
    assert as_text(described)["mask_head"] == model.config.mask_head
