"""Makes the small models that the repository carries: `python models/gen/make_models.py`.

Everything is seeded; `requirements.txt` beside this file names the versions that made the committed files.
Each model is a folder `models/<name>/` with `model.onnx`, `inputs.npz` and `expected.npz`.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MODELS = pathlib.Path(__file__).resolve().parent.parent


def save(name, model, inputs, expected):
    """Writes one model folder; every array is keyed by the name of its graph input or output."""
    onnx.checker.check_model(model, full_check=True)
    folder = MODELS / name
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "inputs.npz", **inputs)
    np.savez(folder / "expected.npz", **expected)


def forest_iris():
    """A random forest on iris; the expected outputs are scikit-learn's own."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    forest = RandomForestClassifier(n_estimators=40, max_depth=6, random_state=7).fit(x, y)
    model = convert_sklearn(
        forest,
        initial_types=[("X", FloatTensorType([None, 4]))],
        options={id(forest): {"zipmap": False}},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    model.graph.name = "forest_iris"
    probe = x[::5]
    expected = {
        "label": forest.predict(probe).astype(np.int64),
        "probabilities": forest.predict_proba(probe).astype(np.float32),
    }
    save("forest_iris", model, {"X": probe}, expected)


class Net:
    """Collects nodes and seeded weights of one graph."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def weight(self, name, value):
        self.weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op.lower()}/{output}", **attributes))
        return output

    def conv_bn(self, x, name, channels_in, channels_out):
        scale = np.sqrt(2.0 / (9 * channels_in))
        w = self.weight(f"{name}.w", scale * self.random.standard_normal((channels_out, channels_in, 3, 3)))
        c = self.node("Conv", [x, w], f"{name}.c", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        bn = [
            self.weight(f"{name}.scale", self.random.uniform(0.5, 1.5, channels_out)),
            self.weight(f"{name}.bias", 0.1 * self.random.standard_normal(channels_out)),
            self.weight(f"{name}.mean", 0.1 * self.random.standard_normal(channels_out)),
            self.weight(f"{name}.var", self.random.uniform(0.5, 1.5, channels_out)),
        ]
        return self.node("BatchNormalization", [c, *bn], f"{name}.n")


def cnn_small():
    """A residual CNN of 3x32x32 images; the expected outputs are ONNX Runtime's, unoptimized."""
    import onnxruntime as ort

    net = Net(11)
    stem = net.node("Relu", [net.conv_bn("x", "stem", 3, 16)], "stem")
    pool = net.node("MaxPool", [stem], "pool", kernel_shape=[2, 2], strides=[2, 2])
    a = net.node("Relu", [net.conv_bn(pool, "block.a", 16, 16)], "block.a")
    b = net.conv_bn(a, "block.b", 16, 16)
    block = net.node("Relu", [net.node("Add", [b, pool], "block.sum")], "block")
    head = net.node("Flatten", [net.node("GlobalAveragePool", [block], "mean")], "features", axis=1)
    w = net.weight("fc.w", 0.25 * net.random.standard_normal((10, 16)))
    bias = net.weight("fc.b", 0.1 * net.random.standard_normal(10))
    logits = net.node("Gemm", [head, w, bias], "logits", transB=1)
    net.node("Softmax", [logits], "probabilities", axis=1)

    graph = helper.make_graph(
        net.nodes,
        "cnn_small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        net.weights,
    )
    model = helper.make_model(
        graph, producer_name="kiln models/gen", ir_version=9, opset_imports=[helper.make_opsetid("", 18)]
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = net.random.standard_normal((4, 3, 32, 32)).astype(np.float32)
    save("cnn_small", model, {"x": x}, {"probabilities": session.run(None, {"x": x})[0]})


if __name__ == "__main__":
    forest_iris()
    cnn_small()
