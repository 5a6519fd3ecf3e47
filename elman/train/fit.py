"""Running Lightning over a run folder."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch
import torch.distributed as dist
from rich.console import Console
from torch import nn

from elman.data.batch import Batches
from elman.errors import RunError, unknown
from elman.train.checkpoint import newest_checkpoint
from elman.train.module import SequenceModule
from elman.train.task import Task
from elman.train.watch import Watch

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISION = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}


def process_rank() -> int:
    """Which of the processes that share a training this is; 0 leads."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def meet() -> None:
    """Under torchrun, where all processes begin at once: wait until all have come here."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    dist.barrier()


def fit(task: Task, model: nn.Module, train: Batches, valid: Batches, console: Console) -> bool:
    """Train a model from its last checkpoint, or from the start; whether it came to its end.

    False: it was interrupted, and everything is saved.
    """
    options = task.options
    module = SequenceModule(task, model, train, valid)
    if found := newest_checkpoint(task.run.checkpoints):
        module.restore(found, process_rank())
    if module.finished:
        return True
    watch = Watch(task, console)
    with _quiet():
        trainer = L.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.nodes,
            strategy="ddp" if options.processes > 1 else "auto",
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
        trainer.fit(module)
    return not module.interrupted


class _Ends(L.Callback):
    """Lightning's epoch is the stretch between two validations; this ends the last one."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SequenceModule)
        trainer.should_stop = pl_module.over


def use_threads(threads: int | None) -> None:
    """Compute with this many CPU threads; None leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)


def require_accelerator(name: str) -> None:
    """Raise OptionError where there is no such kind of device, RunError where none is here."""
    if name not in ACCELERATORS:
        raise unknown("accelerator", name, ACCELERATORS)
    missing = {
        "gpu": not torch.cuda.is_available() and not torch.backends.mps.is_available(),
        "cuda": not torch.cuda.is_available(),
        "mps": not torch.backends.mps.is_available(),
    }
    if missing.get(name, False):
        raise RunError(f"--accelerator {name}: this machine has none; use cpu or auto")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice on things that are decided here on purpose."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)
