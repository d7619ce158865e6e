"""What `pumpseg doctor` looks at. Nothing here needs NumPy, OpenCV or ONNX Runtime to be imported."""
