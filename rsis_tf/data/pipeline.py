"""From samples to batches: one sample function, and two ways to run it that give the same arrays.

The order of the pictures and their augmentation are functions of (seed, epoch, index) alone, so a run that is resumed
sees the batches it would have seen. Instances stay one label map per picture until after batching; only then does one
comparison make the masks, so memory for them is that of the batches in flight.
"""

import collections
import concurrent.futures
import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from rsis_tf.config import DataConfig
from rsis_tf.data.augment import (
    STILL,
    Augmentation,
    augmentation_of,
    jitter_colour,
    quarter_turn_matrix,
    quarter_turns,
    random_matrix,
    random_part,
    resize_matrix,
    warp_image,
    warp_labels,
)
from rsis_tf.data.beginning import begin_anywhere
from rsis_tf.data.labels import relabel
from rsis_tf.data.sample import PADDING, VOID, Dataset, Sample
from rsis_tf.errors import InputError
from rsis_tf.runtime import letterbox

if TYPE_CHECKING:
    import tensorflow as tf

Batch = tuple[np.ndarray | dict[str, np.ndarray], dict[str, np.ndarray]]
"""images (B, H, W, 3) uint8 and {"masks": (B, N, H, W) uint8, "classes": (B, N) int32, "valid": (B, N) uint8,
"ignored": (B, H, W) uint8}.

Where images keep their shape, "padding" (B, H, W) uint8 is among the targets; it is part of "ignored".

Training batches whose sequences begin anywhere have {"images", "found": (B, H, W) uint8} in the place of the images,
and "remaining": (B,) int32 among the targets.
"""

Item = TypeVar("Item")
Result = TypeVar("Result")

_ORDER, _AUGMENTATION, _BEGINNING = 1, 2, 3
"""First word of a random stream's seed: keeps streams of different purpose apart."""


def prepare(
    sample: Sample,
    config: DataConfig,
    rng: np.random.Generator | None,
    augmentation: Augmentation | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Brings one sample to the size of the batches, its objects sorted by area.

    Objects that lose all their pixels are dropped; of the others the largest N are kept and the rest become void.

    Args:
        sample: the picture at its own size.
        config: `image_size` (h, w), `aspect`, `crop` and `max_objects` N are used.
        rng: source of the random numbers for augmentation and cropping; None for a plain resize of the whole.
        augmentation: ranges of the random changes; None for those that the configuration names.

    Returns:
        image (h, w, 3) uint8, label map (h, w) int32 with 1 … n by falling area (`VOID` kept, `PADDING` beside an image
        that keeps its shape), classes (N,) int32 with 0 beyond n, valid (N,) uint8.
    """
    frame = config.image_size
    source = sample.label_map.shape
    cropping = config.transforms.crop and rng is not None
    # The image's own part of the frame; the rest is padded at the end.
    size = letterbox(source, frame)[2:] if config.aspect == "keep" and not cropping else frame
    if rng is not None:
        augmentation = augmentation or augmentation_of(config)
        part, part_size = random_part(source, frame, rng) if cropping else (np.eye(3), source)
        matrix = part @ random_matrix(part_size, augmentation, rng) @ resize_matrix(part_size, size)
        if augmentation.quarter_turns:
            turns = quarter_turns(frame, rng)
            matrix = matrix @ quarter_turn_matrix(size, turns)
            size = size[::-1] if turns % 2 else size
        image = jitter_colour(warp_image(sample.image, matrix, size, augmentation.border), augmentation, rng)
        label_map = warp_labels(sample.label_map, matrix, size, augmentation.border)
    elif source == size:
        image, label_map = sample.image, sample.label_map
    else:
        image = np.asarray(Image.fromarray(sample.image).resize(size[::-1], Image.Resampling.BILINEAR))
        label_map = np.array(Image.fromarray(sample.label_map).resize(size[::-1], Image.Resampling.NEAREST))
    label_map, kept = relabel(label_map, sample.classes, by_area=True, keep=config.max_objects, rest=VOID)
    image, label_map = _padded(image, frame, 0), _padded(label_map, frame, PADDING)
    classes = np.zeros(config.max_objects, np.int32)
    valid = np.zeros(config.max_objects, np.uint8)
    classes[: len(kept)] = kept
    valid[: len(kept)] = 1
    return image, label_map, classes, valid


def _padded(pixels: np.ndarray, frame: tuple[int, int], value: int) -> np.ndarray:
    """Puts (h, w, …) pixels into the middle of a frame, where `letterbox` has them."""
    if pixels.shape[:2] == frame:
        return pixels
    top, left = ((whole - part) // 2 for whole, part in zip(frame, pixels.shape, strict=False))
    padded = np.full((*frame, *pixels.shape[2:]), value, pixels.dtype)
    padded[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return padded


def epoch_order(length: int, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
    """(length,) int64: the indices of one pass over a dataset, in their order or shuffled by (seed, epoch)."""
    if not shuffle:
        return np.arange(length)
    return np.random.default_rng((_ORDER, seed, epoch)).permutation(length)


def num_batches(length: int, config: DataConfig, *, training: bool) -> int:
    """Batches of one pass: training drops the last partial batch (but gives at least one), validation keeps it."""
    return max(length // config.batch_size, 1) if training else -(-length // config.batch_size)


def plain_batches(
    dataset: Dataset,
    config: DataConfig,
    *,
    training: bool,
    epoch: int = 0,
    augmentation: Augmentation | None = None,
    workers: int = 0,
) -> Iterator[Batch]:
    """One pass over a dataset in NumPy batches.

    Args:
        dataset: the samples.
        config: image size, N, B, augmentation on or off, seed.
        training: shuffle, augment if configured and drop the last partial batch (a dataset smaller than one batch is
            repeated to fill it); False keeps the dataset's order and all its pictures.
        epoch: number of the pass; decides order and augmentation.
        augmentation: ranges of the random changes; None for those that the configuration names.
        workers: threads that prepare batches ahead of time; 0 for none. The batches are the same.

    Yields:
        A `Batch`: images (B, h, w, 3) uint8 and targets.
        The last batch of a validation pass may be smaller.

    Raises:
        InputError: from the dataset's reader, when a file cannot be read.
    """
    order = _pass_order(len(dataset), config, training=training, epoch=epoch)
    batches = [order[start : start + config.batch_size] for start in range(0, len(order), config.batch_size)]

    def load(indices: np.ndarray) -> tuple[np.ndarray, ...]:
        return _load(dataset, config, indices, training=training, epoch=epoch, augmentation=augmentation)

    numbers = np.arange(1, config.max_objects + 1, dtype=np.int32)[None, :, None, None]
    loaded = _ahead(load, batches, workers) if workers else map(load, batches)
    for images, label_maps, classes, valid, remaining in loaded:
        masks = (label_maps[:, None] == numbers).view(np.uint8)  # (B, N, H, W)
        ignored = (label_maps < 0).view(np.uint8)  # (B, H, W): VOID, PADDING
        targets = {"masks": masks, "classes": classes, "valid": valid, "ignored": ignored}
        if config.aspect == "keep":
            targets["padding"] = (label_maps == PADDING).view(np.uint8)  # (B, H, W)
        if training and config.partial_sequences:
            found = (label_maps > remaining[:, None, None]).view(np.uint8)  # (B, H, W)
            yield {"images": images, "found": found}, {**targets, "remaining": remaining}
        else:
            yield images, targets


def tf_batches(
    dataset: Dataset,
    config: DataConfig,
    *,
    training: bool,
    epoch: int = 0,
    augmentation: Augmentation | None = None,
    replicas: int = 1,
    here: range = range(1),
) -> "tf.data.Dataset":
    """The batches of `plain_batches` as a `tf.data.Dataset` that reads in parallel and ahead.

    Arguments and arrays are those of `plain_batches`; all sizes are static but the batch size of a validation pass
    whose last batch is smaller. An `InputError` of the reader arrives as TensorFlow's error with the message inside:
    `reader_errors` turns it back.

    With several `replicas` every batch is cut into as many shares of B / replicas pictures, and the shares of the
    replicas `here` come one after the other. Of a smaller last batch the last shares are small or empty: every replica
    gets as many shares as there are batches.
    """
    import tensorflow as tf

    order = _pass_order(len(dataset), config, training=training, epoch=epoch)
    size = config.batch_size // replicas
    starts = [batch + replica * size for batch in range(0, len(order), config.batch_size) for replica in here]
    whole = len(order) % config.batch_size == 0
    height, width = config.image_size
    types = (tf.uint8, tf.int32, tf.int32, tf.uint8, tf.int32, tf.string)

    # One call per batch: a call into Python costs about as much as a small picture.
    def load(indices: np.ndarray) -> tuple[np.ndarray | str, ...]:
        try:
            return *_load(dataset, config, indices, training=training, epoch=epoch, augmentation=augmentation), ""
        # Raised in here, it would be logged with its whole traceback, once per thread; the assertion below is not.
        except InputError as error:
            nothing = [np.zeros(0, dtype.as_numpy_dtype) for dtype in types[:-1]]
            return *nothing, f"InputError: {error}"

    def load_in_graph(indices: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        images, label_maps, classes, valid, remaining, error = tf.numpy_function(load, [indices], types, stateful=False)
        batch = indices.shape[0]
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(error, ""), [error])]):
            images = tf.ensure_shape(images, (batch, height, width, 3))
            label_maps = tf.ensure_shape(label_maps, (batch, height, width))
            classes = tf.ensure_shape(classes, (batch, config.max_objects))
            valid = tf.ensure_shape(valid, (batch, config.max_objects))
            remaining = tf.ensure_shape(remaining, (batch,))
        numbers = tf.range(1, config.max_objects + 1)[None, :, None, None]
        masks = tf.cast(label_maps[:, None] == numbers, tf.uint8)  # (B, N, H, W)
        ignored = tf.cast(label_maps < 0, tf.uint8)  # (B, H, W): VOID, PADDING
        targets = {"masks": masks, "classes": classes, "valid": valid, "ignored": ignored}
        if config.aspect == "keep":
            targets["padding"] = tf.cast(label_maps == PADDING, tf.uint8)  # (B, H, W)
        if training and config.partial_sequences:
            found = tf.cast(label_maps > remaining[:, None, None], tf.uint8)  # (B, H, W)
            return {"images": images, "found": found}, {**targets, "remaining": remaining}
        return images, targets

    return (
        tf.data.Dataset.from_tensor_slices(starts)
        .map(lambda start: tf.ensure_shape(tf.constant(order)[start : start + size], [size if whole else None]))
        .map(load_in_graph, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(2)
    )


@contextlib.contextmanager
def reader_errors() -> Iterator[None]:
    """Turns TensorFlow's rendering of a reader's `InputError` back into it; put it around what draws from `tf_batches`.

    Raises:
        InputError: with the reader's message, when a file could not be read.
    """
    try:
        yield
    except Exception as error:
        # `load_in_graph` asserts on the message, and TensorFlow's assertion escapes quotes and backslashes.
        found = re.search(r"assertion failed: \[InputError: (.*)\]", str(error))
        if found is None:
            raise
        raise InputError(re.sub(r"\\([\\'\"])", r"\1", found.group(1))) from None


def _pass_order(length: int, config: DataConfig, *, training: bool, epoch: int) -> np.ndarray:
    """Indices of one pass, a whole number of batches of them in training."""
    order = epoch_order(length, config.seed, epoch, shuffle=training)
    if not training:
        return order
    # np.resize repeats the order when it is shorter than one batch.
    return np.resize(order, num_batches(length, config, training=True) * config.batch_size)


def _load(
    dataset: Dataset,
    config: DataConfig,
    indices: np.ndarray,
    *,
    training: bool,
    epoch: int,
    augmentation: Augmentation | None,
) -> tuple[np.ndarray, ...]:
    """The arrays of `prepare` for several samples, each stacked, and (B,) int32, the objects left to find."""
    if not len(indices):
        size, objects = config.image_size, config.max_objects
        shapes = (*size, 3), size, (objects,), (objects,), ()
        types = np.uint8, np.int32, np.int32, np.uint8, np.int32
        return tuple(np.zeros((0, *shape), dtype) for shape, dtype in zip(shapes, types, strict=True))
    rows = []
    for index in indices.tolist():
        rng = None
        if training and (config.transforms.augment or config.transforms.crop):
            rng = np.random.default_rng((_AUGMENTATION, config.seed, epoch, index))
        ranges = augmentation if config.transforms.augment else STILL
        image, label_map, classes, valid = prepare(dataset[index], config, rng, ranges)
        remaining = int(valid.sum())
        if training and config.partial_sequences:
            rng = np.random.default_rng((_BEGINNING, config.seed, epoch, index))
            if rng.uniform() < config.partial_sequences:
                label_map, classes, remaining = begin_anywhere(label_map, classes, remaining, rng)
        rows.append((image, label_map, classes, valid, np.int32(remaining)))
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _ahead(function: Callable[[Item], Result], items: list[Item], workers: int) -> Iterator[Result]:
    """`map` in threads, in order, with one result more than there are threads waiting at most."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
