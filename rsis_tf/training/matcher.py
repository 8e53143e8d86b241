"""Assignment of true objects to predictions: the only computation that leaves the graph and runs on the host."""

from typing import Any

import keras
import numpy as np
from scipy.optimize import linear_sum_assignment

Tensor = Any


def match(cost: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assigns objects to predictions with the smallest total cost (paper, section 3.3).

    All n objects of an image are assigned among its first min(n, T) predictions; when n > T, the T objects
    that fit best are assigned.

    Args:
        cost: (B, N, T) float, cost of assigning object n to prediction t. Only the first `count` rows are read.
        count: (B,) integer, the number n of objects of each image.

    Returns:
        assignment: (B, T) int32, the object assigned to prediction t; 0 where there is none.
        weight: (B, T) float32, 1 where prediction t has an object, else 0.
    """
    # The solver fails on NaN. It is replaced here and stays in the loss, which the training checks.
    cost = np.nan_to_num(np.asarray(cost, np.float64), nan=1.0, posinf=1e6, neginf=-1e6)
    batch, objects, steps = cost.shape
    assignment = np.zeros((batch, steps), np.int32)
    weight = np.zeros((batch, steps), np.float32)
    for b, n in enumerate(np.asarray(count).astype(int)):
        if not 0 <= n <= objects:
            raise ValueError(f"count must lie in 0..{objects} (N). Received: count[{b}]={n}")
        rows, columns = linear_sum_assignment(cost[b, :n, : min(n, steps)])
        assignment[b, columns] = rows
        weight[b, columns] = 1
    return assignment, weight


def match_in_graph(cost: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Computes `match` on tensors of the Keras backend, inside a compiled step; no gradient passes through.

    Arguments and results are those of `match`.
    """
    backend = keras.backend.backend()
    shape = (cost.shape[0], cost.shape[2])
    cost = keras.ops.stop_gradient(cost)
    if backend == "tensorflow":
        import tensorflow as tf

        assignment, weight = tf.py_function(
            lambda cost, count: match(cost.numpy(), count.numpy()), [cost, count], [tf.int32, tf.float32]
        )
        assignment.set_shape(shape)
        weight.set_shape(shape)
        return assignment, keras.ops.stop_gradient(weight)
    if backend == "jax":
        import jax

        result = (jax.ShapeDtypeStruct(shape, "int32"), jax.ShapeDtypeStruct(shape, "float32"))
        return jax.pure_callback(match, result, cost, count)
    assignment, weight = match(keras.ops.convert_to_numpy(cost), keras.ops.convert_to_numpy(count))
    return keras.ops.convert_to_tensor(assignment), keras.ops.convert_to_tensor(weight)
