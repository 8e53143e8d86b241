"""Objects of one training image pasted into another."""

import numpy as np

from rsis_tf.config import DataConfig
from rsis_tf.data.copy_paste import paste_objects
from rsis_tf.data.pipeline import plain_batches, tf_batches
from rsis_tf.data.readers.synthetic import SyntheticDataset
from rsis_tf.data.sample import PADDING, VOID

SCENES = SyntheticDataset(size=(32, 32), length=6, seed=1, max_objects=4)


def prepared(label_map, classes, colour, room=6):
    """What `prepare` returns for a plain image."""
    label_map = np.array(label_map, np.int32)
    padded = np.zeros(room, np.int32)
    padded[: len(classes)] = classes
    image = np.full((*label_map.shape, 3), colour, np.uint8)
    return image, label_map, padded, (np.arange(room) < len(classes)).astype(np.uint8)


def test_pasted_objects_bring_their_pixels_and_classes_and_lie_in_front():
    target = prepared([[1, 1, 1, 0], [VOID, 0, 2, PADDING]], [5, 6], 10)
    donor = prepared([[0, 0, 1, 1], [2, 2, 0, 1]], [7, 8], 200)
    seen = set()
    for seed in range(40):
        image, label_map, classes, valid = paste_objects(target, donor, np.random.default_rng(seed))
        new = image[..., 0] == 200
        count = int(valid.sum())
        assert sorted(set(label_map[label_map > 0].tolist())) == list(range(1, count + 1))
        assert label_map[1, 3] == PADDING
        assert image[1, 3, 0] == 10
        seen.add(tuple(sorted(classes[:count].tolist())))
        for pixel in np.ndindex(2, 4):
            label = label_map[pixel]
            if new[pixel]:
                assert classes[label - 1] == target[2].max() + donor[1][pixel]  # 7 or 8
            elif label > 0:
                assert classes[label - 1] == 4 + target[1][pixel]  # 5 or 6
            else:
                assert label == min(target[1][pixel], 0)
        # The largest object comes first.
        areas = np.bincount(label_map[label_map > 0], minlength=count + 1)[1:]
        assert (np.diff(areas) <= 0).all()
    assert seen == {(5, 6), (5, 6, 7), (5, 6, 8), (5, 6, 7, 8)}
    for array, before in zip(target, prepared([[1, 1, 1, 0], [VOID, 0, 2, PADDING]], [5, 6], 10), strict=True):
        np.testing.assert_array_equal(array, before)


def test_the_largest_objects_are_kept_and_a_covered_one_disappears():
    target = prepared([[1, 1, 1, 1, 2]], [5, 6], 10, room=2)
    donor = prepared([[0, 1, 1, 0, 2]], [7, 8], 200, room=2)
    outcomes = set()
    for seed in range(40):
        _, label_map, classes, valid = paste_objects(target, donor, np.random.default_rng(seed))
        outcomes.add((*classes.tolist(), *label_map[0].tolist()))
        assert valid.tolist() == [1, 1]
    assert outcomes == {
        (5, 6, 1, 1, 1, 1, 2),  # nothing pasted
        (5, 7, 1, 2, 2, 1, VOID),  # the smallest of three becomes void
        (5, 8, 1, 1, 1, 1, 2),  # object 6 lies under object 8
    }


def test_both_pipelines_paste_the_same_objects_in_training_only():
    config = DataConfig(image_size=(32, 32), batch_size=3, max_objects=9, copy_paste=0.5)
    without = DataConfig(image_size=(32, 32), batch_size=3, max_objects=9)
    changed = []
    for epoch in range(4):
        for plain, graph, plainest in zip(
            plain_batches(SCENES, config, training=True, epoch=epoch),
            tf_batches(SCENES, config, training=True, epoch=epoch),
            plain_batches(SCENES, without, training=True, epoch=epoch),
            strict=True,
        ):
            np.testing.assert_array_equal(plain[0], graph[0])
            np.testing.assert_array_equal(plain[1]["masks"], graph[1]["masks"])
            assert (plain[1]["masks"].sum(1) <= 1).all()
            changed += (plain[0] != plainest[0]).any(axis=(1, 2, 3)).tolist()
    assert 0 < sum(changed) < len(changed)
    for plain, plainest in zip(
        plain_batches(SCENES, config, training=False), plain_batches(SCENES, without, training=False), strict=True
    ):
        np.testing.assert_array_equal(plain[0], plainest[0])
