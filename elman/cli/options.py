"""A command whose options are the fields of a dataclass."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, get_type_hints

import typer

#: The order in which panels are shown: what is tried first stands first.
PANELS = (
    "Data",
    "Text",
    "Pictures",
    "Sound",
    "Model",
    "Regularisers",
    "Length",
    "Optimisation",
    "Decoding",
    "Watching",
)

#: What a transcriber's search is told, in several commands.
LM = "For a transcriber: a run of elman train lm that says which text is likely."
LM_WEIGHT = "How much --lm counts."
LENGTH_BONUS = "For a transcriber: added to a text's score for each unit."


def with_options(
    kind: type, *, said_only: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field of ``kind``, and hand it the object.

    The decorated function takes the object as ``options``; the field's metadata hold the help
    and the panel that it is shown in. said_only: ``options`` is a dict of what the user said
    alone, so that something else than ``kind`` may decide the rest.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
        hints = get_type_hints(kind)
        listed = sorted(fields(kind), key=_panel)

        def run(**values: Any) -> None:
            chosen = {f.name: values.pop(f.name) for f in listed}
            said = {name: value for name, value in chosen.items() if value is not None}
            command(options=said if said_only else kind(**chosen), **values)

        extra = [
            inspect.Parameter(
                f.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_option(kind, f, said_only),
                annotation=hints[f.name] | None if said_only else hints[f.name],
            )
            for f in listed
        ]
        by_keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        run.__signature__ = inspect.Signature(by_keyword + extra)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in by_keyword + extra}
        run.__doc__ = command.__doc__
        return run

    return decorate


def _panel(field: Field[Any]) -> int:
    name = field.metadata["panel"]
    return PANELS.index(name) if name in PANELS else len(PANELS)


def _option(kind: type, field: Field[Any], unsaid: bool) -> Any:
    default = None if unsaid else field.default
    if default is MISSING and field.default_factory is not MISSING:
        default = field.default_factory()
    help = field.metadata["help"]
    if "{default_epochs}" in help:  # which a task may change
        help = help.replace("{default_epochs}", str(kind.default_epochs))  # type: ignore[attr-defined]
    word = field.name.replace("_", "-")
    # What is on by default needs a way to turn it off.
    name = f"--{word}/--no-{word}" if default is True else f"--{word}"
    return typer.Option(
        default,
        name,
        help=help,
        rich_help_panel=field.metadata["panel"],
        show_default=default is not None and default != [],
    )
