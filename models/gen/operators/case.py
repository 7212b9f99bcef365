"""One row of a table becomes models: each version of the operator, each type it takes, static and dynamic."""

import itertools
import re
import zlib
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, defs, helper

from . import fill

Option = defs.OpSchema.FormalParameterOption
ATTRIBUTE_TYPE = re.compile(r"(seq|optional|sparse_tensor|tensor|map)\((.*)\)$")


@dataclass
class Row:
    """An operator with inputs (see `fill.spec`) and attributes. An attribute may be a function of the types."""

    op: str
    inputs: tuple
    attrs: dict
    outputs: int = 1
    versions: tuple = (1, 10**6)
    types: dict = field(default_factory=dict)
    every_pair: bool = False
    domain: str = ""
    rtol: float = 1e-3
    shape_only: bool = False


def row(op, *inputs, outputs=1, versions=(1, 10**6), types=None, every_pair=False, shape_only=False, **attrs):
    specs = tuple(fill.spec(i) for i in inputs)
    return Row(op, specs, attrs, outputs, versions, types or {}, every_pair, shape_only=shape_only)


@dataclass
class Case:
    """A model, the values of its inputs by name, and what it covers: (domain, operator, since, type)."""

    name: str
    model: onnx.ModelProto
    inputs: dict
    covers: tuple
    rtol: float = 1e-3
    shape_only: bool = False
    atol: float = 1e-5


SCHEMAS = defaultdict(dict)
for _schema in defs.get_all_schemas_with_history():
    SCHEMAS[_schema.domain, _schema.name][_schema.since_version] = _schema


def element(text):
    """`tensor(float)` or `seq(tensor(float))` as (kind, element type); None for maps."""
    kind, inner = ATTRIBUTE_TYPE.match(text).groups()
    if kind in ("seq", "optional"):
        nested = element(inner)
        return nested and (f"{kind} {nested[0]}", nested[1])
    return None if kind == "map" else (kind, TensorProto.DataType.Value(inner.upper()))


def allowed(schema):
    """The types each type variable of the schema takes."""
    rows = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return {k: [e for e in map(element, v) if e] for k, v in rows.items()}


def parameter(parameters, index):
    """The formal parameter of an actual one: the last is variadic."""
    return parameters[min(index, len(parameters) - 1)]


def fits(row, schema):
    low, high = row.versions
    given = sum(1 for _ in row.inputs)
    required = [n for n, a in schema.attributes.items() if a.required]
    return (
        low <= schema.since_version <= high
        and schema.min_input <= given <= schema.max_input
        and row.outputs <= schema.max_output
        and set(row.attrs) <= set(schema.attributes)
        and set(required) <= set(row.attrs)
        and not any(i is None and is_required(schema, n) for n, i in enumerate(row.inputs))
    )


def is_required(schema, index):
    return parameter(schema.inputs, index).option == Option.Single


def assignments(row, schema):
    """The types to try, each with the (variable, type) it is there for: one variable moves at a time."""
    choices = allowed(schema)
    kinds = {}
    for n, given in enumerate(row.inputs):
        if given is not None:
            variable = parameter(schema.inputs, n).type_str
            probe = given(np.random.default_rng(0), TensorProto.FLOAT if variable in choices else TensorProto.INT64)
            kinds[variable] = "seq tensor" if isinstance(probe, list) else "tensor"
    for variable, kind in kinds.items():
        if variable in choices:
            choices[variable] = [c for c in choices[variable] if c[0] == kind]
    choices = {k: restrict(v, row.types.get(k)) for k, v in choices.items()}
    if not all(choices.values()):
        return
    base = {k: default(v) for k, v in choices.items()}
    yield base, None
    if row.every_pair:
        names = list(choices)
        for combination in itertools.product(*choices.values()):
            yield dict(zip(names, combination)), "+".join(fill.type_name(c[1]) for c in combination)
        return
    for variable, types in choices.items():
        for chosen in types:
            yield linked(row, choices, base | {variable: chosen}, variable), f"{variable}-{fill.type_name(chosen[1])}"


def linked(row, choices, types, moved):
    """Where a row says that one variable follows another (`types={"T2": "T1"}`), it does."""
    for name, leader in row.types.items():
        if isinstance(leader, str) and leader == moved and types[moved] in choices[name]:
            types = types | {name: types[moved]}
    return types


def restrict(choices, only):
    if only is None or isinstance(only, str):
        return choices
    return [c for c in choices if c[1] in only]


def default(choices):
    for wanted in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8):
        for choice in choices:
            if choice[1] == wanted:
                return choice
    return choices[0]


def type_of(text, types):
    return types[text] if text in types else element(text)


def type_proto(kind, shape):
    words, dtype = kind
    proto = helper.make_tensor_type_proto(dtype, shape)
    for word in reversed(words.split()[:-1]):
        make = helper.make_sequence_type_proto if word == "seq" else helper.make_optional_type_proto
        proto = make(proto)
    return proto


def symbols(name, array):
    """A shape of names only."""
    return None if isinstance(array, list) else [f"{name}_{d}" for d in range(array.ndim)]


def build(row, schema, types, name, dynamic):
    """The model of one row for one choice of types."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    names, graph_inputs, constants, values = [], [], [], {}
    for n, given in enumerate(row.inputs):
        if given is None:
            names.append("")
            continue
        label = f"x{n}"
        names.append(label)
        kind = type_of(parameter(schema.inputs, n).type_str, types)
        value = given(rng, kind[1])
        if given.constant and not dynamic:
            constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), label))
            continue
        shape = symbols(label, value) if dynamic else None if isinstance(value, list) else value.shape
        graph_inputs.append(helper.make_value_info(label, type_proto(kind, shape)))
        values[label] = value
    outputs = []
    for n in range(row.outputs):
        kind = type_of(parameter(schema.outputs, n).type_str, types)
        outputs.append(helper.make_value_info(f"y{n}", type_proto(kind, None)))
    attrs = {k: attribute(schema.attributes[k], v, types) for k, v in row.attrs.items()}
    while names and not names[-1]:
        names.pop()
    node = helper.make_node(row.op, names, [o.name for o in outputs], domain=row.domain, **attrs)
    graph = helper.make_graph([node], "g", graph_inputs, outputs, constants)
    return Case(name, model_of(graph, row.domain, schema.since_version), values, (), row.rtol, row.shape_only)


def attribute(declared, value, types):
    """The value in the form that the schema declares; a function gets the types."""
    if callable(value):
        value = value({t: e[1] for t, e in types.items()})
    return float(value) if declared.type == defs.OpSchema.AttrType.FLOAT else value


def model_of(graph, domain, version, ir_version=None):
    imports = [helper.make_opsetid(domain, version)]
    if domain:
        imports.append(helper.make_opsetid("", 21))
    ir = ir_version or max(3, helper.find_min_ir_version_for(imports, ignore_unknown=True))
    return helper.make_model(graph, opset_imports=imports, ir_version=max(4, ir))


def cases_of(row, number):
    """Every model of one row. Old versions of an operator see each type in its first rows only."""
    versions = sorted(SCHEMAS[row.domain, row.op].items())
    newest = versions[-1][1]
    for since, schema in versions:
        if schema.deprecated or not fits(row, schema):
            continue
        moves = number < 2 or schema is newest or row.types or row.every_pair
        for types, label in assignments(row, schema):
            if label and not moves:
                break
            for dynamic in (False, True) if label is None else (False,):
                tag = label or ("dynamic" if dynamic else "static")
                name = f"{row.op}-{since}.{number}.{tag}"
                try:
                    case = build(row, schema, types, name, dynamic)
                except (OverflowError, ValueError, TypeError) as error:
                    raise RuntimeError(f"{name}: {error}") from error
                used = {(row.domain, row.op, since, k, t) for k, t in types.items()}
                case.covers = tuple(used)
                yield case
