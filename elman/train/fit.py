"""Running Lightning over a run folder."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console
from torch import nn

from elman.data.core.batch import Batches
from elman.train.checkpoint import newest_checkpoint
from elman.train.distributed import backend, distributed_errors, process_rank
from elman.train.module import SequenceModule
from elman.train.task import Task
from elman.train.watch import RunCallback
from elman.train.weights import require_fitting

PRECISION = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}


def fit(task: Task, model: nn.Module, train: Batches, valid: Batches, console: Console) -> bool:
    """Train a model from its last checkpoint, or from the start; whether it came to its end.

    False: it was interrupted; everything is saved, or at a second interruption what was before.
    """
    options = task.options
    module = SequenceModule(task, model, train, valid)
    if found := newest_checkpoint(task.run.checkpoints):
        require_fitting(model.state_dict(), found.model, task.run.checkpoints)
        module.restore(found, process_rank())
    if module.finished:
        return True
    watch = RunCallback(task, console)
    with _quiet():
        trainer = L.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.nodes,
            strategy=_strategy(module),
            precision=PRECISION[options.precision],  # type: ignore[arg-type]
            callbacks=[watch, _Ends()],
            max_epochs=-1,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with distributed_errors(task.run.folder):
            try:
                trainer.fit(module)
            except (SystemExit, SIGTERMException):
                # What Lightning makes of a second Ctrl-C, and of a signal before the first step.
                return False
    return not module.interrupted


def _strategy(module: SequenceModule) -> DDPStrategy | str:
    if module.options.processes == 1:
        return "auto"
    return DDPStrategy(
        process_group_backend=backend(), find_unused_parameters=not _uses_all(module)
    )


def _uses_all(module: SequenceModule) -> bool:
    """Whether the loss depends on every parameter: your own cell may have one to spare."""
    sequence = module.train_batches.batch(0, slice(0, 1))
    torch.autograd.backward(module.task.loss(module.model, sequence, None, 0.0).total)
    used = all(p.grad is not None for p in module.model.parameters() if p.requires_grad)
    module.model.zero_grad()
    return used


class _Ends(L.Callback):
    """Lightning's epoch is the stretch between two validations; this ends the last one."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SequenceModule)
        trainer.should_stop = pl_module.over


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice on things that are decided here on purpose."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
