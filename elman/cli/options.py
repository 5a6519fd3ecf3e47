"""A command whose options are the fields of a dataclass."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, get_type_hints

import typer


def with_options(kind: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field of ``kind``, and hand it the object.

    The decorated function takes the object as ``options``; the field's metadata hold the help
    and the panel that it is shown in.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
        hints = get_type_hints(kind)
        listed = fields(kind)

        def run(**values: Any) -> None:
            chosen = {f.name: values.pop(f.name) for f in listed}
            command(options=kind(**chosen), **values)

        extra = [
            inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=_option(f), annotation=hints[f.name]
            )
            for f in listed
        ]
        by_keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        run.__signature__ = inspect.Signature(by_keyword + extra)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in by_keyword + extra}
        run.__doc__ = command.__doc__
        return run

    return decorate


def _option(field: Field[Any]) -> Any:
    default = field.default
    if default is MISSING and field.default_factory is not MISSING:
        default = field.default_factory()
    word = field.name.replace("_", "-")
    # What is on must have a way to be put off.
    name = f"--{word}/--no-{word}" if default is True else f"--{word}"
    return typer.Option(
        default,
        name,
        help=field.metadata["help"],
        rich_help_panel=field.metadata["panel"],
        show_default=default is not None and default != [],
    )
