"""Checkpoints of PyTorch, read without PyTorch."""
