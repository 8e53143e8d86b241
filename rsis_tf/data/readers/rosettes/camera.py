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
        balance = rng.uniform(0.85, 1.2) * rng.uniform(0.94, 1.06, 3)
        noise = rng.standard_normal(light.size, np.float32)
        noise *= np.float32(rng.uniform(1.0, 5.0))
        start = int(rng.integers(light.size))
        image = np.empty((*light.shape, 3), np.uint8)
        for channel, values in enumerate(scene):
            values *= light
            values *= np.float32(balance[channel])
            # The channels share one draw, from starts far apart: as good to the eye as three draws, and faster.
            values += np.roll(noise, start + channel * light.size // 3).reshape(light.shape)  # (H · W) → (H, W)
            image[..., channel] = np.clip(values, 0, 255, out=values)
        return image


def _blurred(scene: Array, share: float) -> Array:
    """Returns the scene blurred by the kernel (share, 1 − 2 · share, share) along each axis."""
    side, middle = np.float32(share), np.float32(1 - 2 * share)
    for axis in (1, 2):
        before = np.moveaxis(scene, axis, 0)
        scene = scene * middle
        after = np.moveaxis(scene, axis, 0)
        before *= side
        after[1:] += before[:-1]
        after[:-1] += before[1:]
        after[(0, -1), :] += before[(0, -1), :]  # the border continues
    return scene
