"""Lets the converters run with an ONNX that refuses NumPy scalars inside attribute lists."""

import numpy as np
from onnx import helper


def _native(value):
    """The value with NumPy scalars and booleans turned into what protobuf takes."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_native(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    return value.item() if isinstance(value, np.generic) else value


def install():
    """Wraps `onnx.helper.make_attribute`, through which every converter passes."""
    original = helper.make_attribute

    def make_attribute(key, value, *rest, **named):
        return original(key, _native(value), *rest, **named)

    helper.make_attribute = make_attribute
