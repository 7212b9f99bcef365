"""What other implementations say of a model: lists of outputs, by the name of who says so."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, version_converter
from onnx.reference import ReferenceEvaluator

from . import fill

WIDE = {t: TensorProto.FLOAT for t in fill.SMALL_FLOATS}
onnxruntime.set_default_logger_severity(4)


def opinions(case):
    """Every oracle's outputs; those that refuse the model are left out."""
    found, refused = {}, {}
    for name, ask in (("reference", reference), ("ort", runtime), ("wide", wide), ("newest", newest)):
        if name == "newest" and found:
            continue
        try:
            with np.errstate(all="ignore"):
                outputs = ask(case)
            if outputs is not None:
                found[name] = [typed(v, o.type) for v, o in zip(outputs, case.model.graph.output, strict=True)]
        except Exception as error:  # an oracle may refuse with any kind of error
            refused[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
    return found, refused


def typed(value, kind):
    """The value with the type that the graph declares, where the oracle is loose about it."""
    if not kind.HasField("tensor_type"):
        return value
    if not isinstance(value, np.ndarray | np.generic | str | int | float | bool):
        raise TypeError(f"{type(value).__name__} for a tensor")
    array = np.asarray(value)
    if array.dtype == object and not all(isinstance(v, str) for v in array.ravel()):
        raise TypeError("a tensor of strings holds something else")
    want = fill.numpy_type(kind.tensor_type.elem_type)
    if array.dtype == want:
        return array
    if want == object and array.dtype.kind in "US":
        return array.astype(object)
    raise TypeError(f"{array.dtype} for {want}")


def reference(case):
    return ReferenceEvaluator(case.model).run(None, dict(case.inputs))


def runtime(case):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    model = case.model.SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(case.inputs))


def widened(proto):
    """The model with float32 in the place of the small floats; None where there is none or it has parts."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    graph, changed = model.graph, False
    for info in [*graph.input, *graph.output]:
        tensor = info.type.tensor_type
        if not info.type.HasField("tensor_type"):
            return None
        if tensor.elem_type in WIDE:
            tensor.elem_type, changed = TensorProto.FLOAT, True
    for constant in graph.initializer:
        if constant.data_type in WIDE:
            array = onnx.numpy_helper.to_array(constant).astype(np.float32)
            constant.CopyFrom(onnx.numpy_helper.from_array(array, constant.name))
            changed = True
    for attribute in (a for n in graph.node for a in n.attribute):
        if attribute.name in ("dtype", "to", "output_dtype", "output_datatype") and attribute.i in WIDE:
            return None
    return model if changed else None


def wide(case):
    """The same in float32, rounded at the end."""
    model = widened(case.model)
    if model is None:
        return None
    small = (np.float16, fill.numpy_type(TensorProto.BFLOAT16))
    inputs = {
        k: v.astype(np.float32) if isinstance(v, np.ndarray) and v.dtype in small else v for k, v in case.inputs.items()
    }
    twin = type(case)(case.name, model, inputs, case.covers)
    try:
        outputs = runtime(twin)
    except Exception:
        outputs = reference(twin)
    kinds = [o.type.tensor_type.elem_type for o in case.model.graph.output]
    return [np.asarray(v).astype(fill.numpy_type(k)) for v, k in zip(outputs, kinds)]


def newest(case):
    """The same as a model of the newest operators."""
    model = version_converter.convert_version(case.model, onnx.defs.onnx_opset_version())
    twin = type(case)(case.name, model, case.inputs, case.covers)
    try:
        return reference(twin)
    except Exception:
        model = version_converter.convert_version(case.model, 21)
        return runtime(type(case)(case.name, model, case.inputs, case.covers))
