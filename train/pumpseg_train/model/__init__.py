"""The Mask R-CNN: plain functional pieces and the arithmetic between them.

Everything here is written with `keras` and `keras.ops` only, so that the TensorFlow, JAX and PyTorch
backends all train it. Boxes are always float (..., 4) x1 y1 x2 y2 in input pixels, feature maps are
channels-last.
"""
