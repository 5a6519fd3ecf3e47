"""What is seen and kept of a training while it runs."""

import signal
import time
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from elman.errors import RunError
from elman.train.checkpoint import checkpoints_in, save_checkpoint
from elman.train.curves import draw_curves
from elman.train.metrics import Metrics
from elman.train.task import Task
from elman.train.weights import save_model

#: A picture takes as long as many a short validation: seconds between two of them.
DRAW_SECONDS = 5.0


def columns(loss: str, unit: str) -> list[str]:
    """The columns of metrics.csv that are there before the first validation.

    loss: what the loss is called; unit: what it is a mean over.
    """
    own = [f"train_{loss}", "grad_norm", f"{unit}s_per_s", f"valid_{loss}"]
    return ["step", "epoch", "seconds", "learning_rate", *own]


class RunCallback(L.Callback):
    """Progress bar, metrics, checkpoints, the weights to keep, and a clean end on Ctrl-C."""

    def __init__(self, task: Task, console: Console) -> None:
        self.task = task
        self.run = task.run
        self.loss_name = task.processor.loss_name
        self.console = console
        self._former: dict[int, Any] = {}
        self._notices: SimpleQueue[str | None] = SimpleQueue()
        self._saved = 0.0
        self._logged = time.monotonic()
        self._units = 0.0
        self._drawn = 0.0
        self.leads = False

    def setup(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        path = self.run.folder / "metrics.csv"
        self.metrics = Metrics(path, module.position.step, columns(self.loss_name, self.task.unit))
        self.leads = trainer.is_global_zero

    # Beginning and end

    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        self._module = module
        self._saved = module.clock
        self._logged = time.monotonic()
        self.bar = Progress(
            TextColumn("[bold]{task.fields[epoch]}"),
            BarColumn(bar_width=12),
            TextColumn("{task.percentage:3.0f}%"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[numbers]}"),
            console=self.console,
            disable=not (self.leads and self.console.is_terminal),
            transient=True,
        )
        if not checkpoints_in(self.run.checkpoints):
            self._checkpoint(module)  # what a training that fails at once goes back to
        self.bar.start()
        self.shown = self.bar.add_task("", total=1.0, epoch="", numbers="")

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        # Here, as Lightning sets its own before, which ends a training with an error at SIGTERM.
        self._notifier = Thread(target=self._print_notices, name="elman-notices", daemon=True)
        self._notifier.start()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._module.asked_to_stop:
            signal.default_int_handler(number, frame)
        self._module.asked_to_stop = True
        # Not printed here: the signal may have come in the middle of another line, and neither
        # the console nor the file below it can be entered twice. The queue can.
        self._notices.put("stopping after this step; once more to stop at once")

    def _print_notices(self) -> None:
        for notice in iter(self._notices.get, None):
            self.console.print(notice)

    def teardown(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)
        if self._former:
            self._notices.put(None)
            self._notifier.join()
        self._former = {}
        if hasattr(self, "bar"):
            self.bar.stop()

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        if self.leads and not isinstance(exception, RunError):
            # What ended the training is what is to be said, not what it brought with it.
            with suppress(RunError):
                self.metrics.save()
                self._draw(module)

    def on_fit_end(self, trainer: L.Trainer, module: Any) -> None:
        if self.leads:
            self._draw(module)
        if module.interrupted:
            self._checkpoint(module)
            if self.leads and not self.run.weights_file.is_file():
                save_model(self.run.weights_file, module.eval_model)

    # Steps

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Lightning calls callbacks before the module's own hook counts the step.
        step = module.position.step + 1
        self._units += module.last_count
        if step % module.options.log_every == 0:
            self._log(trainer, module, step)

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        # Here, because a validation that was due after the last step is done and counted.
        if module.clock - self._saved > module.options.checkpoint_seconds:
            self._checkpoint(module)

    def _log(self, trainer: L.Trainer, module: Any, step: int) -> None:
        now = time.monotonic()
        speed = self._units / max(now - self._logged, 1e-9)
        self._units, self._logged = 0.0, now
        self.metrics.add(
            step=step,
            epoch=module.epoch,
            seconds=module.seconds,
            learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
            grad_norm=module.grad_norm,
            **{
                f"train_{self.loss_name}": module.last_loss,
                f"{self.task.unit}s_per_s": speed,
            },
        )
        self.bar.update(
            self.shown,
            completed=module.progress,
            epoch=f"epoch {module.epoch + 1}",
            numbers=f"loss {module.last_loss:.4f}  |g| {module.grad_norm:.2f}  "
            f"{speed:,.0f} {self.task.unit}s/s",
        )

    # Validations

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        if not module.validates:
            return
        history, step = module.position.history, module.position.step
        self.metrics.add(
            step=step,
            epoch=module.epoch,
            seconds=module.seconds,
            **{f"valid_{name}": value for name, value in module.scores.items()},
        )
        best = history[-1] <= min(history)
        if self.leads:
            self.console.print(
                f"step {step:>6}  epoch {step / len(module.train_batches):6.2f}  "
                f"{module.seconds:6.0f} s  train {module.last_loss:.4f}  "
                f"valid {self.task.show(module.scores)}{'  best' if best else ''}",
                highlight=False,
            )
            if best or module.options.keep_weights == "last":
                save_model(self.run.weights_file, module.eval_model)
            if time.monotonic() - self._drawn > DRAW_SECONDS:
                self._draw(module)
        self._checkpoint(module)

    def _draw(self, module: Any) -> None:
        path = self.run.folder / "curves.png"
        draw_curves(path, self.metrics.rows, self.loss_name, module.options.clip)
        self._drawn = time.monotonic()

    def _checkpoint(self, module: Any) -> None:
        checkpoint = module.checkpoint()
        self._saved = module.clock
        if self.leads:
            self.metrics.save()
            save_checkpoint(self.run.checkpoints, checkpoint, module.options.keep_checkpoints)
