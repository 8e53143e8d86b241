"""Measures one training step of the PyTorch version of the network, computed in the way of the original code.

For the cost of a step, its mask is repeated for every object; objects are matched on the host; their masks are
permuted to the order of the predictions. Started by against_pytorch.py, with the options of `pytorch_worker` as
provider; precision=bf16 means autocast.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np
from training_data import training_batch

from export.benchmarking.worker import Task, serve


def soft_iou_cost(true: Any, predicted: Any) -> Any:
    """Returns 1 − Σpq / (Σp + Σq − Σpq + 1e-6) of masks (…, H·W)."""
    product = (true * predicted).sum(-1)
    return 1 - product / (true.sum(-1) + predicted.sum(-1) - product + 1e-6)


def matched(masks: Any, predicted: Any) -> np.ndarray:
    """Returns for each prediction the object it is matched to, (B, T), computed on the host.

    Args:
        masks: (B, N, H·W), N ≥ T, all valid.
        predicted: (B, T, H·W).
    """
    import torch
    from scipy.optimize import linear_sum_assignment

    batch, objects, pixels = masks.shape
    costs = []
    with torch.no_grad():
        for step in range(predicted.shape[1]):
            repeated = predicted[:, step, None].repeat(1, objects, 1)  # (B, N, H·W)
            cost = soft_iou_cost(masks.reshape(-1, pixels), repeated.reshape(-1, pixels))
            costs.append(cost.reshape(batch, objects).cpu().numpy())
    order = np.zeros((batch, predicted.shape[1]), np.int64)
    for i, cost in enumerate(np.stack(costs, 2)):  # (N, T)
        rows, columns = linear_sum_assignment(cost)
        order[i, columns] = rows
    return order


def losses(model: Any, images: Any, masks: Any, classes: Any, *, channels_last: bool) -> Any:
    """Returns the weighted sum of mask, class and stop loss (weights 1, 0.1 and 0.5)."""
    import torch
    from torch.nn import functional

    mask_logits, class_logits, stop_logits = model.logits(images, channels_last=channels_last)
    predicted = torch.sigmoid(mask_logits.float()).flatten(2)  # (B, T, H·W)
    order = torch.from_numpy(matched(masks, predicted)).to(images.device)
    permuted = torch.gather(masks, 1, order[..., None].expand(-1, -1, masks.shape[2]))  # (B, T, H·W)
    mask_loss = soft_iou_cost(permuted, predicted).mean()
    class_loss = functional.cross_entropy(class_logits.float().flatten(0, 1), torch.gather(classes, 1, order).flatten())
    # With at least T objects, every step has one, and each side of the stop loss weighs one half.
    stop_logits = stop_logits.float()
    stop_loss = 0.5 * functional.binary_cross_entropy_with_logits(stop_logits, torch.ones_like(stop_logits))
    return mask_loss + 0.1 * class_loss + 0.5 * stop_loss


def prepare(task: Task) -> tuple[dict[str, Any], Callable[[], object]]:
    """Builds the network, takes the first step, and returns its loss and the step to measure."""
    import torch
    from pytorch_worker import load, read_options

    device, options = read_options(task.provider)
    if task.threads:
        torch.set_num_threads(task.threads)
    model, (size, _) = load(pathlib.Path(task.path))
    channels_last = options.get("channels_last") == "1"
    model = model.to(device, memory_format=torch.channels_last if channels_last else torch.preserve_format).train()
    encoder = list(model.encoder.base.parameters())
    known = set(map(id, encoder))
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [{"params": encoder, "lr": 1e-6}, {"params": others, "lr": 1e-3}]
    optimizer = torch.optim.Adam(groups, weight_decay=1e-6)
    images, targets = training_batch(batch=task.batch, objects=20, size=size)
    autocast = options.get("precision") == "bf16"

    def step() -> float:
        given = torch.from_numpy(images).to(device)
        masks = torch.from_numpy(targets["masks"]).to(device).float().flatten(2)  # (B, N, H·W)
        classes = torch.from_numpy(targets["classes"]).to(device).long()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            loss = losses(model, given, masks, classes, channels_last=channels_last)
        loss.backward()
        optimizer.step()
        return loss.item()

    facts = {"loss": step(), "precision": "bf16" if autocast else "tf32" if options.get("tf32") == "1" else "fp32"}
    for _ in range(task.warm_up):
        step()
    return facts, step


if __name__ == "__main__":
    serve(prepare)
