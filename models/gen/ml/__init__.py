"""Tables of models that are one operator of ai.onnx.ml, or of text, each."""
