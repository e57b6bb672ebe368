"""The part of Caffe's protocol buffers that decides what a network computes (BVLC/caffe, caffe.proto).

Two schemas: one for the text of a .prototxt, where names of fields count and numbers do not, and one for the
weights in a .caffemodel, where it is the other way round. Fields that only training reads are known by name,
so that a field we do *not* know is told and never skipped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

#: Enumerations by name: ``values`` in the order of their numbers.
_ENUMS = {
    "Phase": ("TRAIN", "TEST"),
    "Pool": ("MAX", "AVE", "STOCHASTIC"),
    "Rounding": ("CEIL", "FLOOR"),
    "Engine": ("DEFAULT", "CAFFE", "CUDNN"),
    "Eltwise": ("PROD", "SUM", "MAX"),
    "Region": ("ACROSS_CHANNELS", "WITHIN_CHANNEL"),
    "Variance": ("FAN_IN", "FAN_OUT", "AVERAGE"),
    "DimCheck": ("STRICT", "PERMISSIVE"),
    "Normalization": ("FULL", "VALID", "BATCH_SIZE", "NONE"),
    "V1Type": (
        "NONE", "ABSVAL", "ACCURACY", "ARGMAX", "BNLL", "CONCAT", "CONTRASTIVE_LOSS", "CONVOLUTION", "DATA",
        "DECONVOLUTION", "DROPOUT", "DUMMY_DATA", "EUCLIDEAN_LOSS", "ELTWISE", "EXP", "FLATTEN", "HDF5_DATA",
        "HDF5_OUTPUT", "HINGE_LOSS", "IM2COL", "IMAGE_DATA", "INFOGAIN_LOSS", "INNER_PRODUCT", "LRN",
        "MEMORY_DATA", "MULTINOMIAL_LOGISTIC_LOSS", "MVN", "POOLING", "POWER", "RELU", "SIGMOID",
        "SIGMOID_CROSS_ENTROPY_LOSS", "SILENCE", "SOFTMAX", "SOFTMAX_LOSS", "SPLIT", "SLICE", "TANH",
        "WINDOW_DATA", "THRESHOLD",
    ),
}  # fmt: skip

#: Parameters of layers: ``name type``, ``*`` after a type where it repeats, ``=`` and the default.
_PARAMETERS = {
    "batch_norm_param": "use_global_stats bool, moving_average_fraction float=0.999, eps float=1e-5",
    "bias_param": "axis int64=1, num_axes int64=1, filler Filler",
    "clip_param": "min float, max float",
    "concat_param": "axis int64=1, concat_dim int64=1",
    "convolution_param": "num_output int64, bias_term bool=true, pad int64*, kernel_size int64*, "
    "stride int64*, dilation int64*, pad_h int64, pad_w int64, kernel_h int64, kernel_w int64, "
    "stride_h int64, stride_w int64, group int64=1, weight_filler Filler, bias_filler Filler, engine Engine, "
    "axis int64=1, force_nd_im2col bool",
    "crop_param": "axis int64=2, offset int64*",
    "dropout_param": "dropout_ratio float=0.5, scale_train bool=true",
    "eltwise_param": "operation Eltwise=SUM, coeff float*, stable_prod_grad bool=true",
    "elu_param": "alpha float=1",
    "exp_param": "base float=-1, scale float=1, shift float=0",
    "flatten_param": "axis int64=1, end_axis int64=-1",
    "inner_product_param": "num_output int64, bias_term bool=true, weight_filler Filler, bias_filler Filler, "
    "axis int64=1, transpose bool=false",
    "input_param": "shape BlobShape*",
    "log_param": "base float=-1, scale float=1, shift float=0",
    "lrn_param": "local_size int64=5, alpha float=1, beta float=0.75, norm_region Region=ACROSS_CHANNELS, "
    "k float=1, engine Engine",
    "permute_param": "order int64*",
    "pooling_param": "pool Pool=MAX, pad int64=0, pad_h int64=0, pad_w int64=0, kernel_size int64, "
    "kernel_h int64, kernel_w int64, stride int64=1, stride_h int64, stride_w int64, engine Engine, "
    "global_pooling bool=false, round_mode Rounding=CEIL, ceil_mode bool=true",
    "power_param": "power float=1, scale float=1, shift float=0",
    "prelu_param": "filler Filler, channel_shared bool=false",
    "relu_param": "negative_slope float=0, engine Engine",
    "relu6_param": "threshold float=6",
    "reshape_param": "shape BlobShape, axis int64=0, num_axes int64=-1",
    "scale_param": "axis int64=1, num_axes int64=1, filler Filler, bias_term bool=false, bias_filler Filler",
    "sigmoid_param": "engine Engine",
    "slice_param": "axis int64=1, slice_point int64*, slice_dim int64=1",
    "softmax_param": "engine Engine, axis int64=1",
    "tanh_param": "engine Engine",
    "tile_param": "axis int64=1, tiles int64",
    "transform_param": "scale float, mirror bool, crop_size int64, mean_file string, mean_value float*, "
    "force_color bool, force_gray bool",
    "loss_param": "ignore_label int64, normalization Normalization, normalize bool",
}

_SHARED = "bottom string*, top string*, name string, include Rule*, exclude Rule*, loss_weight float*"

_TEXT = {
    "BlobShape": "dim int64*",
    "Filler": "type string, value float, min float, max float, mean float, std float, sparse int64, "
    "variance_norm Variance",
    "Rule": "phase Phase, min_level int64, max_level int64, stage string*, not_stage string*",
    "State": "phase Phase=TEST, level int64, stage string*",
    "Spec": "name string, share_mode DimCheck, lr_mult float, decay_mult float",
    "Layer": f"{_SHARED}, type string, phase Phase, param Spec*, propagate_down bool*",
    "V1Layer": f"{_SHARED}, type V1Type, param string*, blob_share_mode DimCheck*, blobs_lr float*, "
    "weight_decay float*",
    "Net": "name string, input string*, input_shape BlobShape*, input_dim int64*, force_backward bool, "
    "state State, debug_info bool, layer Layer*, layers V1Layer*",
}

#: Numbers as in caffe.proto. Weights are packed, so on the wire ``repeated float`` is a run of bytes, and as
#: bytes they need no Python object a number.
_WEIGHTS = {
    "BlobShape": "dim int64* 1",
    "Blob": "num int64 1, channels int64 2, height int64 3, width int64 4, data bytes* 5, shape BlobShape 7, "
    "double_data bytes* 8",
    "Layer": "name string 1, blobs Blob* 7",
    "V1Layer": "name string 4, blobs Blob* 6",
    "Net": "layers V1Layer* 2, layer Layer* 100",
}


@cache
def text_message() -> Any:
    """The message class of a whole .prototxt."""
    own = {_message_name(field): fields for field, fields in _PARAMETERS.items()}
    uses = ", ".join(f"{field} {_message_name(field)}" for field in _PARAMETERS)
    layers = {name: f"{_TEXT[name]}, {uses}" for name in ("Layer", "V1Layer")}
    return _build("caffe_text", {**_TEXT, **own, **layers})


@cache
def weights_message() -> Any:
    """The message class of a .caffemodel, of which names and weights alone are read."""
    return _build("caffe_weights", _WEIGHTS)


def _message_name(field: str) -> str:
    return field.title().replace("_", "")


def _build(package: str, messages: Mapping[str, str]) -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name=f"irshrink/{package}.proto", package=package, syntax="proto2"
    )
    for name, fields in messages.items():
        _add_message(file, package, name, fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Net"))


def _add_message(file: Any, package: str, name: str, fields: str) -> None:
    message = file.message_type.add(name=name)
    for position, text in enumerate(fields.split(",")):
        declaration, _, default = text.strip().partition("=")
        field_name, kind, *number = declaration.split()
        field = message.field.add(name=field_name, number=int(number[0]) if number else position + 1)
        field.label = 3 if kind.endswith("*") else 1  # LABEL_REPEATED, LABEL_OPTIONAL
        kind = kind.removesuffix("*")
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        elif kind in _ENUMS:
            _add_enum(message, kind)
            field.type, field.type_name = 14, f".{package}.{name}.{kind}"  # TYPE_ENUM
        else:
            field.type, field.type_name = 11, f".{package}.{kind}"  # TYPE_MESSAGE
        if default:
            field.default_value = default


def _add_enum(message: Any, name: str) -> None:
    if any(enum.name == name for enum in message.enum_type):
        return
    enum = message.enum_type.add(name=name)
    for number, value in enumerate(_ENUMS[name]):
        enum.value.add(name=value, number=number)


#: ``google.protobuf.descriptor_pb2.FieldDescriptorProto.Type`` by name.
_SCALARS = {"float": 2, "int64": 3, "bool": 8, "string": 9, "bytes": 12}
