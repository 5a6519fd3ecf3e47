"""The options of training, in one place for the command line, Python and config.json."""

import math
from dataclasses import dataclass
from typing import ClassVar

from elman.cells import Cell
from elman.errors import OptionError, require_positive, require_probability, unknown
from elman.models.common.encoder import StackOptions
from elman.settings import option
from elman.train.custom_cell import cell_options

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "plateau", "halving", "constant")
PRECISIONS = ("32", "64", "bf16")
KEPT = ("best", "last")

#: Threads, and processes that read: beyond what a system starts, OpenMP ends the process.
MOST_THREADS = 1024


@dataclass(frozen=True)
class TrainOptions:
    """What every task takes: for how long, how fast, how watched."""

    #: Passes over the training part where nothing bounds the training.
    default_epochs: ClassVar[int] = 10

    epochs: int | None = option(
        None,
        "Passes over the training part. [dim]default: {default_epochs}, or none with --minutes[/]",
        "Length",
    )
    minutes: float | None = option(None, "Stop after this much training time.", "Length")
    steps: int | None = option(None, "Stop after this many optimiser steps.", "Length")
    patience: int | None = option(
        None, "Stop after this many validations that bring nothing better.", "Length"
    )
    batch_size: int = option(64, "Sequences side by side.", "Optimisation")
    optimizer: str = option("adamw", f"One of {', '.join(OPTIMIZERS)}.", "Optimisation")
    learning_rate: float | None = option(
        None, "The highest rate. [dim]default: 0.004 for adamw, 1.0 for sgd[/]", "Optimisation"
    )
    weight_decay: float = option(0.0, "Decay of the weights.", "Optimisation")
    momentum: float = option(0.0, "Momentum of sgd.", "Optimisation")
    schedule: str = option(
        "cosine",
        "cosine: down to a hundredth at the end. plateau: halved when validation stops falling. "
        "halving: halved every epoch after --halve-after (Zaremba et al. 2014). constant.",
        "Optimisation",
    )
    halve_after: int = option(4, "Epochs before --schedule halving begins.", "Optimisation")
    warmup: int = option(0, "Steps over which the rate rises from 0.", "Optimisation")
    clip: float = option(
        1.0, "Clip the gradient: g = clip * g / |g| where |g| > clip; 0: never.", "Optimisation"
    )
    clip_value: float = option(
        0.0, "Clip each element of the gradient to +-this, before --clip; 0: never.", "Optimisation"
    )
    ema_decay: float = option(
        0.0,
        "Judge and keep a running mean of the weights: this share of it stays at each step, as "
        "0.99; 0: the weights themselves.",
        "Optimisation",
    )
    keep_weights: str = option(
        "best",
        "Which weights: best in validation, or last: where the loss does not tell how good the "
        "texts are that a model writes.",
        "Optimisation",
    )
    validate_every: int | None = option(
        None, "Steps between validations. [dim]default: an epoch, at most 1000[/]", "Watching"
    )
    log_every: int = option(10, "Steps between rows of metrics.csv.", "Watching")
    checkpoint_seconds: float = option(
        60.0, "Seconds between checkpoints; a killed run loses no more than this.", "Watching"
    )
    keep_checkpoints: int = option(2, "How many of the last checkpoints to keep.", "Watching")
    seed: int = option(0, "Decides every random number: same seed, same run.", "Machine")
    precision: str = option("32", f"One of {', '.join(PRECISIONS)}.", "Machine")
    accelerator: str = option("auto", "auto, cpu, gpu, mps: what Lightning knows.", "Machine")
    devices: int = option(1, "Processes or GPUs, on each machine, that share a batch.", "Machine")
    nodes: int = option(1, "Machines that share a batch, started by torchrun.", "Machine")
    workers: int = option(
        0, "Processes that read data ahead. [dim]0: it is read between the steps[/]", "Machine"
    )
    threads: int | None = option(None, "CPU threads. [dim]default: torch's choice[/]", "Machine")

    def __post_init__(self) -> None:
        for name, valid in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("keep_weights", KEPT),
        ):
            if getattr(self, name) not in valid:
                raise unknown(name, getattr(self, name), valid)
        sizes = ("batch_size", "log_every", "keep_checkpoints", "devices", "nodes")
        require_positive(**{name: getattr(self, name) for name in sizes})
        maybe = ("epochs", "steps", "patience", "validate_every", "threads")
        require_positive(**{n: getattr(self, n) for n in maybe if getattr(self, n) is not None})
        require_probability(momentum=self.momentum)
        if not 0 <= self.ema_decay < 1:
            raise OptionError(f"ema_decay must be 0 or above and below 1, got {self.ema_decay}")
        bounds = {"minutes": 1e6, "learning_rate": 1e3, "threads": MOST_THREADS}
        for name, most in bounds.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= most:
                raise OptionError(f"{name} must be above 0 and at most {most:g}, got {value}")
        if not 0 <= self.seed < 2**32:
            raise OptionError(f"seed must lie in 0 ... 2^32 - 1, got {self.seed}")
        for name in ("weight_decay", "clip", "clip_value", "warmup", "halve_after", "workers"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{name} must be 0 or above, got {getattr(self, name)}")
        if self.workers > MOST_THREADS:
            raise OptionError(f"workers must be at most {MOST_THREADS}, got {self.workers}")
        if not self.checkpoint_seconds > 0:
            raise OptionError(f"checkpoint_seconds must be above 0, got {self.checkpoint_seconds}")
        if self.batch_size % self.processes:
            raise OptionError(
                f"batch_size {self.batch_size} cannot be shared evenly by {self.processes} "
                "processes (devices x nodes)"
            )

    @property
    def processes(self) -> int:
        """How many share each batch."""
        return self.devices * self.nodes

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return {"adamw": 0.004, "sgd": 1.0}[self.optimizer]

    @property
    def passes(self) -> int | None:
        """The epochs to train, where nothing else bounds the training."""
        bounded = any(value is not None for value in (self.epochs, self.minutes, self.steps))
        return self.epochs if bounded else self.default_epochs


@dataclass(frozen=True)
class ModelOptions(TrainOptions):
    """What every task says of its recurrent layers."""

    cell: str = option(
        "lstm", "A cell of `elman cells`, or your own as path.py:ClassName.", "Model"
    )
    cell_option: list[str] = option(
        [], "An option of the cell, as update=replace; may be repeated.", "Model"
    )
    hidden: int = option(256, "Units in each layer.", "Model")
    layers: int = option(1, "Layers.", "Model")
    embedding: int | None = option(
        None, "Size of a unit's vector. [dim]default: --hidden[/]", "Model"
    )
    residual: bool = option(False, "Add each layer's input to its output.", "Model")
    layer_norm: bool = option(False, "Normalise what enters each layer.", "Model")
    dropout: float = option(0.0, "On embeddings, between layers, on outputs.", "Regularisers")
    variational_dropout: float = option(
        0.0, "Dropout on each layer's input and state, one mask for all steps.", "Regularisers"
    )
    zoneout: float = option(0.0, "Share of the state that keeps its old value.", "Regularisers")
    weight_drop: float = option(0.0, "Dropout on the recurrent weights.", "Regularisers")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_probability(dropout=self.dropout)

    def stack(self, cell: type[Cell]) -> StackOptions:
        """What a model is told of its layers."""
        return {
            "cell": cell,
            "cell_options": cell_options(self.cell_option),
            "dropout": self.dropout,
            "input_dropout": self.variational_dropout,
            "state_dropout": self.variational_dropout,
            "zoneout": self.zoneout,
            "weight_drop": self.weight_drop,
            "residual": self.residual,
            "layer_norm": self.layer_norm,
        }
