"""Adam, RMSprop and SGD against numbers of PyTorch.

The numbers below are what `python tests/training/test_update_rules.py` prints where PyTorch is installed (2.13.0, CPU).
"""

import keras
import numpy as np
import pytest

from rsis_tf.training.update_rules import CoupledAdam, CoupledRMSprop, CoupledSGD

START = [0.5, -1.0, 2.0]
# The last column is so small that the place of epsilon matters.
GRADIENTS = [[0.3, -0.2, 2e-8], [-0.1, 0.4, -1e-8], [0.25, 0.05, 3e-8], [0.0, -0.6, 5e-9]]
RATES = [0.1, 0.1, 0.02, 0.02]
RULES = {
    "adam": (CoupledAdam, {}),
    "rmsprop": (CoupledRMSprop, {}),
    "sgd": (CoupledSGD, {"momentum": 0.9}),
    "sgd without momentum": (CoupledSGD, {"momentum": 0.0}),
}
EXPECTED = {
    ("adam", 0.0): [
        [0.4, -0.9, 1.933333],
        [0.3599781, -0.9366103, 1.917019],
        [0.347198, -0.9436557, 1.908333],
        [0.3367293, -0.9378142, 1.900583],
    ],
    ("adam", 0.1): [
        [0.4, -0.9, 1.9],
        [0.3465379, -0.9069015, 1.800166],
        [0.3320955, -0.9067631, 1.780258],
        [0.3194498, -0.8968541, 1.760384],
    ],
    ("rmsprop", 0.0): [
        [-0.4999997, -3.576279e-07, 1.833333],
        [-0.1823394, -0.8953232, 1.915119],
        [-0.3071021, -0.917678, 1.871418],
        [-0.3071021, -0.757049, 1.864142],
    ],
    ("rmsprop", 0.1): [
        [-0.4999997, -2.980232e-07, 1.0],
        [-0.104406, -0.8014441, 0.5509872],
        [-0.2116137, -0.789326, 0.5027273],
        [-0.2021066, -0.6277202, 0.4595178],
    ],
    ("sgd", 0.0): [
        [0.47, -0.98, 2.0],
        [0.453, -1.002, 2.0],
        [0.44494, -1.00696, 2.0],
        [0.437686, -0.9994239, 2.0],
    ],
    ("sgd", 0.1): [
        [0.465, -0.97, 1.98],
        [0.43885, -0.9733, 1.9422],
        [0.4282653, -0.9729474, 1.931512],
        [0.4178825, -0.9586841, 1.918029],
    ],
    ("sgd without momentum", 0.0): [
        [0.47, -0.98, 2.0],
        [0.48, -1.02, 2.0],
        [0.475, -1.021, 2.0],
        [0.475, -1.009, 2.0],
    ],
    ("sgd without momentum", 0.1): [
        [0.465, -0.97, 1.98],
        [0.47035, -1.0003, 1.9602],
        [0.4644093, -0.9992993, 1.95628],
        [0.4634805, -0.9853007, 1.952367],
    ],
}
"""(rule, L2 penalty) → weights after each step."""


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("rule", RULES)
def test_weights_after_each_step_equal_those_of_pytorch(rule, l2):
    make, options = RULES[rule]
    variable = keras.Variable(np.array(START, "float32"))
    optimizer = make(RATES[0], l2=l2, **options)
    for step, (gradient, rate) in enumerate(zip(GRADIENTS, RATES, strict=True)):
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.convert_to_tensor(np.array(gradient, "float32"))], [variable])
        weights = keras.ops.convert_to_numpy(variable)
        # The bias corrections of Adam, 1 − 0.999 in float32, have five correct digits.
        rtol = 2e-5 if rule == "adam" else 1e-6
        np.testing.assert_allclose(weights, EXPECTED[rule, l2][step], rtol=rtol, atol=2e-7, err_msg=f"step {step}")


@pytest.mark.parametrize("rule", RULES)
def test_a_disabled_part_does_not_change(rule):
    make, options = RULES[rule]
    variable = keras.Variable(np.array(START, "float32"))
    optimizer = make(0.1, l2=0.1, **options)
    optimizer.build([variable])
    optimizer.enabled = False
    optimizer.apply([keras.ops.ones(3)], [variable])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), np.array(START, "float32"))
    assert int(optimizer.iterations) == 0


def main():
    import torch

    rules = {
        "adam": lambda weights, l2: torch.optim.Adam([weights], weight_decay=l2),
        "rmsprop": lambda weights, l2: torch.optim.RMSprop([weights], weight_decay=l2),
        "sgd": lambda weights, l2: torch.optim.SGD([weights], momentum=0.9, weight_decay=l2),
        "sgd without momentum": lambda weights, l2: torch.optim.SGD([weights], weight_decay=l2),
    }
    for name, make in rules.items():
        for l2 in (0.0, 0.1):
            weights = torch.nn.Parameter(torch.tensor(START))
            optimizer = make(weights, l2)
            rows = []
            for gradient, rate in zip(GRADIENTS, RATES, strict=True):
                optimizer.param_groups[0]["lr"] = rate
                weights.grad = torch.tensor(gradient)
                optimizer.step()
                rows.append([float(f"{value:.7g}") for value in weights.detach().tolist()])
            print(f"    {(name, l2)}: [".replace("'", '"'))
            for row in rows:
                print(f"        {row},")
            print("    ],")


if __name__ == "__main__":
    main()
