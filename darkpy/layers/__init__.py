"""One module per cfg section; see :mod:`darkpy.layers.base` for the contract."""

from darkpy.layers.base import Buffer, Graph, Layer, Parameter, Shape, register, registered

__all__ = ["Buffer", "Graph", "Layer", "Parameter", "Shape", "register", "registered"]
