"""TensorFlow Lite files (``.tflite``) as ONNX, by a reader of our own.

The file is a flatbuffer; the ``tflite`` package holds its schema and nothing else: no TensorFlow is needed.
``flatbuffer.py`` reads the file into plain records, ``graph.py`` writes ONNX, ``table.py`` says which
function of ``layers.py``, ``elementwise.py``, ``reductions.py`` or ``movement.py`` translates an operator.

A quantized tensor becomes QuantizeLinear and DequantizeLinear with the scale and zero point of the file, its
operators float operators between them. Images stay [N, H, W, C] at the border and get a Transpose on either
side of a convolution; the cleanup pass ``move-transposes`` takes them away.
"""
