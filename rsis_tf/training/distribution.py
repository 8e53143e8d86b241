"""Training on several devices: which replicas there are, which images each gets, and which process writes.

A batch of `batch_size` images is divided over the replicas; losses, gradients and batch statistics are those of the
whole batch (`rsis_tf.replicas`), so a run does not depend on the number of replicas, up to rounding and dropout. With
"multi_worker" the same command runs on every machine, each with its own TF_CONFIG, and reads its own share.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import keras

from rsis_tf.errors import InputError
from rsis_tf.models import RSIS

_EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distribution:
    """The replicas of a run, as this process sees them; the default is one replica and no strategy.

    Attributes:
        strategy: of `tf.distribute`, or None.
        chief: whether this process writes the run's folder. Other workers write nothing.
    """

    strategy: Any = None
    chief: bool = True

    @property
    def replicas(self) -> int:
        """Number of replicas of all workers together."""
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which variables are created, so that every replica has a copy."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def batches(self, make: Callable[..., Any]) -> Any:
        """Returns batches that `fit` and `evaluate` take.

        Args:
            make: `tf_batches` with all arguments except `replicas` and `here`, which select what this worker reads.
        """
        if self.strategy is None:
            return make()

        def shares(worker: Any) -> Any:
            each = self.replicas // worker.num_input_pipelines
            first = worker.input_pipeline_id * each
            return make(replicas=self.replicas, here=range(first, first + each))

        return self.strategy.distribute_datasets_from_function(shares)

    def prepare(self, model: RSIS) -> None:
        """Synchronises the batch normalisation of a keras.applications encoder; that of this project always is."""
        if self.replicas > 1:
            for layer in model.encoder.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True

    def barrier(self) -> None:
        """Waits for the other workers, for example before a file is replaced that they may be reading."""
        if self.strategy is not None:
            self.strategy.reduce("SUM", self.strategy.run(lambda: keras.ops.ones(())), axis=None)


def is_chief(strategy: str) -> bool:
    """Returns whether this process writes the run's folder, from TF_CONFIG alone.

    Raises:
        InputError: if "multi_worker" finds no usable TF_CONFIG.
    """
    if strategy != "multi_worker":
        return True
    text = os.environ.get("TF_CONFIG", "")
    try:
        content = json.loads(text)
        cluster, kind, index = content["cluster"], content["task"]["type"], content["task"]["index"]
        if kind not in ("chief", "worker") or not set(cluster) <= {"chief", "worker"}:
            raise ValueError
        cluster[kind][index]
    except (ValueError, KeyError, TypeError, IndexError):
        raise InputError(
            f"--strategy multi_worker finds its workers in the environment, such as TF_CONFIG='{_EXAMPLE}'. "
            f"Received: TF_CONFIG={text!r}"
        ) from None
    return kind == "chief" or ("chief" not in cluster and index == 0)


def start(strategy: str, *, batch_size: int) -> Distribution:
    """Finds the devices and, with "multi_worker", waits for the other workers; TensorFlow must not have run before.

    Args:
        strategy: of a `TrainConfig`.
        batch_size: images that the replicas divide among them.

    Raises:
        InputError: with another backend than TensorFlow, a bad TF_CONFIG, or a batch that cannot be divided evenly.
    """
    if strategy == "none":
        return Distribution()
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"--strategy {strategy} needs the TensorFlow backend. Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    chief = is_chief(strategy)
    if strategy == "multi_worker":
        distribution = Distribution(strategy=_workers(), chief=chief)
    else:
        import tensorflow as tf

        # MirroredStrategy itself would use only one of the logical CPUs that tests create.
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        distribution = Distribution(strategy=tf.distribute.MirroredStrategy([device.name for device in devices]))
    if batch_size % distribution.replicas:
        raise InputError(
            f"the batch size must be a multiple of the replicas, {distribution.replicas} here. "
            f"Received: --batch-size {batch_size}"
        )
    return distribution


def _workers() -> Any:
    import tensorflow as tf

    class Workers(tf.distribute.MultiWorkerMirroredStrategy):
        """`MultiWorkerMirroredStrategy` that can reduce the logs of Keras' `fit`."""

        def reduce(self, reduce_op: Any, value: Any, axis: int | None) -> Any:
            # Keras 3 asks for the mean of its logs along axis 0, but they are scalars.
            if axis == 0 and self.experimental_local_results(value)[0].shape.rank == 0:
                axis = None
            return super().reduce(reduce_op, value, axis)

    return Workers()
