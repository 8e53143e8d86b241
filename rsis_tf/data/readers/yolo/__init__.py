"""Datasets in the format of YOLO's instance segmentation, as Ultralytics defines it and label tools export it.

`layout` finds the images of a split and the names of the classes, `rows` reads a label file, and `reader` puts both
together.
"""

from rsis_tf.data.readers.yolo.reader import YoloDataset

__all__ = ["YoloDataset"]
