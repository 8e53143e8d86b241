"""Recomputation of activations: a function keeps no intermediate values for its gradients, it runs again for them."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function with the same results and gradients that needs memory for its results only.

    The backward pass calls the function again (Chen et al., arXiv 1604.06174), so it must not draw random numbers.
    `keras.remat` takes and returns tensors only; this takes and returns any structure of named tuples, lists and
    dictionaries whose leaves may also be numbers or None. Gradients flow to the tensors among the arguments and to
    variables, not to tensors that the function gets from elsewhere.

    Args:
        function: of positional arguments; it is called while a gradient is recorded.
    """

    def call(*arguments: Any) -> Any:
        given, rebuild = _split(arguments)
        # The structure of the results is known after the first call, and the same in every other.
        rebuild_results: Callable[[tuple[Any, ...]], Any] | None = None

        def of_tensors(*tensors: Any) -> tuple[Any, ...]:
            nonlocal rebuild_results
            results, rebuild_results = _split(function(*rebuild(tensors)))
            return results

        results = keras.remat(of_tensors)(*given)
        assert rebuild_results is not None
        return rebuild_results(results)

    return call


def _split(structure: Any) -> tuple[tuple[Any, ...], Callable[[tuple[Any, ...]], Any]]:
    """Returns the tensors of a structure, and a function that puts others into their places."""
    leaves = keras.tree.flatten(structure)
    places = [index for index, leaf in enumerate(leaves) if ops.is_tensor(leaf)]

    def rebuild(tensors: tuple[Any, ...]) -> Any:
        replaced = dict(zip(places, tensors, strict=True))
        return keras.tree.pack_sequence_as(structure, [replaced.get(i, leaf) for i, leaf in enumerate(leaves)])

    return tuple(leaves[index] for index in places), rebuild
