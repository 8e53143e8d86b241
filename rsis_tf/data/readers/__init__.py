"""Readers of datasets, one module per dataset or format; `rsis_tf.data.DATASETS` lists them.

`sbd` is not a reader: it merges two datasets into one that the reader of `voc` opens.
"""
