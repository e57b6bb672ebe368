"""One function a layer type: ``convert(graph, layer, inputs) -> outputs``; ``table.py`` names them."""
