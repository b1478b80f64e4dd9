"""Training a classifier from files to files: what ``darkpy classifier train`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from darkpy import text
from darkpy.classification import check_classes, hierarchy
from darkpy.data.classification import ClassificationDataset, open_classification
from darkpy.data.classifier_augmentation import ClassifierAugmentation
from darkpy.data.classifier_samples import ClassifierSamples
from darkpy.data.dataset import Dataset
from darkpy.data.loader import Loader
from darkpy.errors import ConfigError, Problem
from darkpy.evaluation.classifier import ClassifierEvaluation, evaluate_classifier, top_count
from darkpy.evaluation.confusion import draw_confusion
from darkpy.files import atomic_write
from darkpy.training.callback import Callback, Measured, Outcome, Record
from darkpy.training.csv_log import CsvLog
from darkpy.training.job import TrainingResult, train
from darkpy.training.preparation import Prepared
from darkpy.training.settings import TrainingSettings

if TYPE_CHECKING:
    from darkpy.network import Network
    from darkpy.training.progress import Progress
    from darkpy.training.run_folder import RunFolder
    from darkpy.training.trainer import Trainer

EPOCHS = 2
"""Times through the data between two evaluations, as in Darknet."""

NAMED = 5
"""Classes without pictures that are named."""

OF_DETECTORS = ("letter_box", "gaussian_noise", "mosaic_bound", "contrastive", "track")
"""Keys of ``[net]`` that do nothing here, as in Darknet."""


@dataclass(frozen=True)
class ClassifierSettings(TrainingSettings):
    """What to train, on what, and how: those of a detector, and one more.

    data: anything :func:`~darkpy.data.classification.open_classification` takes.
    top: best guesses that count for the second accuracy; None for what the data set says, or 5.
    """

    epochs: int = EPOCHS
    top: int | None = None


def train_classifier(settings: ClassifierSettings, progress: Progress | None = None) -> TrainingResult:
    """Train a classifier; everything it leaves is in the folder of the result. See :func:`darkpy.training.train`.

    Beside what a detector's training leaves there are ``<name of the cfg>.names``, the classes in order, and
    ``confusion.png``, which classes the last evaluation took for which.
    """
    return train(settings, progress, PreparedClassifier)


@dataclass
class PreparedClassifier(Prepared):
    """A training of a classifier that can begin."""

    settings: ClassifierSettings
    train_set: ClassificationDataset
    task: ClassVar[str] = "classifier"
    settings_type: ClassVar[type[TrainingSettings]] = ClassifierSettings
    evaluation_batch: ClassVar[int] = 16

    def __post_init__(self) -> None:
        net = self.config.net
        for key in OF_DETECTORS:
            if getattr(self.network.options, key):
                self.notes.append(f"{net.where_of(key)}  [{net.name}] {key} has no effect on a classifier")
        absent = [name for name, count in zip(self.train_set.names, self.train_set.counts()) if not count]
        if absent:
            named = ", ".join(absent[:NAMED]) + (", ..." if len(absent) > NAMED else "")
            self.notes.append(f"{self.data}  there is no picture to train with of {named}")

    @staticmethod
    def open(
        data: Path, split: str, names: Sequence[str] | None, notify: Callable[[str], None]
    ) -> ClassificationDataset:
        """The pictures of a split."""
        return open_classification(data, split, names, notify=notify)

    @staticmethod
    def check(network: Network, classes: int, data: str) -> None:
        """Raise ConfigError if the network cannot be trained as a classifier of so many classes."""
        check_trainable(network, classes, data)

    @staticmethod
    def size_at(network: Network, seed: int) -> Callable[[int], tuple[int, int]]:
        """Always the cfg's; pictures change their size inside of it, see ``min_crop`` and ``max_crop``."""
        return lambda iteration: (network.options.width, network.options.height)

    def size(self) -> str:
        """What there is to train with: ``1,437 pictures``."""
        return text.plural(len(self.train_set), "picture")

    def measure(self, val_set: Dataset) -> Callable[..., Measured]:
        """The function that evaluates."""
        return partial(evaluate_classifier, dataset=cast(ClassificationDataset, val_set), top=self._top)

    @property
    def _top(self) -> int:
        top = self.settings.top
        return top_count(self.train_set.top if top is None else top, self.train_set.classes)

    def log(self, folder: RunFolder) -> CsvLog:
        """The log, with a column for each accuracy."""
        scores = ["top1", f"top{self._top}"] if self._top > 1 else ["top1"]
        return CsvLog(folder.results, parts=False, scores=scores)

    def more_callbacks(self, folder: RunFolder) -> list[Callback]:
        """The names and the confusion matrix."""
        return [ClassFiles(folder, Path(self.config.path).stem, self.train_set.names)]

    def loader(self, report: Callable[[Problem], None]) -> Loader:
        """The batches from where the network is; ``report`` hears of pictures that cannot be used."""
        options = self.network.options
        return Loader(
            self.train_set,
            ClassifierAugmentation.from_options(options),  # type: ignore[arg-type]  # for ClassifierSamples
            batch=options.batch,
            size_at=self.size_at(self.network, self.settings.seed),
            channels=self.network.channels,
            seed=self.settings.seed,
            workers=self.settings.workers,
            start=self.network.iteration,
            cache_bytes=self.cache,
            report=report,
            samples=ClassifierSamples,
            memory=self.network.backend.picture_memory,
        )


class ClassFiles(Callback):
    """Writes ``<name>.names`` at the start and ``confusion.png`` of the last evaluation at the end."""

    def __init__(self, folder: RunFolder, name: str, names: Sequence[str]) -> None:
        self.folder = folder
        self.name = name
        self.names = names
        self._last: tuple[int, ClassifierEvaluation] | None = None

    def start(self, trainer: Trainer) -> None:
        """Write the names, so that the weights can be used without the data set."""
        with atomic_write(self.folder.path / f"{self.name}.names", "w") as file:
            file.writelines(f"{name}\n" for name in self.names)

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Never: what was measured comes with an iteration that another one waits for."""
        return False

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Remember what was measured."""
        if isinstance(record.evaluation, ClassifierEvaluation):
            self._last = record.iteration, record.evaluation

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """Draw the matrix."""
        if self._last is not None:
            iteration, evaluation = self._last
            title = f"{self.name}, iteration {iteration:,}\n{evaluation.summary()}"
            draw_confusion(evaluation.confusion(), self.names, title, self.folder.path / "confusion.png")


def check_trainable(network: Network, classes: int, data: str) -> None:
    """Raise :class:`~darkpy.errors.ConfigError` if the network cannot be trained as a classifier of so many classes."""
    net = network.config.net
    detecting = next((head for head in network.heads if hasattr(head, "boxes")), None)
    if detecting is not None:
        message = f"has [{detecting.name}]: it is a detector, train it with darkpy detector train"
        raise ConfigError(message, where=network.config.path)
    if not network.heads:
        message = "has no [softmax] or other layer with a loss: it cannot be trained"
        raise ConfigError(message, where=network.config.path)
    check_classes(network, classes, data)
    problems = []
    if network.options.max_batches < 1:
        problems.append(Problem(net.where_of("max_batches"), f"[{net.name}] needs max_batches=, where to stop"))
    if len(hierarchy(network).parents):
        # Shares of several classes say nothing of the classes above them.
        for key in ("mixup", "cutmix", "mosaic", "label_smooth_eps"):
            if getattr(network.options, key):
                problems.append(Problem(net.where_of(key), f"[{net.name}] {key}= does not go with a tree of classes"))
    if problems:
        raise ConfigError(problems=problems)
