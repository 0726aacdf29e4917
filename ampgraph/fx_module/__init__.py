"""torch.nn.Module: tracing, lifting, casting, running and training modules. It never imports onnx_model."""
