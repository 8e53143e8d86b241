"""PyTorch's Adam, RMSprop and SGD in Keras.

Keras computes all three a little differently: it decouples the L2 penalty from the gradient, adds epsilon in other
places, and includes the learning rate in SGD's momentum, so that a schedule also rescales earlier gradients. The
original was trained with PyTorch's rules; with them, its learning rates and its penalty have the same effect here.
"""

from typing import Any

import keras
from keras import ops

from rsis_tf.replicas import all_reduce


class _Coupled(keras.optimizers.Optimizer):
    """Adds to a Keras optimiser an L2 penalty in the gradient, an on/off switch, and averages of the weights.

    Args:
        args, kwargs: of the Keras optimiser, for example `global_clipnorm`. A learning rate is a number or a function
            without arguments.
        l2: coefficient of the penalty; the gradient becomes g + l2·w, after clipping.

    Attributes:
        enabled: while False, `apply` leaves variables, moments and the step count as they are, as PyTorch does for
            parameters without a gradient. Read when a train step is compiled.
    """

    def __init__(self, *args: Any, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.l2 = l2
        self.enabled = True

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        if self.enabled:
            # Keras would sum after clipping; the norm to clip is that of the whole batch's gradient.
            known = iter(all_reduce([grad for grad in grads if grad is not None]))
            super().apply([None if grad is None else next(known) for grad in grads], trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars

    def penalised(self, gradient: Any, variable: Any) -> Any:
        """Returns g + l2·w in the variable's dtype."""
        gradient = ops.cast(gradient, variable.dtype)
        return gradient + self.l2 * ops.convert_to_tensor(variable) if self.l2 else gradient

    def finalize_variable_values(self, var_list: list) -> None:
        """Does nothing: with `use_ema`, Keras would replace the weights by the averages after every `fit`."""

    def averages(self) -> list[tuple[Any, Any]]:
        """Returns (variable, its moving average) for `use_ema`; none before the first step."""
        if not self.use_ema or int(keras.ops.convert_to_numpy(self.iterations)) == 0:
            return []
        return list(zip(self._trainable_variables, self._model_variables_moving_average, strict=True))

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "l2": self.l2}
        del config["weight_decay"]
        return config


class CoupledAdam(_Coupled, keras.optimizers.Adam):
    """Adam as in `torch.optim.Adam`.

    Besides the penalty, epsilon is added after the bias correction of the second moment. Keras adds it before, which
    makes it up to thirty times larger in the first steps.

    Args:
        learning_rate: a number or a function without arguments.
        epsilon: PyTorch's default.
        kwargs: of `_Coupled`.
    """

    def __init__(self, learning_rate: Any = 1e-3, *, epsilon: float = 1e-8, **kwargs: Any) -> None:
        super().__init__(learning_rate, epsilon=epsilon, **kwargs)

    def _backend_update_step(self, grads: list, trainable_variables: list, learning_rate: Any) -> None:
        # The bias corrections are the same for every variable, so they are computed once per step. With
        # r = √(1 − β₂ᵗ), PyTorch's m/(1 − β₁ᵗ) / (√v/r + ε) is r/(1 − β₁ᵗ) · m / (√v + r·ε).
        step = ops.cast(self.iterations + 1, "float32")
        root = ops.sqrt(1 - ops.power(self.beta_2, step))
        self._step_epsilon = self.epsilon * root
        rate = ops.cast(learning_rate, "float32") * root / (1 - ops.power(self.beta_1, step))
        super()._backend_update_step(grads, trainable_variables, rate)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        gradient = self.penalised(gradient, variable)
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        scale = ops.sqrt(second) + ops.cast(self._step_epsilon, dtype)
        self.assign_sub(variable, ops.cast(learning_rate, dtype) * first / scale)


class CoupledRMSprop(_Coupled, keras.optimizers.RMSprop):
    """RMSprop as in `torch.optim.RMSprop`, without momentum: v = ρ·v + (1 − ρ)·g², w −= rate · g / (√v + ε).

    Keras has other defaults (ρ = 0.9, ε = 1e-7) and computes √(v + ε).

    Args:
        learning_rate: a number or a function without arguments.
        rho, epsilon: PyTorch's defaults.
        kwargs: of `_Coupled`.
    """

    def __init__(self, learning_rate: Any = 1e-2, *, rho: float = 0.99, epsilon: float = 1e-8, **kwargs: Any) -> None:
        super().__init__(learning_rate, rho=rho, epsilon=epsilon, **kwargs)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        second = self._velocities[self._get_variable_index(variable)]
        gradient = self.penalised(gradient, variable)
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.rho))
        rate = ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, rate * gradient / (ops.sqrt(second) + self.epsilon))


class CoupledSGD(_Coupled, keras.optimizers.SGD):
    """SGD as in `torch.optim.SGD`, without dampening: m = μ·m + g, w −= rate · m.

    Keras stores μ·m + rate · g, so that a new rate does not apply to the momentum so far.

    Args:
        learning_rate: a number or a function without arguments.
        momentum: μ; 0 for none.
        kwargs: of `_Coupled`.
    """

    def __init__(self, learning_rate: Any = 1e-2, *, momentum: float = 0.9, **kwargs: Any) -> None:
        super().__init__(learning_rate, momentum=float(momentum), **kwargs)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        gradient = self.penalised(gradient, variable)
        if self.momentum:
            buffer = self.momentums[self._get_variable_index(variable)]
            gradient = self.momentum * ops.convert_to_tensor(buffer) + gradient
            self.assign(buffer, gradient)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * gradient)
