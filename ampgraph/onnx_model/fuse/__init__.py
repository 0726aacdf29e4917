"""Fusing: operators that onnxruntime's CUDA provider has one kernel for, found before precisions are decided."""
