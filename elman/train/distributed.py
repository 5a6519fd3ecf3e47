"""Processes that share a training: which is which, and what one of them does for all."""

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from elman.errors import OptionError, RunError
from elman.train.options import TrainOptions

#: How long the others wait for the first to prepare the data.
PATIENCE = timedelta(days=7)


def under_torchrun() -> bool:
    """Whether torchrun has started this process, and the others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def process_rank() -> int:
    """Which of the processes that share a training this is; 0 leads."""
    # Without torchrun Lightning starts the others, on this machine alone, and numbers them.
    return int(os.environ.get("RANK" if under_torchrun() else "LOCAL_RANK") or 0)


def backend() -> str:
    """What processes talk through: numbers of the CPU by gloo, also where there are GPUs."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def require_processes(options: TrainOptions) -> None:
    """Raise OptionError where torchrun did not start the processes that the options speak of."""
    devices, nodes = options.devices, options.nodes
    if not under_torchrun():
        if nodes > 1:
            raise OptionError(
                f"--nodes {nodes}: start elman on every machine with torchrun --nnodes {nodes} "
                f"--nproc-per-node {devices} -m elman.cli train ..."
            )
        return
    here, all_of_them = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if (here, all_of_them) != (devices, options.processes):
        raise OptionError(
            f"--devices {devices} --nodes {nodes} means {options.processes} in all, "
            f"{devices} on each machine, but torchrun started {all_of_them}, {here} on this one: "
            f"give --devices {here} --nodes {-(-all_of_them // here)}, or change torchrun's "
            "--nproc-per-node and --nnodes"
        )


def first_does(work: Callable[[], None]) -> None:
    """Process 0 does it; the others go on when it has ended well.

    Without torchrun there are no others yet: Lightning starts them later.
    Raises RunError in the others where it failed.
    """
    leads = process_rank() == 0
    if not under_torchrun():
        return work() if leads else None
    if not dist.is_initialized():
        dist.init_process_group(backend())
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    try:
        if leads:
            work()
    except BaseException:
        dist.broadcast(torch.zeros(1), 0, group=group)
        raise
    _wait(group)


#: What gloo, NCCL and the store say where the other end has vanished.
SIGNS = ("gloo", "NCCL", "Connection reset", "Connection closed", "Broken pipe")


@contextmanager
def distributed_errors(folder: Path) -> Iterator[None]:
    """Training with others; RunError where one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        if not dist.is_initialized() or not any(sign in str(error) for sign in SIGNS):
            raise
        raise RunError(
            f"a process that shared this training is gone, its own message says why; go on with "
            f"elman train --resume {shlex.quote(str(folder))}, started like this one ({error})"
        ) from error


def _wait(group: dist.ProcessGroup) -> None:
    well = torch.ones(1)
    try:
        dist.broadcast(well, 0, group=group)
    except RuntimeError as error:
        raise RunError(f"the first process is gone: {error}") from error
    if not well.item():
        raise RunError("the first process could not prepare the run; its own message says why")
