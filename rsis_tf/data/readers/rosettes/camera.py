"""Takes the image: falloff of light, white balance, defocus and noise of the sensor."""

import numpy as np

Array = np.ndarray


class Camera:
    """Takes images of one size.

    Args:
        size: (H, W) in pixels.
    """

    def __init__(self, size: tuple[int, int]):
        height, width = size
        self._y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]  # (H, 1)
        self._x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]  # (1, W)

    def take(self, scene: Array, direction: tuple[float, float], rng: np.random.Generator) -> Array:
        """Returns the image of a scene.

        Args:
            scene: (3, H, W) float32 in 0 … 255; its content is lost.
            direction: (y, x) from the light to the plant; the image darkens a little that way.
            rng: source of all variation.

        Returns:
            (H, W, 3) uint8.
        """
        if rng.random() < 0.6:
            scene = _blurred(scene, rng.uniform(0.03, 0.2))
        falloff, vignette = rng.uniform(0, 0.18), rng.uniform(0, 0.16)
        light = (1 - falloff * direction[0] * self._y - vignette * self._y * self._y) - (
            falloff * direction[1] * self._x + vignette * self._x * self._x
        )
        scene *= light
        balance = rng.uniform(0.85, 1.2) * rng.uniform(0.94, 1.06, 3)
        scene *= balance.astype(np.float32)[:, None, None]
        noise = rng.standard_normal(scene.shape, np.float32)
        noise *= np.float32(rng.uniform(1.0, 5.0))
        scene += noise
        np.clip(scene, 0, 255, out=scene)
        return np.ascontiguousarray(np.moveaxis(scene.astype(np.uint8), 0, -1))


def _blurred(scene: Array, share: float) -> Array:
    """Returns the scene blurred by the kernel (share, 1 − 2 · share, share) along each axis."""
    weight = np.float32(share / (1 - 2 * share))
    down = scene.copy()
    down[:, 1:] += weight * scene[:, :-1]
    down[:, :-1] += weight * scene[:, 1:]
    down[:, (0, -1)] += weight * scene[:, (0, -1)]
    both = down.copy()
    both[:, :, 1:] += weight * down[:, :, :-1]
    both[:, :, :-1] += weight * down[:, :, 1:]
    both[:, :, (0, -1)] += weight * down[:, :, (0, -1)]
    both *= np.float32((1 - 2 * share) ** 2)
    return both
