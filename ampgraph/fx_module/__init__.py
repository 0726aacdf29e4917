"""torch.nn.Module: tracing, lifting, casting and running modules. It never imports onnx_model."""
