"""Exports of a trained model (SavedModel, ONNX, TFLite) and the runtime that applications ship."""
