"""What the scores of categories and of attributes share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def shape_problems(arrays: dict[str, NDArray[Any]]) -> list[str]:
    """What is wrong with arrays that should be equally long vectors, by their names."""
    problems = [
        f"{name}: expected a vector (N,), got shape {values.shape}"
        for name, values in arrays.items()
        if values.ndim != 1
    ]
    sizes = {name: values.size for name, values in arrays.items()}
    if not problems and len(set(sizes.values())) > 1:
        problems.append(f"expected one prediction per target, got {sizes}")
    return problems


def ratio(
    numerator: NDArray[Any], denominator: NDArray[Any], empty: float = float("nan")
) -> NDArray[np.float64]:
    """``numerator / denominator``, and ``empty`` where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, np.shape(denominator))
    result = np.full(shape, empty, dtype=np.float64)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) != 0)
    return result
