"""The images on which a file is compared with its model."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from export.graph import GraphSpec, infer
from export.images import find_images
from export.instances import decoded
from export.options import Thresholds
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.images import list_images, read_image, synthetic_image
from rsis_tf.models import RSIS
from rsis_tf.runtime import OUTPUTS, resize_image

Array = np.ndarray
MOST_READ = 32
"""Number of images of a folder among which those with objects are looked for."""
SCENES = 6
TOGETHER = 4
"""Images in which objects are looked for at once."""


def candidates(
    folder: pathlib.Path | None, run: pathlib.Path, size: tuple[int, int], *, calibration: pathlib.Path | None = None
) -> Iterator[Array]:
    """Yields images on which a file can be compared with its model, (H, W, 3) uint8.

    They are those of a folder, or else the run's samples, those of the calibration, generated scenes of the dataset
    "shapes", and images of noise and discs.

    Args:
        folder: chosen by the user, or None.
        run: folder of the model.
        size: (H, W) of the scenes.
        calibration: folder of the images from which the ranges of an 8-bit file were taken; the file is only meant for
            such images.

    Raises:
        InputError: for a folder without images, or an image that cannot be read.
    """
    if folder is not None:
        yield from map(read_image, find_images(folder)[:MOST_READ])
        return
    samples = run / "samples"
    yield from map(read_image, list_images(samples)[:MOST_READ] if samples.is_dir() else [])
    yield from map(read_image, find_images(calibration)[:MOST_READ] if calibration else [])
    yield synthetic_image()
    height, width = (max(side, SyntheticDataset.min_side) for side in size)
    scenes = SyntheticDataset(size=(height, width), length=SCENES)
    yield from (scenes[index].image for index in range(SCENES))
    yield synthetic_image(seed=1)


def choose(images: Iterator[Array], count: int, find: Callable[[Sequence[Array]], Sequence[int]]) -> list[Array]:
    """Returns the first images in which the model finds objects, then the first of the others if there are too few.

    Args:
        images: at least one; only as many are read as needed.
        count: number of images to return at most.
        find: returns the number of objects in each of some images.
    """
    with_objects: list[Array] = []
    others: list[Array] = []
    while len(with_objects) < count and (group := list(itertools.islice(images, TOGETHER))):
        for image, found in zip(group, find(group), strict=True):
            (with_objects if found else others).append(image)
    return [*with_objects, *others][:count]


def read_images(
    model: RSIS,
    spec: GraphSpec,
    *,
    folder: pathlib.Path | None,
    run: pathlib.Path,
    thresholds: Thresholds,
    count: int,
    calibration: pathlib.Path | None = None,
) -> list[Array]:
    """Returns images to compare on, preferably such in which the model finds something.

    Args:
        model: the Keras model.
        spec: shape of the graph.
        folder, run, calibration: see `export.images.candidates`.
        thresholds: those of the file.
        count: number of images at most.

    Raises:
        InputError: for a folder without images, or an image that cannot be read.
    """
    size = spec.size or model.config.image_size
    fixed = dataclasses.replace(spec, size=size, batch=None, resize=False)

    def find(images: Sequence[Array]) -> list[int]:
        resized = np.stack([resize_image(image, size, spec.aspect) for image in images]).astype(spec.input_type)
        outputs = {name: value.numpy() for name, value in infer(model, resized, fixed).items()}
        each = ({name: outputs[name][i] for name in OUTPUTS} for i in range(len(images)))
        return [len(decoded(of_image, size, thresholds)) for of_image in each]

    return choose(candidates(folder, run, size, calibration=calibration), count, find)


def make_inputs(
    images: Sequence[Array], spec: GraphSpec, image_size: tuple[int, int], *, every: bool = False
) -> list[Array]:
    """Returns two batches that use what is dynamic in the graph: two sizes, two batch sizes, or both.

    Args:
        images: at least one, any sizes.
        spec: shape of the graph.
        image_size: (height, width) at which the model was trained.
        every: whether to add batches of the images that are not in these two.

    Returns:
        (B, H, W, 3) arrays of the dtype of the graph's input; only one, if a second one would be the same.
    """
    height, width = spec.size or image_size
    dynamic_size = spec.input_shape[1] is None
    sizes = [(height, width), (height + 33, width + 47)] if dynamic_size else [(height, width)]
    batches = [spec.batch, spec.batch] if spec.batch else [1, 2]
    cases = [(0, batches[0], sizes[0]), (1, batches[1], sizes[-1])]
    if len(images) == 1 and cases[0][1:] == cases[1][1:]:
        cases.pop()
    left = len(images) - 1 - batches[1]
    if every and left > 0:
        batch = spec.batch or left
        cases += [(start, batch, sizes[0]) for start in range(1 + batches[1], len(images), batch)]
    inputs = []
    for start, batch, size in cases:
        chosen = [images[(start + i) % len(images)] for i in range(batch)]
        # A repeated image is mirrored, so that a file that mixes up the images of a batch is noticed.
        distinct = [image if i < len(images) else image[:, ::-1] for i, image in enumerate(chosen)]
        resized = [resize_image(np.ascontiguousarray(image), size) for image in distinct]
        inputs.append(np.stack(resized).astype(spec.input_type))
    return inputs
