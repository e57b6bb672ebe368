"""Native code on models from anywhere, in a process of its own.

ONNX's checker, shape inference and version converter, and ONNX Runtime, are C++ that a malformed model can
abort or send into a segmentation fault. :mod:`client` hands a serialized model without its weights to that
process (:mod:`irshrink.isolated`) and takes back bytes; what dies is the other one, and the caller gets a
sentence.
"""
