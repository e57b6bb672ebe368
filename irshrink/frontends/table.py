"""The formats, one row each. Nothing is imported until a model of that format arrives."""

from __future__ import annotations

from irshrink.frontends.frontend import Frontend, Refusal

_TENSORFLOW = "tensorflow|tensorflow-cpu"

#: ONNX itself needs no conversion.
ONNX = Frontend(name="onnx", title="ONNX", suffixes=(".onnx",))

FRONTENDS: tuple[Frontend, ...] = (
    Frontend(
        name="keras",
        title="Keras",
        suffixes=(".keras", ".h5", ".hdf5"),
        extra="keras",
        needs=("keras", _TENSORFLOW, "tf2onnx"),
        script="convert_tensorflow.py",
    ),
    Frontend(
        name="savedmodel",
        title="TensorFlow SavedModel",
        marker="saved_model.pb",
        extra="tensorflow",
        needs=(_TENSORFLOW, "tf2onnx"),
        script="convert_tensorflow.py",
        options={"signature": "which signature to take (default serving_default)"},
    ),
    Frontend(
        name="pytorch",
        title="PyTorch",
        suffixes=(".pt2",),
        extra="pytorch",
        needs=("torch", "onnxscript"),
        script="convert_pytorch.py",
    ),
    Frontend(
        name="caffe",
        title="Caffe",
        suffixes=(".prototxt", ".caffemodel"),
        reader="irshrink.frontends.caffe.reader",
        options={"weights": "the .caffemodel, where it is not named like the .prototxt"},
        path_options=("weights",),
    ),
    Frontend(
        name="tflite",
        title="TensorFlow Lite",
        suffixes=(".tflite",),
        extra="tflite",
        reader="irshrink.frontends.tflite.reader",
    ),
)

_PICKLE = (
    "is a Python pickle, which can run any code when it is opened, so irshrink never loads one. "
)  # fmt: skip

REFUSED: tuple[Refusal, ...] = (
    Refusal(
        (".pt", ".pth", ".ckpt", ".bin"),
        f"{_PICKLE}Export the model in PyTorch: torch.export.save(torch.export.export(model.eval(), (x,)), "
        "'model.pt2'), then give model.pt2; or call irshrink.from_torch(model, (x,)).",
    ),
    Refusal(
        (".pkl", ".pickle", ".joblib"),
        f"{_PICKLE}Save the model in a format that holds no code, or export it as ONNX.",
    ),
    Refusal(
        (".safetensors",),
        "holds weights alone, and no graph. Load it into its network and export that as ONNX or .pt2.",
    ),
)
