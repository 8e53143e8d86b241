"""Writes files as Python 2 and PyTorch 0.1 to 0.2 wrote them: no PyTorch of today can.

The pickler is Python's own, with what Python 2 did otherwise: text is a byte string, classes bear their old names, and
an ordered dictionary is made of a list of pairs. The formats follow `torch/serialization.py` of PyTorch 0.1.9 and 0.2.
"""

import argparse
import collections
import dataclasses
import io
import pathlib
import pickle
import struct
import tarfile
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 8}}


@dataclasses.dataclass(frozen=True)
class Global:
    """A class or function by its name."""

    module: str
    name: str


class Reduced:
    """An object that is pickled as a call and, maybe, a state."""

    def __init__(self, function: Global, *arguments: Any, state: Any = None) -> None:
        self.parts = function, arguments, state


class Persistent:
    """An object that is pickled as an id."""

    def __init__(self, key: Any) -> None:
        self.key = key


class Python2Pickler(pickle._Pickler):
    """Python's pickler in Python, writing as Python 2 did."""

    dispatch: ClassVar[dict[type, Callable[..., None]]] = dict(pickle._Pickler.dispatch)

    def save_text(self, text: str | bytes) -> None:
        content = text.encode("latin-1") if isinstance(text, str) else text
        if not self.bin:
            self.write(b"S" + repr(content)[1:].encode() + b"\n")
        elif len(content) < 256:
            self.write(b"U" + bytes([len(content)]) + content)
        else:
            self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    def save_name(self, named: Global) -> None:
        self.write(b"c" + f"{named.module}\n{named.name}\n".encode())
        self.memoize(named)

    def save_reduced(self, reduced: Reduced) -> None:
        function, arguments, state = reduced.parts
        self.save(function)
        self.save(arguments)
        self.write(b"R")
        self.memoize(reduced)
        if state is not None:
            self.save(state)
            self.write(b"b")

    def save_persistent(self, persistent: Persistent) -> None:
        self.save(persistent.key)
        self.write(b"Q")

    def save_ordered(self, items: collections.OrderedDict) -> None:
        attributes = dict(vars(items)) or None
        self.save(Reduced(Global("collections", "OrderedDict"), [list(pair) for pair in items.items()],
                          state=attributes))  # fmt: skip

    def save_number(self, scalar: np.generic) -> None:
        kind = scalar.dtype
        dtype = Reduced(Global("numpy", "dtype"), kind.str[1:], 0, 1,
                        state=(3, kind.str[0], None, None, None, -1, -1, 0))  # fmt: skip
        self.save(Reduced(Global("numpy.core.multiarray", "scalar"), dtype, scalar.tobytes()))

    dispatch[str] = dispatch[bytes] = save_text
    dispatch[Global] = save_name
    dispatch[Reduced] = save_reduced
    dispatch[Persistent] = save_persistent
    dispatch[collections.OrderedDict] = save_ordered
    dispatch[np.float64] = dispatch[np.float32] = dispatch[np.int64] = save_number


def dumps(value: Any, protocol: int = 2) -> bytes:
    """Pickles a value as Python 2 did; the writer keeps what it has seen alive, so that ids stay apart."""
    stream = io.BytesIO()
    Python2Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def state_bytes(
    state: dict[str, np.ndarray],
    *,
    storage: str = "torch.cuda",
    location: str = "cuda:0",
    wrap: Callable[[Reduced], Any] = lambda tensor: tensor,
) -> bytes:
    """Returns an ordered dictionary of float32 tensors in the format of PyTorch 0.1.10 to 1.5.

    Args:
        state: arrays by name.
        storage: module of the storage class, "torch.cuda" for a GPU run, "torch" for a CPU run.
        location: of the storages.
        wrap: makes of a tensor what the dictionary holds.
    """
    # In PyTorch keys are addresses, and the storages follow in the order of their text.
    keys = {name: str(94_000_000 + 1_000 * number) for number, name in enumerate(state)}
    float_storage = Global(storage, "FloatStorage")
    items = collections.OrderedDict()
    for name, array in state.items():
        root = Persistent(("storage", float_storage, keys[name], location, array.size, None))
        items[name] = wrap(rebuilt(root, array))
    order = sorted(state, key=lambda name: keys[name])
    data = b"".join(struct.pack("<q", state[name].size) + _float_bytes(state[name]) for name in order)
    pickles = (MAGIC, 1001, SYSTEM, items, [keys[name] for name in order])
    return b"".join(map(dumps, pickles)) + data


def rebuilt(storage: Persistent, array: np.ndarray) -> Reduced:
    """Returns the call by which PyTorch 0.1.10 to 0.3 makes a tensor that fills a storage."""
    strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides) if array.ndim else ()
    return Reduced(Global("torch._utils", "_rebuild_tensor"), storage, 0, tuple(array.shape), strides)


def parameter(tensor: Any) -> Reduced:
    """Returns the call and state by which PyTorch 0.1 pickled a Parameter."""
    return Reduced(Global("torch.nn.parameter", "Parameter"), tensor,
                   state=(True, False, collections.OrderedDict()))  # fmt: skip


def tar_bytes(state: dict[str, np.ndarray]) -> bytes:
    """Returns an ordered dictionary of float32 parameters in the format of 2016 (torchvision's first ResNets)."""
    storages = dumps(len(state))
    tensors = dumps(len(state))
    items = collections.OrderedDict()
    for number, (name, array) in enumerate(state.items()):
        storage_key, tensor_key = 94_000_000 + number, 95_000_000 + number
        storages += dumps((storage_key, "cpu", Global("torch", "FloatStorage")))
        storages += struct.pack("<q", array.size) + _float_bytes(array)
        tensors += dumps((tensor_key, storage_key, Global("torch", "FloatTensor")))
        strides = [stride // 4 for stride in np.ascontiguousarray(array, "<f4").strides]
        tensors += struct.pack("<i4x", array.ndim)
        tensors += struct.pack(f"<{2 * array.ndim}qq", *array.shape, *strides[: array.ndim], 0)
        items[name] = parameter(Persistent(str(tensor_key)))
    storages += dumps([])
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        system = dumps({**SYSTEM, "protocol_version": 1000})
        for name, content in (("sys_info", system), ("pickle", dumps(items)), ("tensors", tensors),
                              ("storages", storages)):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _float_bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, "<f4").tobytes()


def arguments_bytes(
    values: dict[str, object], *, module: str = "argparse", name: str = "Namespace", protocol: int = 0
) -> bytes:
    """Returns an `argparse.Namespace` as Python 2 wrote it by `pickle.dump(args, file)`: protocol 0."""
    base = (Global("__builtin__", "object"), None)
    return dumps(
        Reduced(Global("copy_reg", "_reconstructor"), Global(module, name), *base, state=dict(values)), protocol
    )


def optimizer_bytes() -> bytes:
    """Returns the state of an Adam optimiser, such as the original keeps in `enc_opt.pt`."""
    group = {"params": [94_000_000], "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-6}
    pickles = (MAGIC, 1001, SYSTEM, {"state": {}, "param_groups": [group]}, [])
    return b"".join(map(dumps, pickles))


def write_checkpoint(
    folder: pathlib.Path,
    states: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    arguments: dict[str, object],
    *,
    prefix: str = "module.",
) -> None:
    """Writes the five files of the original's `save_checkpoint`, of a run on several GPUs."""
    folder.mkdir()
    for part, state in zip(("encoder", "decoder"), states, strict=True):
        (folder / f"{part}.pt").write_bytes(state_bytes({prefix + name: array for name, array in state.items()}))
    for part in ("enc_opt", "dec_opt"):
        (folder / f"{part}.pt").write_bytes(optimizer_bytes())
    (folder / "args.pkl").write_bytes(arguments_bytes(arguments))


def original_arguments(**changes: object) -> dict[str, object]:
    """Returns what the original's `train.py` has in its namespace after an epoch on Cityscapes.

    Names and defaults are those of its `src/args.py`; `best_val_loss` is the `np.mean` of a list of losses.
    """
    parser = argparse.ArgumentParser()
    for name, default in _DEFAULTS.items():
        parser.add_argument(f"-{name}", default=default)
    return {**vars(parser.parse_args([])), "best_val_loss": np.float64(0.731), "epoch_resume": 57, **changes}


_DEFAULTS: dict[str, object] = {
    **{"resume": False, "epoch_resume": 0, "seed": 123, "batch_size": 28, "lr": 1e-3, "lr_cnn": 1e-6},
    **{"optim_cnn": "adam", "momentum": 0.9, "weight_decay": 1e-6, "weight_decay_cnn": 1e-6, "optim": "adam"},
    **{"maxseqlen": 10, "gt_maxseqlen": 20, "best_val_loss": 1000, "crop": False, "smooth_curves": False},
    **{"finetune_after": 0, "update_encoder": False, "transfer": False, "transfer_from": "model"},
    **{"curriculum_learning": False, "steps_cl": 1, "min_steps": 1, "min_delta": 0.0, "class_loss_after": 20},
    **{"use_class_loss": False, "stop_loss_after": 3000, "use_stop_loss": False, "patience": 15},
    **{"patience_stop": 60, "max_epoch": 4000, "print_every": 10, "log_term": False, "visdom": False, "port": 8097},
    **{"server": "http://localhost", "class_weight": 0.1, "iou_weight": 1.0, "stop_weight": 0.5},
    **{"stop_balance_weight": 0.5, "augment": False, "rotation": 10, "translation": 0.1, "shear": 0.1, "zoom": 0.7},
    **{"use_gpu": True, "ngpus": 1, "base_model": "resnet101", "skip_mode": "concat", "model_name": "model"},
    **{"log_file": "train.log", "hidden_size": 128, "kernel_size": 3, "dropout": 0.0, "dropout_stop": 0.0},
    **{"dropout_cls": 0.0, "imsize": 256, "resize": False, "num_classes": 21, "dataset": "pascal"},
    **{"pascal_dir": "data/VOCAug/", "cityscapes_dir": "data/CityScapes/", "leaves_dir": "data/A1/"},
    **{"leaves_test_dir": "data/A1-test/", "num_workers": 4, "eval_split": "test", "mask_th": 0.5, "stop_th": 0.5},
    **{"class_th": 0.5, "max_dets": 100, "min_size": 0.001, "cat_id": -1, "use_cats": True, "display": False},
    **{"no_display_text": False, "all_classes": False, "no_run_coco_eval": False, "display_route": False},
    **{"use_gt_cats": False, "use_gt_masks": False, "use_gt_stop": False},
}
