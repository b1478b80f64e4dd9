"""How good a detector is: matching with the truth, average precision, the report."""

from darkpy.evaluation.average_precision import average_precision, precision_recall
from darkpy.evaluation.coco import CocoScores
from darkpy.evaluation.detector import evaluate
from darkpy.evaluation.matching import Matches, Predictions, Truths, match
from darkpy.evaluation.recall import Recall, measure_recall
from darkpy.evaluation.report import ClassResult, Evaluation, assess
from darkpy.evaluation.results import write_results

__all__ = [
    "ClassResult",
    "CocoScores",
    "Evaluation",
    "Matches",
    "Predictions",
    "Recall",
    "Truths",
    "assess",
    "average_precision",
    "evaluate",
    "match",
    "measure_recall",
    "precision_recall",
    "write_results",
]
