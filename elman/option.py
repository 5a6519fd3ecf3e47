"""Options that the command line, Python and config.json share: fields of dataclasses."""

from dataclasses import field
from typing import Any


def option(default: Any, help: str, panel: str, **more: Any) -> Any:
    """A dataclass field that the command line shows with this help, in this panel."""
    metadata = {"help": help, "panel": panel, **more}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)
