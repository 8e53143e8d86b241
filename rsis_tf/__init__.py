"""Recurrent instance segmentation for TensorFlow and Keras (Salvador et al., arXiv 1712.00617)."""

import sys

__version__ = "0.1.0"

if "keras" in sys.modules:
    # Who works with Keras gets the classes that its load_model needs; who does not is spared importing it.
    import rsis_tf.models  # noqa: F401
