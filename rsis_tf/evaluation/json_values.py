"""Scores as values that JSON can hold."""

import math
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Converts dictionaries, sequences, arrays and numbers for JSON: arrays become lists, NaN becomes None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    return None if isinstance(value, float) and math.isnan(value) else value
