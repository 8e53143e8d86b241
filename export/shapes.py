"""The name of an earlier version; the functions are in `rsis_tf.runtime`."""

from rsis_tf.runtime import to_label_map, to_polygons, to_rle

__all__ = ["to_label_map", "to_polygons", "to_rle"]
