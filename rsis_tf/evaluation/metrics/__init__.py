"""Scores of predicted instances."""
