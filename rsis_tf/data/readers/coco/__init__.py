"""Datasets in COCO's format, as label tools export them.

`reader` puts the pieces together: `layouts` finds the files of a split, `annotation_file` reads and checks the JSON
file, `frame` brings image and annotations into the same orientation, and `segmentation` turns polygons and run lengths
into masks.
"""

from rsis_tf.data.readers.coco.reader import CocoDataset

__all__ = ["CocoDataset"]
