"""The native library: kernels for NVIDIA GPUs behind onnxruntime's interface for custom operators, in C and CUDA C++.

It links nothing but the C library: onnxruntime hands it its functions, the CUDA driver and cuDNN are looked for when
the first kernel runs. ops.c says what operators there are.
"""
