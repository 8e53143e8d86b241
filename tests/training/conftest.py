"""Fixtures for training tests."""

import pytest


@pytest.fixture
def eager():
    """Runs train steps without tracing them: a tiny model is traced longer than it is trained."""
    import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
