"""The lines of a training on the screen."""

import io

from rsis_tf.training.callbacks import Progress


def test_time_left_after_each_epoch():
    """One step in an epoch: the rate is unknown after the first, and nothing is left after the last."""
    stream = io.StringIO()
    progress = Progress(epochs=2, steps_per_epoch=1, stream=stream)
    for epoch in range(2):
        progress.on_epoch_begin(epoch)
        progress.epoch_done(epoch, {"loss": 1.0})
    first, last = stream.getvalue().splitlines()
    assert first.endswith("? left")
    assert last.endswith("0:00 left")
