"""Small Caffe networks made up here: text, and weights as a .caffemodel holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irshrink.frontends.caffe.schema import weights_message

Array = NDArray[Any]

INPUT = (
    'layer { name: "data" type: "Input" top: "data" '
    "input_param { shape { dim: 1 dim: %d dim: %d dim: %d } } }"
)


def layer(name: str, kind: str, bottoms: str, tops: str, parameters: str = "") -> str:
    """The text of a layer; blobs are separated by spaces."""
    read = " ".join(f'bottom: "{blob}"' for blob in bottoms.split())
    written = " ".join(f'top: "{blob}"' for blob in tops.split())
    return f'layer {{ name: "{name}" type: "{kind}" {read} {written} {parameters} }}'


def weights(blobs: dict[str, list[Array]], *, old: bool = False) -> bytes:
    """A .caffemodel; ``old`` as files before 2014 spell layers and shapes."""
    net = weights_message()()
    for name, arrays in blobs.items():
        message = (net.layers if old else net.layer).add(name=name)
        for array in arrays:
            blob = message.blobs.add(data=[np.ascontiguousarray(array, "<f4").tobytes()])
            if old:
                dims = [1] * (4 - array.ndim) + list(array.shape)
                blob.num, blob.channels, blob.height, blob.width = dims
            else:
                blob.shape.dim.extend(array.shape)
    data: bytes = net.SerializeToString(deterministic=True)
    return data


def write(folder: Path, text: str, blobs: dict[str, list[Array]], name: str = "net") -> Path:
    """Both files; the path of the .prototxt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.prototxt").write_text(text, "utf-8")
    (folder / f"{name}.caffemodel").write_bytes(weights(blobs or {"data": []}))
    return folder / f"{name}.prototxt"


def rich_network(rng: np.random.Generator) -> tuple[str, dict[str, list[Array]]]:
    """A network of 19x17 images with most layer types, in a diamond."""

    def made(*shape: int) -> Array:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    text = [
        'name: "rich"',
        INPUT % (3, 19, 17),
        layer("conv1", "Convolution", "data", "conv1",
              "convolution_param { num_output: 8 kernel_size: 3 pad: 1 stride: 2 }"),
        layer("bn1", "BatchNorm", "conv1", "conv1"),
        layer("scale1", "Scale", "conv1", "conv1", "scale_param { bias_term: true }"),
        layer("relu1", "ReLU", "conv1", "conv1"),
        layer("norm1", "LRN", "conv1", "norm1", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 }"),
        layer("pool1", "Pooling", "norm1", "pool1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"),
        layer("dw", "Convolution", "pool1", "dw",
              "convolution_param { num_output: 8 group: 8 bias_term: false kernel_size: 3 pad: 1 }"),
        layer("prelu", "PReLU", "dw", "dw"),
        layer("wide", "Convolution", "pool1", "wide",
              "convolution_param { num_output: 8 kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 2 dilation: 2 }"),
        layer("tanh", "TanH", "wide", "wide"),
        layer("sum", "Eltwise", "dw wide", "sum", "eltwise_param { operation: SUM coeff: 1 coeff: -0.5 }"),
        layer("up", "Deconvolution", "sum", "up",
              "convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 }"),
        layer("cut", "Slice", "up", "left right", "slice_param { axis: 1 slice_point: 1 }"),
        layer("power", "Power", "left", "left2", "power_param { power: 2 scale: 0.5 shift: 1 }"),
        layer("sigmoid", "Sigmoid", "right", "right"),
        layer("cat", "Concat", "left2 right", "cat"),
        layer("pool2", "Pooling", "cat", "pool2",
              "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"),
        layer("drop", "Dropout", "pool2", "pool2"),
        layer("ip1", "InnerProduct", "pool2", "ip1", "inner_product_param { num_output: 12 }"),
        layer("elu", "ELU", "ip1", "ip1"),
        layer("ip2", "InnerProduct", "ip1", "ip2", "inner_product_param { num_output: 5 }"),
        layer("prob", "Softmax", "ip2", "prob"),
    ]  # fmt: skip
    blobs = {
        "conv1": [made(8, 3, 3, 3), made(8)],
        "bn1": [made(8), np.abs(made(8)) + 1, np.array([2.0], np.float32)],
        "scale1": [made(8) + 1, made(8)],
        "dw": [made(8, 1, 3, 3)],
        "prelu": [np.abs(made(8))],
        "wide": [made(8, 8, 1, 3), made(8)],
        "up": [made(8, 4, 4, 4), made(4)],
        "ip1": [made(12, 4 * 6 * 5), made(12)],
        "ip2": [made(5, 12), made(5)],
    }
    return "\n".join(text), blobs
