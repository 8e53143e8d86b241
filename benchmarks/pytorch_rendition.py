"""The paper's network in plain PyTorch, for comparisons of speed. The project does not use it.

Nothing is computed ahead: every step convolves input, projection and hidden state again. Parameters have the names of
the original's checkpoints, so that `rsis_tf.models.pytorch.convert.state_dicts` fits.
"""

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
        in_gate, forget, out_gate, candidate = self.Gates(torch.cat([x, state[0]], 1)).chunk(4, 1)
        cell = torch.sigmoid(forget) * state[1] + torch.sigmoid(in_gate) * torch.tanh(candidate)
        return torch.sigmoid(out_gate) * torch.tanh(cell), cell


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

    def forward(self, maps: list[Tensor], states: list) -> tuple[Tensor, Tensor, Tensor, list]:
        pooled, following = [], []
        for cell, x, state in zip(self.clstm_list, maps, states, strict=True):
            if following:
                x = torch.cat([_resize(following[-1][0], x.shape[2:]), x], 1)
            following.append(cell(x, state))
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
    """

    def __init__(self, *, encoder: str, hidden_size: int, num_classes: int, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.encoder = Encoder(encoder, hidden_size)
        self.decoder = Decoder(hidden_size, num_classes)
        self.register_buffer("mean", 255 * torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor, *, channels_last: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Returns masks (B, T, H, W), classes (B, T, K) and stop (B, T); `channels_last` selects the memory layout."""
        x = images.permute(0, 3, 1, 2)
        # Without the copy, all layers would use the memory layout of the images.
        x = x if channels_last else x.contiguous()
        x = (x.to(self.mean.dtype) - self.mean) / self.std
        maps = self.encoder(x)
        states = [
            (x.new_zeros(len(x), hidden, *level.shape[2:]),) * 2
            for hidden, level in zip(self.decoder.hidden, maps, strict=True)
        ]
        masks, classes, stops = [], [], []
        for _ in range(self.num_steps):
            mask, class_logits, stop, states = self.decoder(maps, states)
            masks.append(mask)
            classes.append(class_logits)
            stops.append(stop)
        masks = torch.sigmoid(_resize(torch.cat(masks, 1), images.shape[1:3]))
        return masks, torch.softmax(torch.stack(classes, 1), -1), torch.sigmoid(torch.cat(stops, 1))


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=True)
