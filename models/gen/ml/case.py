"""One model of few nodes, and the values of its inputs."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ML = "ai.onnx.ml"
MS = "com.microsoft"
TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int16): TensorProto.INT16,
    np.dtype(np.uint32): TensorProto.UINT32,
    np.dtype(np.bool_): TensorProto.BOOL,
    np.dtype(object): TensorProto.STRING,
}
F32, F64, I64, I32, STR = np.float32, np.float64, np.int64, np.int32, object


@dataclass
class Case:
    """A model and its inputs by name. `want` holds outputs known for certain, which no oracle may overrule."""

    name: str
    model: onnx.ModelProto
    inputs: dict
    want: list | None = None


def strings(*values):
    return np.array(values, dtype=object)


def tensor(values, dtype, name="t"):
    """An attribute tensor."""
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def output(name, kind):
    """A graph output of a dtype, or of a type that ONNX spells."""
    if isinstance(kind, onnx.TypeProto):
        return helper.make_value_info(name, kind)
    return helper.make_tensor_value_info(name, TYPES[np.dtype(kind)], None)


def maps(key, value=np.float32):
    """A sequence of maps."""
    return helper.make_sequence_type_proto(map_type(key, value))


def declare(name, value):
    """A graph input that takes the value: a tensor of any lengths, or a map."""
    if isinstance(value, dict):
        return helper.make_value_info(name, map_type(*map_kinds(value)))
    return helper.make_tensor_value_info(name, TYPES[value.dtype], names(name, value.shape))


def map_kinds(value):
    """The types of the keys and of the values of a map."""
    key, item = next(iter(value.items()))
    return (object if isinstance(key, str) else np.int64), (object if isinstance(item, str) else np.asarray(item).dtype)


def map_type(key, value):
    element = helper.make_tensor_type_proto(TYPES[np.dtype(value)], [])
    return helper.make_map_type_proto(TYPES[np.dtype(key)], element)


def map_proto(name, value):
    """A map as its file holds it."""
    _, dtype = map_kinds(value)
    items = [numpy_helper.from_array(np.array(v, dtype)) for v in value.values()]
    values = helper.make_sequence("", onnx.SequenceProto.TENSOR, items)
    keys = list(value)
    kind = TensorProto.STRING if isinstance(keys[0], str) else TensorProto.INT64
    given = [k.encode() for k in keys] if kind == TensorProto.STRING else keys
    return helper.make_map(name, kind, given, values)


def names(name, shape):
    return [1 if n == 1 else f"{name}_{i}" for i, n in enumerate(shape)]


def case(name, op, inputs, outputs, domain=ML, version=None, want=None, **attrs):
    """A model of one operator. `inputs` are arrays, `outputs` are types; attributes that are None are left out."""
    feeds = {f"x{i}": v if isinstance(v, dict) else np.asarray(v) for i, v in enumerate(inputs)}
    made = [f"y{i}" for i in range(len(outputs))]
    given = {k: v for k, v in attrs.items() if v is not None}
    node = helper.make_node(op, list(feeds), made, domain=domain, **given)
    return graph(name, [node], feeds, dict(zip(made, outputs)), {domain: version or 1}, want)


def graph(name, nodes, feeds, outputs, opsets, want=None):
    """A model of several nodes."""
    declared = [declare(k, v) for k, v in feeds.items()]
    made = [output(k, v) for k, v in outputs.items()]
    imports = [helper.make_opsetid(d, v) for d, v in ({"": 18} | opsets).items()]
    model = helper.make_model(helper.make_graph(nodes, "g", declared, made), opset_imports=imports, ir_version=8)
    return Case(name, model, feeds, want)
