"""Caffe networks (.prototxt with .caffemodel) read by ourselves: no converter of them is kept any more.

``schema.py`` describes the part of Caffe's protocol buffers that an inference needs, ``network.py`` reads
the two files with it, ``graph.py`` collects ONNX nodes with their shapes, ``layers/`` has one function a
layer type, ``reader.py`` is what the table of formats names.
"""
