"""Pictures as they might have been taken too: moved, enlarged, mirrored, in other colours."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.errors import OptionError


@dataclass(frozen=True)
class Augment:
    """Draws a change for each picture, from torch's own random numbers.

    picture: [B, H, W, C], uint8 from 0 to 255 or floats from 0 to 1   ->   floats from 0 to 1

    shift: by at most so much of the picture's side, in both directions. zoom: enlarged or shrunk
    by at most so much. flip: mirrored, left for right, one picture in two. jitter: brightness,
    contrast and colour times 1 - jitter to 1 + jitter. What comes in at an edge is as the edge.

    Raises OptionError for numbers outside [0, 1).
    """

    shift: float = 0.0
    zoom: float = 0.0
    flip: bool = False
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "zoom", "jitter"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise OptionError(f"{name} must be 0 or above and below 1, got {value}")

    def __call__(self, picture: Tensor) -> Tensor:
        """The changed pictures."""
        x = picture if picture.is_floating_point() else picture / 255
        if self.shift or self.zoom or self.flip:
            x = self._moved(x)
        return self._coloured(x) if self.jitter else x

    def _moved(self, x: Tensor) -> Tensor:
        B = len(x)
        scale = 1 + _around_zero(self.zoom, B, 2, x)
        # Both sides alike, so that a circle stays one.
        scale[:, 1] = scale[:, 0]
        if self.flip:
            scale[:, 0] *= torch.where(torch.rand(B, device=x.device) < 0.5, -1.0, 1.0)
        # The picture goes from -1 to 1.
        moved = torch.cat(
            (torch.diag_embed(scale), 2 * _around_zero(self.shift, B, 2, x)[..., None]), dim=2
        )
        channels = x.permute(0, 3, 1, 2)
        places = F.affine_grid(moved, list(channels.shape), align_corners=False)
        found = F.grid_sample(channels, places, padding_mode="border", align_corners=False)
        return found.permute(0, 2, 3, 1)

    def _coloured(self, x: Tensor) -> Tensor:
        bright, contrast, colour = (1 + _around_zero(self.jitter, len(x), 3, x)).T[
            ..., None, None, None
        ]
        x = x * bright
        middle = x.mean(dim=(1, 2, 3), keepdim=True)
        x = middle + contrast * (x - middle)
        grey = x.mean(dim=3, keepdim=True)
        return (grey + colour * (x - grey)).clamp(0, 1)


def _around_zero(most: float, rows: int, columns: int, like: Tensor) -> Tensor:
    return most * (2 * torch.rand(rows, columns, device=like.device) - 1)
