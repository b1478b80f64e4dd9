"""How good a detector is: matching with the truth, average precision, the report."""

from darkpy.evaluation.average_precision import average_precision, precision_recall
from darkpy.evaluation.detector import evaluate
from darkpy.evaluation.matching import Matches, Predictions, Truths, match
from darkpy.evaluation.report import ClassResult, Evaluation, assess

__all__ = [
    "ClassResult",
    "Evaluation",
    "Matches",
    "Predictions",
    "Truths",
    "assess",
    "average_precision",
    "evaluate",
    "match",
    "precision_recall",
]
