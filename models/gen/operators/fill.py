"""What an input of a case holds: `spec(rng, dtype)` gives the value, for any element type of ONNX."""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

WORDS = np.array(["", "a", "b", "Kiln", "zoo", "ä", "a b", "10"], dtype=object)
FLOATS = (TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.BFLOAT16)
SMALL_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def numpy_type(dtype):
    return np.dtype(object) if dtype == TensorProto.STRING else np.dtype(helper.tensor_dtype_to_np_dtype(dtype))


def type_name(dtype):
    return TensorProto.DataType.Name(dtype).lower()


def is_integer(dtype):
    return "INT" in TensorProto.DataType.Name(dtype)


def bounds(dtype):
    """The least and the greatest integer of an integer type."""
    name = TensorProto.DataType.Name(dtype)
    bits = int(name.removeprefix("U").removeprefix("INT"))
    return (0, 2**bits - 1) if name[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def cast(values, dtype):
    """Plain values as an array of that type; numbers become words where it is of strings."""
    if dtype == TensorProto.STRING:
        values = np.asarray(values, dtype=object)
        return np.vectorize(lambda v: v if isinstance(v, str) else str(v), otypes=[object])(values)
    with np.errstate(all="ignore"):
        array = np.asarray(values)
        if is_integer(dtype):
            low, high = bounds(dtype)
            wide = [max(low, min(high, int(v))) for v in array.ravel()]
            return np.array(wide, np.uint64 if low == 0 else np.int64).astype(numpy_type(dtype)).reshape(array.shape)
        return array.astype(np.float64 if array.dtype.kind not in "c" else array.dtype).astype(numpy_type(dtype))


def ordinary(rng, shape, dtype, low=-2.0, high=2.0):
    """Moderate random values: distinct enough, small enough that no type overflows by a few additions."""
    if dtype == TensorProto.STRING:
        return np.asarray(WORDS[rng.integers(0, len(WORDS), shape)], dtype=object)
    if dtype == TensorProto.BOOL:
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if is_integer(dtype):
        least, most = bounds(dtype)
        return cast(np.asarray(rng.integers(max(least, -9), min(most, 9) + 1, shape)), dtype)
    if dtype in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return (rng.uniform(low, high, shape) + 1j * rng.uniform(low, high, shape)).astype(numpy_type(dtype))
    return np.asarray(rng.uniform(low, high, shape)).astype(numpy_type(dtype))


@dataclass(frozen=True)
class Spec:
    """`make(rng, dtype)` gives the value; a constant one is an initializer in the model of static shapes."""

    make: object
    constant: bool = False

    def __call__(self, rng, dtype):
        return self.make(rng, dtype)


def spec(value):
    """A tuple is a shape of ordinary values, a list is the values themselves, None is an absent input."""
    if value is None or isinstance(value, Spec):
        return value
    if isinstance(value, tuple):
        return Spec(lambda rng, dtype: ordinary(rng, value, dtype))
    return Spec(lambda rng, dtype: cast(value, dtype), constant=True)


def between(shape, low, high):
    """Floats or integers from low to high (integers include both)."""

    def make(rng, dtype):
        if is_integer(dtype):
            return cast(np.asarray(rng.integers(int(np.ceil(low)), int(np.floor(high)) + 1, shape)), dtype)
        return ordinary(rng, shape, dtype, low, high)

    return Spec(make)


def positive(*shape):
    return between(shape, 1, 3)


def fixed(values):
    """These values, but always given as a graph input."""
    return Spec(lambda rng, dtype: cast(values, dtype))


def extremes(*shape):
    """NaN, infinities, signed zeros and the ends of the type, in a fixed order."""

    def make(rng, dtype):
        if dtype in (TensorProto.STRING, TensorProto.BOOL):
            return ordinary(rng, shape, dtype)
        if is_integer(dtype):
            low, high = bounds(dtype)
            row = np.array([low, high, 0, 1, high - 1, max(low, -1)], dtype=object)
            return np.resize(row, shape).astype(numpy_type(dtype))
        row = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-3, 88.0, -88.0, 200.0, -200.0, 0.5, 2.5]
        return np.resize(np.array(row), shape).astype(numpy_type(dtype))

    return Spec(make)


def many(*specs):
    """A sequence of tensors."""
    parts = [spec(s) for s in specs]
    return Spec(lambda rng, dtype: [p(rng, dtype) for p in parts])
