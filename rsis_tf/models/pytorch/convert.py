"""Imports PyTorch weights: checkpoints of the original code, and backbones of torchvision for the encoder."""

import pathlib
import re
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from rsis_tf import files
from rsis_tf.config import ModelConfig
from rsis_tf.errors import InputError
from rsis_tf.models.pytorch.checkpoint import Unread, read_arguments, read_state
from rsis_tf.models.pytorch.closed_pickle import shown

# In every checkpoint, but not part of this network: torchvision's classifier and a counter of newer PyTorch versions.
_UNUSED = re.compile(r"((base\.)?(fc|classifier(\.\d+)?)\.(weight|bias))|(.*\.num_batches_tracked)")
_ARGUMENTS = frozenset(
    (
        "all_classes augment base_model batch_size best_val_loss cat_id cityscapes_dir class_loss_after class_th "
        "class_weight crop curriculum_learning dataset display display_route dropout dropout_cls dropout_stop "
        "epoch_resume eval_split finetune_after gt_maxseqlen hidden_size imsize iou_weight kernel_size leaves_dir "
        "leaves_test_dir limit_seqlen_to log_file log_term lr lr_cnn mask_th max_dets max_epoch maxseqlen min_delta "
        "min_size min_steps model_name momentum ngpus no_display_text no_run_coco_eval num_classes num_workers optim "
        "optim_cnn pascal_dir patience patience_stop port print_every resize resume rotation seed server shear "
        "skip_mode smooth_curves steps_cl stop_balance_weight stop_loss_after stop_th stop_weight transfer "
        "transfer_from translation update_encoder use_cats use_class_loss use_gpu use_gt_cats use_gt_masks use_gt_stop "
        "use_stop_loss visdom weight_decay weight_decay_cnn zoom"
    ).split()
)
"""The arguments of the original's `args.py` and `train.py`; most of them do not affect the network."""
_MOST_LISTED = 20
_CLASS_NAMES = {
    "pascal": (
        "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
        "pottedplant sheep sofa train tvmonitor"
    ).split(),
    "cityscapes": "background person rider car truck bus train motorcycle bicycle".split(),
    "leaves": ["background", "leaf"],
}


def load_state_dicts(model: Any, encoder_state: dict[str, np.ndarray], decoder_state: dict[str, np.ndarray]) -> None:
    """Loads the original's `encoder.pt` and `decoder.pt` into a model.

    Every name and shape is checked before anything is assigned; classifier weights of the backbone and
    `num_batches_tracked` are the only entries that are skipped.

    Args:
        model: of the same configuration, from `build_model`.
        encoder_state: arrays by PyTorch name, e.g. "base.conv1.weight", "sk5.weight".
        decoder_state: arrays by PyTorch name, e.g. "clstm_list.0.Gates.weight".

    Raises:
        InputError: for a network that the original does not have, for names that are missing or unexpected and arrays
            of another shape (the first 20 of each are listed), and for values that are not finite.
    """
    from rsis_tf.models.pytorch.names import decoder_pairs, encoder_pairs

    _check_form(model.config)
    checked = [
        *_check("encoder", list(encoder_pairs(model)), encoder_state),
        *_check("decoder", list(decoder_pairs(model)), decoder_state),
    ]
    for pair, array in checked:
        pair.variable.assign(pair.to_keras(array))


def load_backbone(model: Any, state: dict[str, np.ndarray]) -> None:
    """Loads a torchvision backbone (`resnet50-….pth`, `vgg16-….pth`) into the model's encoder.

    Args:
        model: with an encoder of torchvision's form.
        state: arrays by torchvision name, e.g. "layer1.0.conv1.weight".

    Raises:
        InputError: as `load_state_dicts`.
    """
    from rsis_tf.models.pytorch.names import backbone_pairs

    for pair, array in _check("backbone", list(backbone_pairs(model)), state):
        pair.variable.assign(pair.to_keras(array))


def state_dicts(model: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the model's weights as the original's encoder and decoder state: the inverse of `load_state_dicts`.

    Raises:
        InputError: for a network that the original does not have.
    """
    from keras import ops

    from rsis_tf.models.pytorch.names import decoder_pairs, encoder_pairs

    _check_form(model.config)

    def collect(pairs: Iterable[Any]) -> dict[str, np.ndarray]:
        return {pair.name: pair.to_torch(ops.convert_to_numpy(pair.variable)).copy() for pair in pairs}

    return collect(encoder_pairs(model)), collect(decoder_pairs(model))


def _check_form(config: ModelConfig) -> None:
    """Raises an `InputError` for a network that the original code does not have."""
    paper = ModelConfig()
    fields = ("mask_head", "neck_channels", "min_channels", "class_features")
    foreign = [name for name in fields if getattr(config, name) != getattr(paper, name)]
    if foreign:
        raise InputError(
            f"checkpoints of the original code only hold networks with {_settings(paper, foreign)}. "
            f"Received: {_settings(config, foreign)}"
        )


def _settings(config: ModelConfig, names: list[str]) -> str:
    return ", ".join(f"{name}={getattr(config, name)!r}" for name in names)


def _check(part: str, pairs: list, state: dict[str, np.ndarray]) -> list[tuple[Any, np.ndarray]]:
    """Pairs every variable with its array, or raises one error that lists everything that does not fit."""
    state = {name: array for name, array in state.items() if not _UNUSED.fullmatch(name)}
    expected = {pair.name for pair in pairs}
    problems = []
    if missing := sorted(expected - set(state)):
        problems.append(f"missing {_listed(missing)}")
    if unexpected := sorted(set(state) - expected):
        problems.append(f"unexpected {_listed(unexpected)}")
    shapes = [
        f"{pair.name} {tuple(np.shape(state[pair.name]))} where the model has {pair.torch_shape}"
        for pair in pairs
        if pair.name in state and tuple(np.shape(state[pair.name])) != pair.torch_shape
    ]
    if shapes:
        problems.append(f"other shapes {_listed(shapes)}")
    if problems:
        raise InputError(
            f"the {part} weights must fit the model in every name and shape. Received: {'; '.join(problems)}"
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused
        checked = [(pair, np.asarray(state[pair.name], np.float32)) for pair in pairs]
    if broken := [pair.name for pair, array in checked if not np.isfinite(array).all()]:
        raise InputError(f"the {part} weights must be finite. Received: NaN or infinite values in {_listed(broken)}")
    return checked


def _listed(names: list[str]) -> str:
    """Returns how many names there are and the first of them; those of a file may be long and many."""
    more = "" if len(names) <= _MOST_LISTED else f" and {len(names) - _MOST_LISTED:,} more"
    return f"({len(names)}): {', '.join(shown(name) for name in names[:_MOST_LISTED])}{more}"


def config_from_arguments(arguments: dict[str, Any]) -> ModelConfig:
    """Returns the configuration that a run's arguments (`args.pkl`) describe.

    Raises:
        InputError: if an argument that the network needs is missing or of another type.
    """
    values: dict[str, Any] = {}
    for field, (name, kind) in _FIELDS.items():
        if name in arguments:
            values[field] = _checked(name, arguments[name], kind)
    if missing := sorted(name for name in _REQUIRED if name not in arguments):
        raise InputError(f"expected the arguments of an rsis run. Received: arguments without {', '.join(missing)}")
    dataset = arguments.get("dataset")
    if (height := values.pop("image_size", None)) is not None:
        values["image_size"] = (height, 2 * height if dataset == "cityscapes" else height)
    names = tuple(_CLASS_NAMES.get(dataset, ())) if isinstance(dataset, str) else ()
    return ModelConfig(**values, class_names=names if len(names) == values["num_classes"] else ())


def _checked(name: str, value: Any, kind: type) -> Any:
    """Returns an argument if it is of the type and not extreme: text of a name's length, numbers of 31 bits."""
    fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
    if fits and (len(value) <= 100 if kind is str else abs(value) < 1 << 31):
        return value
    received = f"a value of type {type(value).__name__}"
    if isinstance(value, str | Unread):
        received = shown(repr(value))
    elif fits:
        received = "NaN, or a number of 31 or more bits"
    raise InputError(f"expected {name} of an rsis run as {kind.__name__}. Received: {name}={received}")


_FIELDS = {
    "encoder": ("base_model", str),
    "hidden_size": ("hidden_size", int),
    "num_classes": ("num_classes", int),
    "kernel_size": ("kernel_size", int),
    "skip_mode": ("skip_mode", str),
    "dropout": ("dropout", float),
    "dropout_class": ("dropout_cls", float),
    "dropout_stop": ("dropout_stop", float),
    "num_steps": ("maxseqlen", int),
    "image_size": ("imsize", int),
}
"""Field of a `ModelConfig` → the argument that holds it, and its type."""
_REQUIRED = ("base_model", "hidden_size", "kernel_size", "num_classes", "skip_mode")


def ignored_arguments(arguments: dict[str, Any]) -> list[str]:
    """Returns the arguments that the original does not have, and those whose values are not read, for a message."""
    return [
        f"{shown(name)} ({arguments[name]!r})" if isinstance(arguments[name], Unread) else shown(name)
        for name in sorted(arguments)
        if name not in _ARGUMENTS or isinstance(arguments[name], Unread)
    ]


def load_checkpoint(folder: pathlib.Path) -> Any:
    """Returns the model in a checkpoint folder of the original; unknown arguments are listed on standard error.

    Args:
        folder: with `encoder.pt`, `decoder.pt` and `args.pkl`; the optimisers' files beside them are not read.

    Raises:
        InputError: if a file is missing or broken, or they do not fit each other.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder with encoder.pt, decoder.pt and args.pkl. Received: {folder}")
    path = folder / "args.pkl"
    arguments = read_arguments(path)
    config = config_from_arguments(arguments)
    encoder_state, decoder_state = read_state(folder / "encoder.pt"), read_state(folder / "decoder.pt")
    from rsis_tf.models.keras_file import fewest_weights
    from rsis_tf.models.registry import network_class

    size, fewest = (folder / "decoder.pt").stat().st_size, fewest_weights(config)
    if size < fewest:  # so that a small file cannot ask for a network that fills the memory
        raise InputError(
            f"expected a decoder.pt of more than {fewest:,} bytes for the network of args.pkl. "
            f"Received: {size:,} bytes in {folder / 'decoder.pt'}"
        )
    model = network_class()(config)
    try:
        load_state_dicts(model, encoder_state, decoder_state)
    except InputError as error:
        network = _settings(config, ["encoder", "hidden_size", "num_classes", "skip_mode", "kernel_size"])
        raise InputError(
            f"expected weights of the network that args.pkl describes ({network}). Received: {folder} ({error})"
        ) from None
    if ignored := ignored_arguments(arguments):
        more = f" and {len(ignored) - _MOST_LISTED:,} more" if len(ignored) > _MOST_LISTED else ""
        print(f"{path}: not used: {', '.join(ignored[:_MOST_LISTED])}{more}", file=sys.stderr)
    return model


def convert(checkpoint: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the original's checkpoint folder as a `.keras` model.

    Args:
        checkpoint: folder with `encoder.pt`, `decoder.pt` and `args.pkl`.
        out: the file to write; it appears when it is complete.
    """
    if out.suffix != ".keras":
        raise InputError(f"expected an output file that ends in .keras. Received: {out}")
    model = load_checkpoint(checkpoint)
    config = model.config
    out.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(out) as partial:
        model.save(partial)
    print(f"{out}: {config.encoder}, hidden size {config.hidden_size}, {config.num_classes} classes")
