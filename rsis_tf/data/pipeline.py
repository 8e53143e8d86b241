"""From samples to batches, in plain NumPy or as a `tf.data.Dataset`; both give the same arrays.

The order of the images and their augmentation depend only on (seed, epoch, index), so a resumed run sees the batches
that an uninterrupted run would have seen. The objects of an image are one label map until the batch is stacked, so only
the batches in flight need memory for masks.
"""

import collections
import concurrent.futures
import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from rsis_tf.config import DataConfig
from rsis_tf.data.augment import STILL, Augmentation
from rsis_tf.data.copy_paste import paste_objects
from rsis_tf.data.partial_sequences import draw_partial_sequence, middle_points
from rsis_tf.data.prepare import prepare
from rsis_tf.data.sample import PADDING, Dataset
from rsis_tf.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

Batch = tuple[np.ndarray | dict[str, np.ndarray], dict[str, np.ndarray]]
"""images (B, H, W, 3) uint8 and {"masks": (B, N, H, W) uint8, "classes": (B, N) int32, "valid": (B, N) uint8,
"ignored": (B, H, W) uint8}.

If images keep their shape, the targets also have "padding" (B, H, W) uint8; "ignored" includes it.

Training batches of partial sequences have {"images", "found": (B, H, W) uint8} in place of the images, and the targets
also have "remaining" (B,) int32. With `found_by_votes` they also have "found_points" (B, N, 2) int32.
"""

Item = TypeVar("Item")
Result = TypeVar("Result")

_ORDER, _AUGMENTATION, _PARTIAL_SEQUENCE, _COPY_PASTE = 1, 2, 3, 4
"""First number of a random generator's seed: generators for different purposes must not share their numbers."""

_MOST_THREADS = 4


def epoch_order(length: int, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
    """Returns (length,) int64, the indices of one pass over a dataset, in order or shuffled by (seed, epoch)."""
    if not shuffle:
        return np.arange(length)
    return np.random.default_rng((_ORDER, seed, epoch)).permutation(length)


def num_batches(length: int, config: DataConfig, *, training: bool) -> int:
    """Returns the number of batches of one pass; training drops an incomplete last batch unless it is the only one."""
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
    """Yields the NumPy batches of one pass over a dataset.

    Args:
        dataset: the samples.
        config: image size, N, B, augmentation on or off, seed.
        training: whether to shuffle, to augment if configured, and to drop an incomplete last batch (a dataset smaller
            than one batch is repeated to fill it). False keeps the dataset's order and all its images.
        epoch: number of the pass; it decides the order and the augmentation.
        augmentation: ranges of the random changes; None for those that the configuration names.
        workers: number of threads that prepare batches in advance; 0 for none. The batches are the same.

    Yields:
        A `Batch`: images (B, h, w, 3) uint8 and targets.
        The last batch of a validation pass may be smaller.

    Raises:
        InputError: from the dataset's reader, if a file cannot be read.
    """
    order = _pass_order(len(dataset), config, training=training, epoch=epoch)
    batches = [order[start : start + config.batch_size] for start in range(0, len(order), config.batch_size)]

    def load(indices: np.ndarray) -> tuple[np.ndarray, ...]:
        return _load(dataset, config, indices, training=training, epoch=epoch, augmentation=augmentation)

    numbers = np.arange(1, config.max_objects + 1, dtype=np.int32)[None, :, None, None]
    loaded = _ahead(load, batches, workers) if workers else map(load, batches)
    for images, label_maps, classes, valid, remaining, points in loaded:
        masks = (label_maps[:, None] == numbers).view(np.uint8)  # (B, N, H, W)
        ignored = (label_maps < 0).view(np.uint8)  # (B, H, W): VOID, PADDING
        targets = {"masks": masks, "classes": classes, "valid": valid, "ignored": ignored}
        if config.aspect == "keep":
            targets["padding"] = (label_maps == PADDING).view(np.uint8)  # (B, H, W)
        if training and config.partial_sequences:
            found = label_maps > remaining[:, None, None]  # (B, H, W)
            inputs = {"images": images, "found": found.view(np.uint8)}
            if config.found_by_votes:
                by_votes: np.ndarray = np.any(points >= 0, axis=(1, 2))
                inputs |= {"found": (found & ~by_votes[:, None, None]).view(np.uint8), "found_points": points}
            yield inputs, {**targets, "remaining": remaining}
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
    """Returns the batches of `plain_batches` as a `tf.data.Dataset` that reads in parallel and in advance.

    Arguments and arrays are those of `plain_batches`. All sizes are static, except the batch size of a validation pass
    whose last batch is smaller. TensorFlow raises its own error if the reader raises an `InputError`, with the message
    in it; `reader_errors` turns it back.

    With several `replicas`, every batch is divided into one share of B / replicas images per replica, and the shares
    of the replicas `here` follow each other. If the last batch is smaller, its last shares are small or empty, so every
    replica gets one share per batch.
    """
    import tensorflow as tf

    order = _pass_order(len(dataset), config, training=training, epoch=epoch)
    size = config.batch_size // replicas
    starts = [batch + replica * size for batch in range(0, len(order), config.batch_size) for replica in here]
    whole = len(order) % config.batch_size == 0
    height, width = config.image_size
    types = (tf.uint8, tf.int32, tf.int32, tf.uint8, tf.int32, tf.int32, tf.string)

    # One call per batch, because a call into Python takes about as long as a small image.
    def load(indices: np.ndarray) -> tuple[np.ndarray | str, ...]:
        try:
            return *_load(dataset, config, indices, training=training, epoch=epoch, augmentation=augmentation), ""
        # TensorFlow would log an error raised here with its whole traceback, once per thread; it does not log the
        # assertion below.
        except InputError as error:
            nothing = [np.zeros(0, dtype.as_numpy_dtype) for dtype in types[:-1]]
            return *nothing, f"InputError: {error}"

    def load_in_graph(indices: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        *arrays, error = tf.numpy_function(load, [indices], types, stateful=False)
        images, label_maps, classes, valid, remaining, points = arrays
        batch = indices.shape[0]
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(error, ""), [error])]):
            images = tf.ensure_shape(images, (batch, height, width, 3))
            label_maps = tf.ensure_shape(label_maps, (batch, height, width))
            classes = tf.ensure_shape(classes, (batch, config.max_objects))
            valid = tf.ensure_shape(valid, (batch, config.max_objects))
            remaining = tf.ensure_shape(remaining, (batch,))
            points = tf.ensure_shape(points, (batch, config.max_objects, 2))
        numbers = tf.range(1, config.max_objects + 1)[None, :, None, None]
        masks = tf.cast(label_maps[:, None] == numbers, tf.uint8)  # (B, N, H, W)
        ignored = tf.cast(label_maps < 0, tf.uint8)  # (B, H, W): VOID, PADDING
        targets = {"masks": masks, "classes": classes, "valid": valid, "ignored": ignored}
        if config.aspect == "keep":
            targets["padding"] = tf.cast(label_maps == PADDING, tf.uint8)  # (B, H, W)
        if training and config.partial_sequences:
            found = label_maps > remaining[:, None, None]  # (B, H, W)
            inputs = {"images": images, "found": tf.cast(found, tf.uint8)}
            if config.found_by_votes:
                by_votes = tf.reduce_any(points >= 0, axis=(1, 2))
                inputs["found"] = tf.cast(found & ~by_votes[:, None, None], tf.uint8)
                inputs["found_points"] = points
            return inputs, {**targets, "remaining": remaining}
        return images, targets

    # Autotuning gains nothing here, and the end of a pass would wait for its thread, which may sleep for as long as the
    # pass took (docs/speed.md, "The end of an epoch").
    options = tf.data.Options()
    options.autotune.enabled = False
    return (
        tf.data.Dataset.from_tensor_slices(starts)
        .map(lambda start: tf.ensure_shape(tf.constant(order)[start : start + size], [size if whole else None]))
        .map(load_in_graph, num_parallel_calls=preparing_threads(), deterministic=True)
        .prefetch(2)
        .with_options(options)
    )


def preparing_threads() -> int:
    """Returns the number of threads that prepare batches beside the training step."""
    return min(os.cpu_count() or 1, _MOST_THREADS)


@contextlib.contextmanager
def reader_errors() -> Iterator[None]:
    """Context for code that iterates over `tf_batches`: turns TensorFlow's error back into the reader's `InputError`.

    Raises:
        InputError: with the reader's message, if a file could not be read.
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
    """Returns the indices of one pass; in training they fill complete batches."""
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
    """Returns the arrays of `prepare`, stacked for several samples, (B,) int32, the objects left to find, and
    (B, N, 2) int32, the points of found objects that votes cover, -1 where there is none."""
    if not len(indices):
        size, objects = config.image_size, config.max_objects
        shapes = (*size, 3), size, (objects,), (objects,), (), (objects, 2)
        types = np.uint8, np.int32, np.int32, np.uint8, np.int32, np.int32
        return tuple(np.zeros((0, *shape), dtype) for shape, dtype in zip(shapes, types, strict=True))
    rows = []
    for index in indices.tolist():
        rng = None
        if training and (config.transforms.augment or config.transforms.crop):
            rng = np.random.default_rng((_AUGMENTATION, config.seed, epoch, index))
        ranges = augmentation if config.transforms.augment else STILL
        prepared = prepare(dataset[index], config, rng, ranges)
        if training and config.transforms.copy_paste:
            rng = np.random.default_rng((_COPY_PASTE, config.seed, epoch, index))
            if rng.uniform() < config.transforms.copy_paste:
                donor = prepare(dataset[int(rng.integers(len(dataset)))], config, rng, ranges)
                prepared = paste_objects(prepared, donor, rng)
        image, label_map, classes, valid = prepared
        remaining = int(valid.sum())
        points = np.full((config.max_objects, 2), -1, np.int32)
        if training and config.partial_sequences:
            rng = np.random.default_rng((_PARTIAL_SEQUENCE, config.seed, epoch, index))
            if rng.uniform() < config.partial_sequences:
                label_map, classes, remaining = draw_partial_sequence(label_map, classes, remaining, rng)
                if config.found_by_votes and rng.uniform() < config.found_by_votes:
                    points = middle_points(label_map, remaining, config.max_objects)
        rows.append((image, label_map, classes, valid, np.int32(remaining), points))
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _ahead(function: Callable[[Item], Result], items: list[Item], workers: int) -> Iterator[Result]:
    """Maps in threads and yields the results in order; at most one result more than there are threads is waiting."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
