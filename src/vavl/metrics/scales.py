"""Raters' scales and the range [0, 1] that models predict in: there and back.

Every attribute of a manifest, of a model and of a prediction lies in [0, 1]; 0 is the lowest and 1
the highest value of the quantity that its name says. What a corpus stores otherwise is brought
there once, when the corpus is prepared, and by nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vavl.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Values = TypeVar("Values", float, "NDArray[np.float64]")


@dataclass(frozen=True)
class Scale:
    """The values that raters could give.

    Attributes:
        low: The lowest value of the scale.
        high: The highest value of the scale.
        reversed: Whether ``low`` stands for the most of what the attribute is named after.

    Raises:
        InputError: ``low`` is not below ``high``, or one of them is not finite.

    Example:
        >>> calm_is_5 = Scale(1, 5, reversed=True)
        >>> calm_is_5.to_unit(1.0), calm_is_5.from_unit(0.0)
        (1.0, 5.0)
    """

    low: float
    high: float
    reversed: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"scale: expected low < high, got ({self.low}, {self.high})")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def to_unit(self, value: Values) -> Values:
        """A value of the scale, or an array of them, as a value in [0, 1]."""
        share = (value - self.low) / (self.high - self.low)
        return 1.0 - share if self.reversed else share

    def from_unit(self, value: Values) -> Values:
        """A value in [0, 1], or an array of them, as a value of the scale."""
        share = 1.0 - value if self.reversed else value
        return self.low + share * (self.high - self.low)


SENTIMENT = Scale(-3, 3)
"""From highly negative to highly positive, as CMU-MOSEI and its kin have it."""
