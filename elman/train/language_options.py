"""What a language model is trained with, from the options to the model."""

from dataclasses import dataclass
from typing import Any

from elman.cells import Cell
from elman.data.tokenizer import check_vocab_size
from elman.errors import OptionError, RunError, require_probability
from elman.models import LanguageModel
from elman.train.custom_cell import cell_options
from elman.train.options import TrainOptions, from_config, option
from elman.train.run import Run

TASK = "lm"


@dataclass(frozen=True)
class LanguageModelOptions(TrainOptions):
    """What `elman train lm` takes beside the files."""

    tokenizer: str = option("char", "The units of text: byte, char, word or bpe.", "Text")
    vocab_size: int | None = option(
        None, "At most so many units. [dim]default: all; words 20000, bpe 4096[/]", "Text"
    )
    valid: list[str] = option([], "Files to validate on, instead of the end of the text.", "Text")
    valid_fraction: float = option(0.1, "The last part of the text, kept for validation.", "Text")
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
    tie: bool = option(False, "One matrix for embedding and softmax.", "Model")
    residual: bool = option(False, "Add each layer's input to its output.", "Model")
    layer_norm: bool = option(False, "Normalise what enters each layer.", "Model")
    dropout: float = option(0.0, "On embeddings, between layers, on outputs.", "Regularisers")
    variational: float = option(
        0.0, "Dropout on each layer's input and state, one mask for all steps.", "Regularisers"
    )
    zoneout: float = option(0.0, "Share of the state that keeps its old value.", "Regularisers")
    weight_drop: float = option(0.0, "Dropout on the recurrent weights.", "Regularisers")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_vocab_size(self.tokenizer, self.vocab_size)
        require_probability(valid_fraction=self.valid_fraction)
        if not self.valid and not self.valid_fraction > 0:
            raise OptionError("valid_fraction must be above 0, or give files with --valid")


def options_of(run: Run) -> LanguageModelOptions:
    """The options that a run was trained with; RunError where it is no run of this task."""
    config = run.config
    if config.get("task") != TASK:
        raise RunError(
            f"{run.folder}: is a run of task '{config.get('task')}', not a language model"
        )
    try:
        return from_config(LanguageModelOptions, config["options"], str(run.config_file))
    except (KeyError, TypeError, OptionError) as error:
        raise RunError(f"{run.config_file}: is damaged or foreign: {error}") from error


def _model_arguments(options: LanguageModelOptions, build: type[Cell]) -> dict[str, Any]:
    return {
        "hidden_size": options.hidden,
        "num_layers": options.layers,
        "cell": build,
        "cell_options": cell_options(options.cell_option),
        "embedding_size": options.embedding,
        "tie_weights": options.tie,
        "dropout": options.dropout,
        "input_dropout": options.variational,
        "state_dropout": options.variational,
        "zoneout": options.zoneout,
        "weight_drop": options.weight_drop,
        "residual": options.residual,
        "layer_norm": options.layer_norm,
    }


def build_model(options: LanguageModelOptions, vocab_size: int, build: type[Cell]) -> LanguageModel:
    """The model that the options describe."""
    return LanguageModel(vocab_size, **_model_arguments(options, build))
