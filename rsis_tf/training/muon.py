"""Muon: momentum whose matrix is made orthogonal, for the kernels; Adam for everything else."""

import math
from typing import Any

from keras import ops

from rsis_tf.training.update_rules import CoupledAdam

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz polynomial, whose slope at zero is as large as possible (Jordan et al. 2024)."""

_ITERATIONS = 5
_SMALLEST_NORM = 1e-7
_ADAM_RMS = 0.2
"""Root mean square of a typical update of Adam, relative to its learning rate (Liu et al. 2025, section 2.2)."""

_FEWEST = 4
"""Rows and columns up to which a kernel is left to Adam: maps to a few logits, and depthwise kernels."""


class Muon(CoupledAdam):
    """Muon as in `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, and `CoupledAdam` for what is no matrix.

    A kernel (h, w, C, D) is a matrix (h·w·C, D). Its momentum B = μ·B + g gives the direction g + μ·B, of which five
    Newton-Schulz iterations make a matrix whose singular values all lie near one, so that no direction of the kernel is
    learned much faster than another. The update is scaled to the size of Adam's, so learning rates suit both rules.
    Biases, gains and kernels with at most four rows or columns are updated as Adam does.

    Sources: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv 2502.16982.

    Args:
        args, kwargs: of `CoupledAdam`. For matrices `l2` is decoupled from the gradient, as PyTorch has it here: the
            size of a gradient has no effect.
        momentum: μ.
    """

    def __init__(self, *args: Any, momentum: float = 0.95, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.momentum = momentum

    def _backend_update_step(self, grads: list, trainable_variables: list, learning_rate: Any) -> None:
        # Adam passes a rate on that contains its bias corrections.
        self._matrix_rate = ops.cast(learning_rate, "float32")
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rows, columns = matrix_shape(tuple(variable.shape))
        if min(rows, columns) <= _FEWEST:
            super().update_step(gradient, variable, learning_rate)
            return
        rate = ops.cast(self._matrix_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        buffer = self._momentums[self._get_variable_index(variable)]
        average = self.momentum * ops.convert_to_tensor(buffer) + gradient
        self.assign(buffer, average)
        direction = ops.reshape(gradient + self.momentum * average, (rows, columns))
        update = ops.reshape(orthogonalized(direction), variable.shape)
        if self.l2:
            self.assign_sub(variable, rate * self.l2 * ops.convert_to_tensor(variable))
        self.assign_sub(variable, rate * (_ADAM_RMS * math.sqrt(max(rows, columns))) * update)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns (inputs of one output, outputs) of a kernel whose last axis is the outputs; (1, size) of a vector."""
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def orthogonalized(matrix: Any) -> Any:
    """Returns a matrix with the same singular vectors and singular values of about one (0.7 to 1.2).

    Args:
        matrix: (n, m). Directions whose singular value is a thousandth of the norm and less stay small.
    """
    linear, cubic, quintic = _COEFFICIENTS
    rows, columns = matrix.shape
    wide = matrix if rows <= columns else ops.transpose(matrix)  # (s, l), s <= l: the smaller products
    wide = wide / ops.maximum(ops.norm(wide), _SMALLEST_NORM)
    for _ in range(_ITERATIONS):
        gram = ops.matmul(wide, ops.transpose(wide))  # (s, s)
        wide = linear * wide + ops.matmul(cubic * gram + quintic * ops.matmul(gram, gram), wide)
    return wide if rows <= columns else ops.transpose(wide)
