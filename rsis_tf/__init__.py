"""Recurrent instance segmentation for TensorFlow and Keras (Salvador et al., arXiv 1712.00617)."""

__version__ = "0.1.0"
