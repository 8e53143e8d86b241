"""Trained models that are part of the package: files in `models/`, found by name. `rsis zoo` lists them."""
