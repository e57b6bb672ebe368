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
    Frontend(
        name="sklearn",
        title="scikit-learn",
        suffixes=(".skops",),
        extra="sklearn",
        needs=("scikit-learn", "skl2onnx", "skops"),
        script="convert_classical.py",
        options={"features": "number of columns, where the model does not know it"},
    ),
    Frontend(
        name="xgboost",
        title="XGBoost",
        suffixes=(".json", ".ubj"),
        claims="irshrink.frontends.sklearn:is_xgboost",
        extra="boosting",
        needs=("xgboost|xgboost-cpu", "onnxmltools", "scikit-learn"),
        script="convert_classical.py",
    ),
    Frontend(
        name="lightgbm",
        title="LightGBM",
        suffixes=(".txt",),
        claims="irshrink.frontends.sklearn:is_lightgbm",
        extra="boosting",
        needs=("lightgbm", "onnxmltools", "scikit-learn"),
        script="convert_classical.py",
    ),
)

_PICKLE = "is a Python pickle, which can run any code when it is opened, so irshrink never loads one. "

REFUSED: tuple[Refusal, ...] = (
    Refusal(
        (".pt", ".pth"),
        f"{_PICKLE}Export the model in PyTorch: torch.export.save(torch.export.export(model.eval(), (x,)), "
        "'model.pt2'), then give model.pt2; or call irshrink.from_torch(model, (x,), 'model.pt2').",
    ),
    Refusal(
        (".pkl", ".pickle", ".joblib"),
        f"{_PICKLE}Of scikit-learn: skops.io.dump(model, 'model.skops'), then give model.skops; or convert "
        "it where you trained it, with irshrink.from_sklearn(model, 'model.onnx'). XGBoost and LightGBM have "
        "save_model(): give its .json, .ubj or .txt file.",
    ),
    Refusal(
        (".ckpt", ".bin"),
        "is a checkpoint: weights, often as a pickle, and no graph. Load it into its network and export that "
        "as ONNX, .pt2 or a SavedModel.",
    ),
    Refusal(
        (".safetensors",),
        "holds weights alone, and no graph. Load it into its network and export that as ONNX or .pt2.",
    ),
)
