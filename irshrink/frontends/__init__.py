"""Models of other frameworks become ONNX here: a table of formats, and one way to convert them.

``table.py`` lists the formats and imports nothing. ``convert.py`` turns a file of any of them into ONNX, by a
converter that runs in a process of its own (``process.py``), or by a reader of ours where no converter is
kept any more (``caffe/``). ``read.py`` is the door for commands: any model file in, a module out.
"""
