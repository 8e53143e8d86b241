"""Small datasets and predictions for the tests of this folder."""

import dataclasses

import numpy as np

from rsis_tf.data.sample import Sample
from rsis_tf.runtime import Instance


@dataclasses.dataclass
class ListDataset:
    samples: list
    class_names: tuple

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def make_instance(mask, class_id=1, objectness=1.0, class_prob=1.0, *, step=0, num_classes=4):
    probs = np.full(num_classes, (1 - class_prob) / (num_classes - 1), np.float32)
    probs[class_id] = class_prob
    return Instance(
        mask=np.asarray(mask, bool),
        class_id=class_id,
        class_name=f"class {class_id}",
        score=float(probs[class_id]) * objectness,
        step=step,
        objectness=objectness,
        class_probs=probs,
    )


def make_sample(label_map, classes, image_id="a"):
    label_map = np.asarray(label_map, np.int32)
    image = np.zeros((*label_map.shape, 3), np.uint8)
    return Sample(image=image, label_map=label_map, classes=np.asarray(classes, np.int32), image_id=image_id)


def perfect(sample):
    return [
        make_instance(sample.label_map == i + 1, int(c), step=i)
        for i, c in enumerate(sample.classes)
        if (sample.label_map == i + 1).any()
    ]


class Oracle:
    """Returns the result of a function of the sample; finds the sample by the identity of its image."""

    def __init__(self, dataset, answer):
        self.class_names = dataset.class_names
        self._answers = {id(sample.image): answer(sample) for sample in dataset.samples}

    def __call__(self, image):
        return self._answers[id(image)]


def random_sample(rng, image_id, *, size=(40, 48), most=5, classes=3, void=True):
    """Returns a sample of overlapping rectangles, some with a strip of void."""
    labels = np.zeros(size, np.int32)
    count = int(rng.integers(0, most + 1))
    for i in range(count):
        (y0, y1), (x0, x1) = np.sort(rng.integers(0, size[0] + 1, 2)), np.sort(rng.integers(0, size[1] + 1, 2))
        labels[y0:y1, x0:x1] = i + 1
    if void and rng.random() < 0.5:
        labels[:, int(rng.integers(size[1])) :][:, :3] = -1
    return make_sample(labels, rng.integers(1, classes + 1, count), image_id)


def random_instances(rng, sample, *, extra=2, classes=3):
    """Returns shifted objects of the sample, some with another class, and further boxes; many scores are equal."""
    instances = []
    for i, c in enumerate(sample.classes):
        if rng.random() < 0.8:
            mask = np.roll(sample.label_map == i + 1, rng.integers(-1, 2, 2), (0, 1))
            instances.append((mask, int(c) if rng.random() < 0.8 else int(rng.integers(1, classes + 1))))
    for _ in range(int(rng.integers(0, extra + 1))):
        mask = np.zeros(sample.label_map.shape, bool)
        y, x = rng.integers(0, 16, 2)
        mask[y : y + 8, x : x + 8] = True
        instances.append((mask, int(rng.integers(1, classes + 1))))
    return [
        make_instance(m, c, objectness=float(rng.integers(1, 5)) / 4, class_prob=float(rng.integers(1, 5)) / 4, step=s)
        for s, (m, c) in enumerate(instances)
        if m.any()
    ]
