"""A small network of PyTorch with its own answers: ``python torch_nets.py FOLDER``.

Runs where the extra ``pytorch`` is installed. Writes ``residual.pt2``, ``residual-x.npz`` (64 samples by
input name) and ``residual-y.npz`` (outputs by name).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(x + self.conv2(self.act(self.bn1(self.conv1(x)))))
        return y


class Residual(nn.Module):
    """Images [3, 32, 32]: strided stem, SiLU, residual blocks, average pooling, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Sequential(Block(8), nn.MaxPool2d(2), Block(8))
        self.pool = nn.AvgPool2d(4)
        self.drop = nn.Dropout()
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.body(nn.functional.silu(self.stem(image))))
        scores: Tensor = self.head(self.drop(x.flatten(1))).softmax(-1)
        return scores


def main(folder: Path) -> None:
    torch.manual_seed(0)
    network = Residual()
    network(torch.randn(64, 3, 32, 32))  # statistics of BatchNorm
    network.eval()
    program = torch.export.export(network, (torch.randn(1, 3, 32, 32),))
    torch.export.save(program, folder / "residual.pt2")
    images = torch.randn(64, 3, 32, 32)
    np.savez(folder / "residual-x.npz", image=images.numpy())
    np.savez(folder / "residual-y.npz", softmax=network(images).detach().numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
