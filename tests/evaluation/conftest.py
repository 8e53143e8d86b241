import numpy as np
import pytest
from evaluation_fakes import ListDataset, random_instances, random_sample


@pytest.fixture
def random_dataset():
    rng = np.random.default_rng(7)
    samples = [random_sample(rng, f"image{i:03d}") for i in range(40)]
    dataset = ListDataset(samples, ("background", "disc", "box", "star"))
    return dataset, {s.image_id: random_instances(rng, s) for s in samples}
