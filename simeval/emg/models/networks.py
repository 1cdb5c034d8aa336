"""The networks: ResNet-18 on spectrograms as images, and a one-dimensional one with bands as channels."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def make_network(architecture: str, channels: int, bands: int, width: int, classes: int) -> nn.Module:
    """Return an untrained network from (B, channels, bands, frames) to (B, classes) logits."""
    if architecture == "resnet18":
        return ResNet18(channels, width, classes)
    return BandNet(channels * bands, width, classes)


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016, CVPR, table 1), of any number of channels; `width` is 64 in the paper."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        sizes = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(*[
            nn.Sequential(_Block(into, out, 1 if i == 0 else 2), _Block(out, out, 1))
            for i, (into, out) in enumerate(pairwise(sizes))
        ])  # fmt: skip
        self.head = nn.Linear(8 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, classes) logits."""
        return self.head(self.stages(self.stem(x)).mean(dim=(2, 3)))


class _Block(nn.Module):
    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or into != out:
            self.shortcut = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


class BandNet(nn.Module):
    """Three convolutions over time with channels × bands as input channels, then mean and maximum over time.

    A spectrum isn't the same grasp a few bands higher, so nothing is shared over frequency, as an image network would.
    """

    def __init__(self, inputs: int, width: int, classes: int, dropout: float = 0.3) -> None:
        super().__init__()

        def block(into: int, stride: int) -> nn.Sequential:
            convolution = nn.Conv1d(into, width, 5, stride, 2, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1))

        self.body = nn.Sequential(block(inputs, 1), block(width, 2), block(width, 2))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, classes) logits."""
        h = self.body(x.flatten(1, 2))
        return self.head(self.dropout(torch.cat([h.mean(2), h.amax(2)], dim=1)))
