"""Keras to ONNX: graph assembly and verification of the written file."""
