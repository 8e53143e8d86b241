"""Readers of datasets, one module per dataset or format; `rsis_tf.data.DATASETS` lists them.

Two modules are no readers: `sbd` merges two datasets into one that the reader of `voc` opens, and `validation_share`
divides the images of a dataset without splits.
"""
