"""A predictor that finds exactly the connected white parts of an image, and images of blobs to try it on."""

import numpy as np
from scipy import ndimage

from rsis_tf.runtime import BasePredictor, ModelInfo, Options


class ExactPredictor(BasePredictor):
    """Predicts the first `most` connected parts of what it is shown, from the top to the bottom.

    Args:
        side: of the square images that it takes.
        most: T.
        any_steps: whether it takes another T as `options.steps`.
        **options: see `Options`.

    Attributes:
        seen: number of images that it was shown.
    """

    def __init__(self, side: int = 64, most: int = 20, any_steps: bool = False, **options):
        info = ModelInfo(image_size=(side, side), class_names=("background", "blob"))
        super().__init__("exact", info, Options.of(options), any_steps=any_steps)
        self.most, self.seen = self.steps or most, 0

    def compute(self, images):
        batch, height, width, _ = images.shape
        masks = np.zeros((batch, self.most, height, width), np.float32)
        stop = np.zeros((batch, self.most), np.float32)
        classes = np.tile(np.array([0, 1], np.float32), (batch, self.most, 1))
        for number, image in enumerate(images):
            self.seen += 1
            labels, count = ndimage.label(image[..., 0] > 127)
            for step in range(min(count, self.most)):
                masks[number, step], stop[number, step] = labels == step + 1, 1
        return masks, classes, stop


def blobs(side: int, count: int, *, radii: tuple[float, float], seed: int = 0) -> np.ndarray:
    """Draws ellipses that do not touch, some of them cut by the border of the image.

    Returns:
        (side, side) int32 label map.
    """
    generator = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    number = 1
    while number <= count:
        a, b = generator.uniform(*radii, 2)
        turn, (x, y) = generator.uniform(0, np.pi), generator.uniform(-a / 3, side + a / 3, 2)
        reach = int(max(a, b)) + 3
        top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
        window = labels[top : int(y) + reach, left : int(x) + reach]
        rows, columns = np.indices(window.shape)
        down, across = rows + top - y, columns + left - x
        u, v = across * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - across * np.sin(turn)
        inside = (u / a) ** 2 + (v / b) ** 2 <= 1
        around = (u / (a + 2)) ** 2 + (v / (b + 2)) ** 2 <= 1
        if inside.sum() >= 12 and not window[around].any() and ndimage.label(inside)[1] == 1:
            window[inside] = number
            number += 1
    return labels


def image_of(labels: np.ndarray) -> np.ndarray:
    """Returns a black image with white objects, (H, W, 3) uint8."""
    return np.repeat((labels > 0).astype(np.uint8)[..., None] * 255, 3, axis=2)


def compared(labels: np.ndarray, found) -> dict[str, int]:
    """Counts objects found to the pixel, missing ones, and predictions that find no object or one found before."""
    areas = np.bincount(labels.ravel())
    times, exact = np.zeros(len(areas), int), 0
    for instance in found:
        mask = instance.cropped
        shared = np.bincount(labels[mask.window][mask.crop], minlength=len(areas))
        number = int(shared.argmax())
        times[number] += 1
        exact += bool(number and shared[number] == areas[number] == mask.area)
    return {"exact": exact, "missing": int((times[1:] == 0).sum()), "surplus": len(found) - int((times[1:] > 0).sum())}
