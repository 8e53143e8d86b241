"""The paper's network in plain PyTorch, for comparisons of speed. The project does not use it.

By default nothing is computed ahead, as in the original: every step convolves input, projection and hidden state
again. With `hoisted`, the projections are convolved once per image, as the project does it; this shows what the idea
brings and what the runtime brings. Parameters have the names of the original's checkpoints, so that
`rsis_tf.models.pytorch.convert.state_dicts` fits.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = {"resnet34": ((3, 4, 6, 3), False), "resnet50": ((3, 4, 6, 3), True), "resnet101": ((3, 4, 23, 3), True)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Residual block; the stride sits on the (first) 3×3 convolution."""

    def __init__(self, channels: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        layers = [(width, 1, 1), (width, 3, stride), (out, 1, 1)] if bottleneck else [(width, 3, stride), (out, 3, 1)]
        self.depth, taken = len(layers), channels
        for i, (given, kernel, step) in enumerate(layers, start=1):
            self.add_module(f"conv{i}", nn.Conv2d(taken, given, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(given))
            taken = given
        self.downsample = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.depth else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Backbone(nn.Module):
    """ResNet without its classifier: (B, 3, H, W) → five maps, deepest first."""

    def __init__(self, name: str) -> None:
        super().__init__()
        repeats, bottleneck = BLOCKS[name]
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.widths, channels = [64], 64
        for level, repeat in enumerate(repeats):
            blocks = []
            for block in range(repeat):
                stride = 2 if level and not block else 1
                blocks.append(Block(channels, 64 << level, stride, bottleneck=bottleneck))
                channels = (256 if bottleneck else 64) << level
            self.add_module(f"layer{level + 1}", nn.Sequential(*blocks))
            self.widths.append(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [torch.relu(self.bn1(self.conv1(x)))]
        x = functional.max_pool2d(maps[0], 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps[::-1]


class Encoder(nn.Module):
    """Backbone and skip projections to D, D, D/2, D/4, D/8 channels."""

    def __init__(self, name: str, hidden_size: int) -> None:
        super().__init__()
        self.base = Backbone(name)
        for stage, taken in enumerate(self.base.widths[::-1]):
            given = hidden_size >> max(stage - 1, 0)
            self.add_module(f"sk{5 - stage}", nn.Conv2d(taken, given, 3, padding=1))
            self.add_module(f"bn{5 - stage}", nn.BatchNorm2d(given))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.base(x)
        return [
            getattr(self, f"bn{level}")(getattr(self, f"sk{level}")(x))
            for level, x in zip(range(5, 0, -1), maps, strict=True)
        ]


class Cell(nn.Module):
    """ConvLSTM cell, gates in the order input, forget, output, candidate."""

    def __init__(self, taken: int, hidden: int) -> None:
        super().__init__()
        self.Gates = nn.Conv2d(taken + hidden, 4 * hidden, 3, padding=1)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return _next(self.Gates(torch.cat([x, state[0]], 1)), state[1])

    def hoisted(self, projection: Tensor, before: int) -> Callable[..., tuple[Tensor, Tensor]]:
        """Convolves the projection, which begins at the input channel `before`; returns a function for each step."""
        after = before + projection.shape[1]
        weight = self.Gates.weight
        fixed = functional.conv2d(projection, weight[:, before:after], self.Gates.bias, padding=1)
        changing = torch.cat([weight[:, :before], weight[:, after:]], 1)
        if changing.shape[1] and projection.is_contiguous(memory_format=torch.channels_last):
            changing = changing.contiguous(memory_format=torch.channels_last)

        def step(x: Tensor | None, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
            parts = [part for part in (x, state and state[0]) if part is not None]
            gates = fixed
            if parts:  # without a state, the hidden channels are zero
                kernel = changing if state else changing[:, :before]
                gates = gates + functional.conv2d(torch.cat(parts, 1), kernel, padding=1)
            return _next(gates, state[1] if state else None)

        return step


def _next(gates: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns hidden and cell state; without a cell state, that of zeros."""
    in_gate, forget, out_gate, candidate = gates.chunk(4, 1)
    following = torch.sigmoid(in_gate) * torch.tanh(candidate)
    if cell is not None:
        following = torch.sigmoid(forget) * cell + following
    return torch.sigmoid(out_gate) * torch.tanh(following), following


class Decoder(nn.Module):
    """Five cells with skip concatenation, and the heads of mask, class and stop."""

    def __init__(self, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = [hidden_size >> stage for stage in range(5)]
        taken = [hidden_size, *(hidden + hidden for hidden in self.hidden[:-1])]
        self.clstm_list = nn.ModuleList(map(Cell, taken, self.hidden))
        self.conv_out = nn.Conv2d(self.hidden[-1], 1, 3, padding=1)
        self.fc_class = nn.Linear(sum(self.hidden), num_classes)
        self.fc_stop = nn.Linear(sum(self.hidden), 1)

    def hoisted(self, maps: list[Tensor]) -> list[Callable[..., tuple[Tensor, Tensor]]]:
        """Convolves all projections; returns the function of each cell."""
        return [
            cell.hoisted(projection, 0 if stage == 0 else self.hidden[stage - 1])
            for stage, (cell, projection) in enumerate(zip(self.clstm_list, maps, strict=True))
        ]

    def forward(
        self, maps: list[Tensor], states: list, cells: list[Callable[..., tuple[Tensor, Tensor]]] | None = None
    ) -> tuple[Tensor, Tensor, Tensor, list]:
        pooled, following = [], []
        for stage, (projection, state) in enumerate(zip(maps, states, strict=True)):
            x = _resize(following[-1][0], projection.shape[2:]) if following else None
            if cells:
                following.append(cells[stage](x, state))
            else:
                joined = projection if x is None else torch.cat([x, projection], 1)
                following.append(self.clstm_list[stage](joined, state))
            pooled.append(following[-1][0].amax((2, 3)))
        last = following[-1][0]
        mask = self.conv_out(_resize(last, (2 * last.shape[2], 2 * last.shape[3])))
        features = torch.cat(pooled, 1)
        return mask, self.fc_class(features), self.fc_stop(features), following


class Rendition(nn.Module):
    """The whole network: (B, H, W, 3) RGB 0..255 → probabilities of masks, classes and stop.

    Args:
        encoder: "resnet34", "resnet50" or "resnet101".
        hidden_size: D.
        num_classes: K.
        num_steps: T.
        hoisted: whether the projections are convolved once, not in every step.
    """

    def __init__(
        self, *, encoder: str, hidden_size: int, num_classes: int, num_steps: int, hoisted: bool = False
    ) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.hoisted = hoisted
        self.encoder = Encoder(encoder, hidden_size)
        self.decoder = Decoder(hidden_size, num_classes)
        self.register_buffer("mean", 255 * torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor, *, channels_last: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Returns masks (B, T, H, W), classes (B, T, K) and stop (B, T); `channels_last` selects the memory layout."""
        masks, classes, stop = self.logits(images, channels_last=channels_last)
        return torch.sigmoid(masks), torch.softmax(classes, -1), torch.sigmoid(stop)

    def logits(self, images: Tensor, *, channels_last: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the same before sigmoid and softmax."""
        x = images.permute(0, 3, 1, 2)
        # Without the copy, all layers would use the memory layout of the images.
        x = x if channels_last else x.contiguous()
        x = (x.to(self.mean.dtype) - self.mean) / self.std
        maps = self.encoder(x)
        cells = self.decoder.hoisted(maps) if self.hoisted else None
        states: list = [None] * len(maps)
        if cells is None:
            states = [
                (level.new_zeros(len(x), hidden, *level.shape[2:]),) * 2
                for hidden, level in zip(self.decoder.hidden, maps, strict=True)
            ]
        masks, classes, stops = [], [], []
        for _ in range(self.num_steps):
            mask, class_logits, stop, states = self.decoder(maps, states, cells)
            masks.append(mask)
            classes.append(class_logits)
            stops.append(stop)
        return _resize(torch.cat(masks, 1), images.shape[1:3]), torch.stack(classes, 1), torch.cat(stops, 1)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=True)
