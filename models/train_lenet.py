"""Trains LeNet-300-100 and LeNet-5 (Caffe's variant) on MNIST: ``python models/train_lenet.py MNIST_FOLDER``.

The folder holds the four .gz files. Training sums in an order that depends on the machine, so the weights
are not the committed ones, but nets of the same shape and about the same error. Needs torch and onnx.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from make import _digits
from torch import nn

EPOCHS, BATCH = 15, 64


def lenet_300_100() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )


def lenet_5() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def train(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> None:
    """Adam with a cosine schedule; every batch is shifted by up to two pixels."""
    torch.manual_seed(0)
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (BATCH,))
        shift = tuple(torch.randint(-2, 3, (2,)).tolist())
        loss = nn.functional.cross_entropy(net(torch.roll(x[rows], shift, (2, 3))), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def main(folder: Path) -> None:
    x, y = (torch.from_numpy(np.array(a)) for a in _digits(folder, "train"))
    test, labels = (torch.from_numpy(np.array(a)) for a in _digits(folder, "t10k"))
    for name, net in (("lenet-300-100", lenet_300_100()), ("lenet-5", lenet_5())):
        train(net, x, y)
        with torch.no_grad():
            errors = int((net(test).argmax(1) != labels).sum())
        print(f"{name}: {100 * errors / len(test):.2f} % of the test set wrong")
        torch.onnx.export(
            net.eval(), (x[:1],), Path(__file__).parent / f"{name}.onnx", opset_version=17, dynamo=False,
            input_names=["input"], output_names=["logits"],
            dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
