"""ONNX models: reading and writing them, lift, apply, and running them on onnxruntime."""
