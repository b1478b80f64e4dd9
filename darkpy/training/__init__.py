"""Training a detector: the loop, what happens beside it, and the job that puts them together."""

from darkpy.training.callback import Callback, Outcome, Record
from darkpy.training.job import TrainingResult, train
from darkpy.training.resuming import resume
from darkpy.training.settings import TrainingSettings, default_data
from darkpy.training.trainer import Trainer

__all__ = [
    "Callback", "Outcome", "Record", "Trainer", "TrainingResult", "TrainingSettings", "default_data", "resume", "train",
]  # fmt: skip
