"""ImageNet weights for the encoder: torchvision's files, downloaded and given."""

import functools
import hashlib
import http.server
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest
from golden_weights import parameter
from legacy_torch import state_bytes

from rsis_tf import config
from rsis_tf.errors import InputError
from rsis_tf.models import ModelConfig, build_model
from rsis_tf.models.encoders import ENCODERS
from rsis_tf.models.pretrained import TORCHVISION, Download, load_encoder_weights
from rsis_tf.models.pytorch.convert import state_dicts
from rsis_tf.models.pytorch.names import backbone_pairs

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model():
    return build_model(ModelConfig(encoder="resnet34", hidden_size=16, num_classes=2))


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    """A folder with a file like torchvision's: all of ResNet-34 and its classifier, without `num_batches_tracked`."""
    state = {pair.name: parameter(pair.name, pair.torch_shape) for pair in backbone_pairs(model)}
    state["fc.weight"], state["fc.bias"] = np.zeros((1000, 512), "f4"), np.zeros(1000, "f4")
    folder = tmp_path_factory.mktemp("served")
    (folder / "resnet34-b627a593.pth").write_bytes(state_bytes(state, storage="torch", location="cpu"))
    return folder, state["layer3.0.downsample.0.weight"]


@pytest.fixture
def cache(tmp_path):
    """A cache of the test; downloads lie in `models/`."""
    return tmp_path


def rows(folder: pathlib.Path, address: str | None = None, **changes: str) -> dict[str, Download]:
    file = folder / "resnet34-b627a593.pth"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"resnet34": Download(**{"address": address or file.as_uri(), "sha256": digest, **changes})}


def loaded(model) -> np.ndarray:
    return state_dicts(model)[0]["base.layer3.0.downsample.0.weight"]


def test_imagenet_is_downloaded_once_and_read(model, served, cache):
    folder, wanted = served
    load_encoder_weights(model, "imagenet", cache=cache, downloads=rows(folder))
    np.testing.assert_array_equal(loaded(model), wanted)
    assert [path.name for path in (cache / "models").iterdir()] == ["resnet34-b627a593.pth"]
    # The second time nothing is fetched: there is nothing at the address.
    load_encoder_weights(
        model, "imagenet", cache=cache, downloads=rows(folder, f"{folder.as_uri()}/none/resnet34-b627a593.pth")
    )


def test_half_a_file_in_the_cache_is_replaced(model, served, cache):
    (cache / "models").mkdir()
    (cache / "models/resnet34-b627a593.pth").write_bytes((served[0] / "resnet34-b627a593.pth").read_bytes()[:1000])
    load_encoder_weights(model, "imagenet", cache=cache, downloads=rows(served[0]))
    np.testing.assert_array_equal(loaded(model), served[1])


def test_another_file_is_refused_and_not_kept(model, served, cache):
    with pytest.raises(InputError, match=r"Received: a file of the SHA-256 [0-9a-f]{64}$"):
        load_encoder_weights(model, "imagenet", cache=cache, downloads=rows(served[0], sha256="b627a593" + "0" * 56))
    assert list((cache / "models").iterdir()) == []


class _Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def test_a_server_with_and_without_the_file(model, served, cache):
    handler = functools.partial(_Server, directory=str(served[0]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(InputError) as error:
            load_encoder_weights(model, "imagenet", cache=cache, downloads=rows(served[0], f"{address}/none.pth"))
        assert str(error.value).endswith(
            "Received: URL fetch failure on " + f"{address}/none.pth: 404 -- File not found"
        )
        load_encoder_weights(
            model, "imagenet", cache=cache, downloads=rows(served[0], f"{address}/resnet34-b627a593.pth")
        )
        server.shutdown()
    np.testing.assert_array_equal(loaded(model), served[1])
    assert [path.name for path in (cache / "models").iterdir()] == ["resnet34-b627a593.pth"]


def test_without_a_network_the_command_says_what_to_do(tmp_path):
    """A proxy that refuses every connection stands for the lack of a network."""
    program = (
        "import os, sys\n"
        "os.environ.update(https_proxy='http://127.0.0.1:9', KERAS_HOME=sys.argv[1], CUDA_VISIBLE_DEVICES='')\n"
        "import train\n"
        "train.main(sys.argv[2:])\n"
    )
    command = "--preset voc --dataset shapes --train-size 4 --val-size 2 --encoder resnet34 --hidden-size 16 --epochs 1"
    command += " --image-size 32 --batch-size 2 --maxseqlen 2"
    (tmp_path / "keras").mkdir()
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "keras", *command.split(), "--out", tmp_path / "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith(
        "error: expected to download https://download.pytorch.org/models/resnet34-b627a593.pth. "
    )
    assert "--encoder-weights resnet34-b627a593.pth" in lines[0]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != "keras.json"] == []
    assert not (tmp_path / "run").exists()


def test_a_file_of_torchvision(model, served):
    load_encoder_weights(model, str(served[0] / "resnet34-b627a593.pth"))
    np.testing.assert_array_equal(loaded(model), served[1])


def test_every_encoder_has_weights_or_is_said_to_have_none():
    assert {name for name, encoder in ENCODERS.items() if encoder.torchvision} == {*TORCHVISION}
    without = {name for name, encoder in ENCODERS.items() if not encoder.torchvision and encoder.pretrained is None}
    assert without == {*config.UNTRAINED_ENCODERS}


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_digest_is_that_of_the_published_name(name):
    """torchvision's names end in the first eight digits of the SHA-256, which PyTorch checks too."""
    row = TORCHVISION[name]
    assert row.name == f"{name}-{row.sha256[:8]}.pth"
    assert len(row.sha256) == 64
