"""One Lightning module for all tasks: the step, the clipping, the validation."""

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, Sampler

from elman.data.core.batch import Batch, Batches
from elman.data.core.files import RESTORE
from elman.data.core.reading import reading
from elman.errors import RunError, TrainingError
from elman.layers.layer import detach, map_state
from elman.models.common.scores import added
from elman.train.average import running_mean
from elman.train.checkpoint import Checkpoint, Position, flatten, unflatten
from elman.train.options import TrainOptions
from elman.train.schedule import exhausted, learning_rate
from elman.train.task import Task


class SequenceModule(L.LightningModule):
    """Trains the model of any task.

    The random numbers of a step depend on the seed and the number of the step alone, the order of
    the data on that number alone: so a checkpoint needs no generator's state, and a resumed run
    is the run that was never interrupted.
    """

    def __init__(self, task: Task, model: nn.Module, train: Batches, valid: Batches) -> None:
        super().__init__()
        self.task = task
        self.model = model
        self.options: TrainOptions = task.options
        share = self.options.ema_decay
        self.average: AveragedModel | None = running_mean(model, share) if share else None
        self.train_batches = train
        self.valid_batches = valid
        self.position = Position()
        self.carried: Any = None
        self.asked_to_stop = False
        self.interrupted = False
        #: Training time as all processes knew it after the last step.
        self.clock = 0.0
        self.grad_norm = math.nan
        self.last_loss = math.nan
        self.last_count = 0.0
        self._restored: Checkpoint | None = None
        self._started = 0.0
        self.scores: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._valid_state: Any = None

    @property
    def eval_model(self) -> nn.Module:
        """What is validated and kept: the model, or the one that has the mean of its weights."""
        return self.model if self.average is None else self.average.module

    # What is left to do

    @property
    def epoch(self) -> int:
        """Passes over the training part done."""
        return self.position.step // len(self.train_batches)

    @property
    def total_steps(self) -> int | None:
        """The steps that epochs and steps allow."""
        passes, steps = self.options.passes, self.options.steps
        limits = [] if passes is None else [passes * len(self.train_batches)]
        limits += [] if steps is None else [steps]
        return min(limits, default=None)

    @property
    def seconds(self) -> float:
        """Training time, that before an interruption included."""
        running = time.monotonic() - self._started if self._started else 0.0
        return self.position.seconds + running

    @property
    def progress(self) -> float:
        """The share of the training that is done, 0 to 1, the same in all processes."""
        share = self.position.step / self.total_steps if self.total_steps else 0.0
        if self.options.minutes is not None:
            share = max(share, self.clock / (60 * self.options.minutes))
        return min(share, 1.0)

    @property
    def finished(self) -> bool:
        """Whether no further step is to be made."""
        return self.progress >= 1.0 or exhausted(self.position.history, self.options.patience)

    @property
    def over(self) -> bool:
        """Whether all processes stop here."""
        return self.interrupted or self.finished

    @property
    def validates(self) -> bool:
        """Whether a validation is due here: an interruption does not call for one by itself."""
        return self.finished or self.position.step % self.validate_every == 0

    @property
    def validate_every(self) -> int:
        """Steps between validations."""
        return self.options.validate_every or min(len(self.train_batches), 1000)

    # Data

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train_batches, self._to_next_validation)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.valid_batches, self._validation)

    def _loader(self, batches: Batches, steps: Callable[[], Iterator[int]]) -> DataLoader:
        share = _Share(batches, self.global_rank, self.trainer.world_size)
        workers = self.options.workers
        return DataLoader(
            share,
            sampler=_Steps(steps),
            batch_size=None,
            num_workers=workers,
            # Mapped files are inherited, and no worker computes in parallel, so fork is safe.
            multiprocessing_context="fork" if workers else None,
            worker_init_fn=_ignore_interruptions,
        )

    def _to_next_validation(self) -> Iterator[int]:
        step = self.position.step
        while not (self.over or step == self.total_steps):
            yield step
            step += 1
            if step % self.validate_every == 0:
                return

    def _validation(self) -> Iterator[int]:
        yield from range(len(self.valid_batches) if self.validates else 0)

    # The step

    def on_fit_start(self) -> None:
        self._started = time.monotonic()
        if self._restored is not None:
            folder = self.task.run.checkpoints
            # Here, because Lightning has given the model its precision by now.
            with reading(folder, "checkpoints of this training", error=RunError, cure=RESTORE):
                self.model.load_state_dict(self._restored.model)
                _restore(self.trainer.optimizers[0], self._restored.optimizer)
                if self.average is not None:
                    self.average.load_state_dict(self._restored.average)
            self._restored = None
        self.carried = map_state(lambda s: s.to(self.device), self.carried)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        step = self.position.step
        torch.manual_seed(_seed(self.options.seed, step, self.global_rank))
        rate = learning_rate(self.options, step, self.epoch, self.progress, self.position.history)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        state = None if batch.first else self.carried
        loss = self.task.loss(self.model, batch, state, self.progress)
        self.carried = detach(loss.state)
        own = (float(loss.total.detach()), float(loss.count))
        total, count = self._summed(value * batch.weight for value in own)
        self.last_loss, self.last_count = total / max(count, 1), count
        self._require_finite("loss", self.last_loss)
        # Lightning takes the mean of the gradients of all processes.
        return loss.total * (batch.weight * self.trainer.world_size / max(count, 1))

    def configure_gradient_clipping(self, optimizer: Optimizer, **_: Any) -> None:  # type: ignore[override]
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = _norm(parameters)
        self.grad_norm = norm.item()
        self._require_finite("gradient norm", self.grad_norm)
        if self.options.clip_value:
            nn.utils.clip_grad_value_(parameters, self.options.clip_value)
            norm = _norm(parameters)
        if self.options.clip:
            nn.utils.clip_grads_with_norm_(parameters, self.options.clip, norm)

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"the {what} became {value} after step {self.position.step}; the last checkpoint "
                "is from before it: train anew with a lower --learning-rate or a smaller --clip"
            )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.position.step += 1
        if self.average is not None:
            self.average.update_parameters(self.model)
        self._agree()
        # Batches that were read ahead are not trained on.
        self.trainer.should_stop = self.over

    def _agree(self) -> None:
        """All processes go on, or none does: any may interrupt, the first one's clock holds."""
        seconds = self.seconds if self.global_rank == 0 else 0.0
        asked, self.clock = self._summed([float(self.asked_to_stop), seconds])
        self.interrupted = asked > 0

    def _summed(self, values: Iterable[float]) -> list[float]:
        """Each number's sum over all processes."""
        own = torch.tensor(list(values), dtype=torch.float64)
        return torch.as_tensor(self.trainer.strategy.reduce(own, reduce_op="sum")).tolist()

    def configure_optimizers(self) -> Optimizer:
        o, parameters = self.options, self.model.parameters()
        # fused: one pass over memory, which is what large embeddings cost.
        shared: dict[str, Any] = {"lr": o.rate, "weight_decay": o.weight_decay, "fused": True}
        if o.optimizer == "sgd":
            return SGD(parameters, momentum=o.momentum, **shared)
        return AdamW(parameters, **shared)

    # Validation

    def on_validation_epoch_start(self) -> None:
        self._sums = {}
        self._valid_state = None

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        state = None if batch.first else self._valid_state
        sums, self._valid_state = self.task.predictor(self.eval_model).measure(batch, state)
        share = {name: value * batch.weight for name, value in sums.items()}
        self._sums = added(self._sums, share)

    def on_validation_epoch_end(self) -> None:
        if not self.validates:
            return
        summed = self._summed(self._sums.values())
        predictor = self.task.predictor(self.eval_model)
        self.scores = predictor.scores(dict(zip(self._sums, summed, strict=True)))
        for name, score in self.scores.items():
            self._require_finite(f"validation {name.removesuffix('_nats')}", score)
        self.position.history.append(self.task.monitor(self.scores))
        self._agree()

    # Checkpoints

    def checkpoint(self) -> Checkpoint:
        """All that `restore` needs. Every process must call it."""
        carried = self.carried
        if self.trainer.world_size > 1:
            carried = map_state(self._gathered, carried)
        position = Position(self.position.step, self.seconds, list(self.position.history))
        return Checkpoint(
            position,
            self.model.state_dict(),
            _optimizer_tensors(self.trainer.optimizers[0]),
            flatten(carried),
            {} if self.average is None else self.average.state_dict(),
        )

    def _gathered(self, share: Tensor) -> Tensor:
        return torch.as_tensor(self.all_gather(share))

    def restore(self, checkpoint: Checkpoint, rank: int) -> None:
        """Go back to a checkpoint, before fitting."""
        self.position = checkpoint.position
        self.clock = checkpoint.position.seconds
        self._restored = checkpoint
        folder = self.task.run.checkpoints
        with reading(folder, "checkpoints of this training", error=RunError, cure=RESTORE):
            carried = unflatten(checkpoint.carried)
            if self.options.processes > 1:
                carried = map_state(lambda shares: shares[rank], carried)
        self.carried = carried


def _norm(parameters: list[nn.Parameter]) -> Tensor:
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


class _Share(Dataset):
    """One process's share of the batch of each step."""

    def __init__(self, batches: Batches, rank: int, processes: int) -> None:
        self.batches = batches
        whole = batches.batch_size % processes
        self.rows = slice(None) if whole else slice(rank, None, processes)

    def __getitem__(self, step: int) -> Batch:
        batch = self.batches.batch(step, self.rows)
        if not batch.rows:
            # Fewer rows than processes, and all must take part in the step.
            batch = self.batches.batch(step, slice(0, 1))._replace(weight=0.0)
        return batch


def _ignore_interruptions(worker: int) -> None:
    # Ctrl-C reaches all processes of a terminal; the one that trains ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Steps(Sampler[int]):
    """The numbers of the steps, which are asked for anew at each beginning."""

    def __init__(self, begin: Callable[[], Iterator[int]]) -> None:
        self.begin = begin

    def __iter__(self) -> Iterator[int]:
        return self.begin()


def _seed(seed: int, step: int, rank: int) -> int:
    """A different stream of random numbers for each step and process."""
    return int(torch.tensor([seed, step, rank]).dot(torch.tensor([1_000_003, 7_919, 104_729])))


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{i}.{name}": t for i, parts in state.items() for name, t in parts.items() if t is not None
    }


def _restore(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    whole = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, part = name.split(".", 1)
        state.setdefault(int(index), {})[part] = tensor
    optimizer.load_state_dict({**whole, "state": state})
