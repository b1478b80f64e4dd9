"""``report.html``: the page about a run that is finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkpy.training.callback import Callback, Measured, Outcome, Record
from darkpy.training.evaluator import Evaluator

if TYPE_CHECKING:
    from darkpy.training.preparation import Prepared
    from darkpy.training.progress import Progress
    from darkpy.training.run_folder import RunFolder
    from darkpy.training.trainer import Trainer


class ReportFile(Callback):
    """Writes the page when all is done, from what was measured when the best weights were saved.

    It comes last, since it reads what others write. What goes wrong with it is a line to the user: a page is not worth
    a finished training.
    """

    def __init__(self, job: Prepared, folder: RunFolder, evaluator: Evaluator | None, progress: Progress) -> None:
        self.job = job
        self.folder = folder
        self.evaluator = evaluator
        self.progress = progress
        self._best: Measured | None = None

    def is_due(self, trainer: Trainer, iteration: int) -> bool:
        """Never: what was measured comes with an iteration that another one waits for."""
        return False

    def after_iteration(self, trainer: Trainer, record: Record) -> None:
        """Keep what was measured, if it is the best so far."""
        if record.evaluation is not None and self.evaluator and self.evaluator.best_iteration == record.iteration:
            self._best = record.evaluation

    def finish(self, trainer: Trainer, outcome: Outcome) -> None:
        """Write the page of a finished run; of another one ``darkpy report`` does."""
        if outcome is not Outcome.FINISHED:
            return
        try:
            self._write()
        except Exception as error:
            what = " ".join(str(error).split()) or type(error).__name__
            self.progress.message(f"there is no {self.folder.report.name}: {what}")

    def _write(self) -> None:
        from darkpy.report import Facts, write_report
        from darkpy.runs import open_run

        job = self.job
        network = job.measured or job.network  # the one measured has the cfg's size, whatever that of training is now
        facts = Facts(open_run(self.folder.path), self._measured(), job.train_set, job.val_set, network)
        self.progress.message(f"report: {write_report(facts)}")

    def _measured(self) -> Measured | None:
        """What the best weights can do; measured anew only where that was before this part of the run."""
        best, evaluator = self._best, self.evaluator
        weights = self.folder.weights("best")
        if best is None and evaluator is not None and weights.exists():
            evaluator.network.load_weights(weights)
            best = evaluator.evaluate(evaluator.network)
        return best
