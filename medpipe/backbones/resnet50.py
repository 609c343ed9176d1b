"""ResNet-50 (He et al., 2015, arXiv:1512.03385) up to its pooled features, in the tensor names of published weights.

torchvision is not needed: a file of its weights, downloaded once and laid beside the data, is read as it is.
"""

from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from medpipe.geometry.faults import DataFault

WIDTH = 2048


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 convolutions around a shortcut."""

    def __init__(self, in_channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        out_channels = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )
            if stride > 1 or in_channels != out_channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.bn1(self.conv1(x)))
        hidden = torch.relu(self.bn2(self.conv2(hidden)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn3(self.conv3(hidden)) + shortcut)


@final
class ResNet50(nn.Module):
    """Images (B, 3, H, W) to features (B, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        in_channels = 64
        levels = []
        for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            parts = [Bottleneck(in_channels, width, stride=stride)]
            in_channels = 4 * width
            parts += [Bottleneck(in_channels, width, stride=1) for _ in range(blocks - 1)]
            levels.append(nn.Sequential(*parts))
        self.layer1, self.layer2, self.layer3, self.layer4 = levels

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


def load_resnet50(path: Path) -> ResNet50:
    """The network of a weights file (.pth, .pt or .safetensors); the classifier in it is left out.

    Raises DataFault: no such file, not a file of tensors alone, or tensors that do not fit.
    """
    if not path.is_file():
        raise DataFault(path, "no such file; save torchvision's resnet50 weights there (medpipe never downloads)")
    try:
        tensors: dict[str, Any]
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        network = ResNet50()
        network.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")})
    except Exception as error:
        raise DataFault(path, f"no weights of a ResNet-50: {error}") from None
    return network.eval()
