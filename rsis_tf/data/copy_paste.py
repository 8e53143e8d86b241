"""Copy-paste augmentation (Ghiasi et al., arXiv 2012.07177): objects of one training image pasted into another."""

import numpy as np

from rsis_tf.data.labels import keep_largest
from rsis_tf.data.sample import PADDING, VOID

Prepared = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Image (h, w, 3) uint8, label map (h, w) int32, classes (N,) int32 and valid (N,) uint8, as `prepare` returns them."""


def paste_objects(target: Prepared, donor: Prepared, rng: np.random.Generator) -> Prepared:
    """Pastes a random half of the donor's objects, in front of those of the target.

    Objects of the target that are covered completely disappear. Of all objects the largest N are kept and the rest
    become void, as in `rsis_tf.data.prepare`.

    Args:
        target: receives the objects.
        donor: gives them; of the same size.
        rng: source of the random numbers.
    """
    image, label_map, classes, valid = target
    given, donor_map, donor_classes, donor_valid = donor
    count, donor_count = int(valid.sum()), int(donor_valid.sum())
    chosen = np.zeros(donor_map.max(initial=0) + 3, bool)
    chosen[1 : donor_count + 1] = rng.uniform(size=donor_count) < 0.5
    pasted = chosen[donor_map] & (label_map != PADDING)  # (h, w); VOID and PADDING index the last two
    image = np.where(pasted[..., None], given, image)
    padding = label_map == PADDING
    label_map = np.where(pasted, donor_map + count, np.maximum(label_map, VOID))
    together = np.concatenate([classes[:count], donor_classes[:donor_count]])
    label_map, classes, valid = keep_largest(label_map, together, max_objects=len(classes))
    label_map[padding] = PADDING
    return image, label_map, classes, valid
