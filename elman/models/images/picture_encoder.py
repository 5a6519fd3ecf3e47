"""A picture read by convolutions: a grid of vectors, each for a part of it."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.errors import ShapeError, require_positive, require_probability

#: Channels at least; of the picture and of the two coordinates there are five.
FEWEST = 16
#: Pictures larger than this are halved by the first convolution.
LARGE = 64


class PictureEncoder(nn.Module):
    """A small residual network for pictures of 32 x 32 to 224 x 224.

        x_0 = stem([picture; column; row])                columns and rows from -1 to 1
        u_k = relu(norm(conv(x_{k-1})))                   half as high and wide, twice the channels
        x_k = dropout(relu(u_k + norm(conv(relu(norm(conv(u_k)))))))      k = 1 ... K

    picture: [B, 3, H, W]   ->   grid: [B, output_size, h, w]
    picture_size: (H, W). grid: h and w at most: K is how often the longer side must be halved to
    come to it. output_size: channels of x_K; of each before half as many, at least 16.
    dropout: of whole channels. conv: 3 x 3. norm: of each channel over all places of all pictures
    of a batch in training, by the running mean and variance of such batches in evaluation, where a
    picture is read alike alone and in any batch.

    Other sizes than picture_size can be read too, and give another grid. Raises OptionError, and
    ShapeError.

    Sources: He et al. 2016, Deep Residual Learning; Ioffe & Szegedy 2015, Batch Normalization; Liu
    et al. 2018, An Intriguing Failing of CNNs and the CoordConv Solution (columns and rows).
    """

    def __init__(
        self,
        picture_size: tuple[int, int] = (64, 64),
        output_size: int = 128,
        *,
        grid: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        height, width = picture_size
        require_positive(height=height, width=width, output_size=output_size, grid=grid)
        require_probability(dropout=dropout)
        self.output_size = output_size
        side = max(picture_size)
        first = 2 if side > LARGE else 1
        halvings = max(0, math.ceil(math.log2(side / first / grid)))
        sizes = [max(FEWEST, output_size >> (halvings - k)) for k in range(halvings)]
        sizes = [min(size, output_size) for size in sizes] + [output_size]
        self.stem = _Normed(3 + 2, sizes[0], stride=first)
        self.stages = nn.Sequential(*(_Stage(a, b, dropout) for a, b in pairwise(sizes)))

    def forward(self, picture: Tensor) -> Tensor:
        """The grid of a picture."""
        if picture.dim() != 4 or picture.shape[1] != 3:
            raise ShapeError(f"pictures must be [B, 3, H, W], got {list(picture.shape)}")
        return self.stages(self.stem(_placed(picture)).relu())


class _Normed(nn.Module):
    """norm(conv(x))"""

    def __init__(self, read: int, written: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(read, written, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(written)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.training and x[:, 0].numel() == 1:  # one number has no variance
            norm = self.norm
            return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return self.norm(x)


class _Stage(nn.Module):
    """Half as high and wide, then a residual block."""

    def __init__(self, read: int, written: int, dropout: float) -> None:
        super().__init__()
        self.halve = _Normed(read, written, stride=2)
        self.first, self.second = _Normed(written, written), _Normed(written, written)
        # What is added at the start is nothing: the block begins as the identity.
        nn.init.zeros_(self.second.norm.weight)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        u = self.halve(x).relu()
        return self.dropout(F.relu(u + self.second(self.first(u).relu())))


def _placed(picture: Tensor) -> Tensor:
    """[B, 3, H, W] with the column and the row of each place, -1 to 1, as channels."""
    B, _, H, W = picture.shape
    rows, columns = (torch.linspace(-1, 1, n).to(picture) for n in (H, W))
    places = torch.stack((columns.expand(H, W), rows[:, None].expand(H, W)))
    return torch.cat((picture, places.expand(B, -1, -1, -1)), dim=1)
