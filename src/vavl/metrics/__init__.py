"""Scores for categories and attributes, on plain arrays.

Every category score is a function of the confusion matrix, and CCC is a function of six sums, so
each formula stands once: :func:`category_measures` and :func:`ccc_of_moments` work on any
number of leading dimensions, which is what makes thousands of bootstrap replicates one matrix
product. The functions on label arrays (:func:`accuracy`, :func:`uar`, ...) are thin fronts.

Conventions, the same in all of them:

* A category target of -1 and an attribute target of NaN mean *unknown*: those items are left out.
* Averages over classes (UAR, F1-macro) run over the classes that occur in the targets. A class
  that is only predicted lowers the precision of nothing else, and has no score of its own.
* With no known target at all the score is NaN: nothing was measured.
"""

from vavl.metrics.attributes import ccc, ccc_of_moments, moments, pearson, pearson_of_moments
from vavl.metrics.categories import (
    CATEGORY_MEASURES,
    UNKNOWN_CATEGORY,
    accuracy,
    category_measures,
    class_recalls,
    confusion_matrix,
    f1_macro,
    f1_micro,
    uar,
    war,
)
from vavl.metrics.confidence import RiskCoverage, risk_coverage

__all__ = [
    "CATEGORY_MEASURES",
    "UNKNOWN_CATEGORY",
    "RiskCoverage",
    "accuracy",
    "category_measures",
    "ccc",
    "ccc_of_moments",
    "class_recalls",
    "confusion_matrix",
    "f1_macro",
    "f1_micro",
    "moments",
    "pearson",
    "pearson_of_moments",
    "risk_coverage",
    "uar",
    "war",
]
