"""Exports of a trained model: ONNX, SavedModel and TFLite files, each compared with the Keras model.

`formats` is the table of formats; each row names one module here, which is also a command (`python -m export.onnx`).
`graph` holds the function that every format exports, `publish` writes and verifies a file, `onnx_graphs` holds what
ONNX alone needs. `serving` makes folders for model servers, `benchmark` compares files.
"""
