"""Pictures as sequences: the likelihood of each value given those before it."""

from typing import Unpack

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from elman.data.images.pictures import pixel_order
from elman.errors import OptionError, ShapeError, require_positive
from elman.layers.dropout import Dropout
from elman.models.common.encoder import StackOptions, build_stack, embedded
from elman.models.common.evaluation import evaluating
from elman.models.common.loss import Loss
from elman.models.common.sampling import check_sampling, sample


class PixelModel(nn.Module):
    """The likelihood of a picture, value by value.

        p(x) = prod_t p(x_t | x_1 ... x_{t-1})       t = 1 ... D = H W C
        u_t = relu(A window_t + place_t + E x_{t-1})
        h_1 ... h_D = stack(u_1 ... u_D)
        p(x_t | ...) = softmax(V relu(B [h_t, u_t]))

    x: [D, B] whole numbers 0 ... levels - 1, row by row, in a row pixel by pixel, of a pixel
    channel by channel   ->   logits: [D, B, levels], in that order too
    shape: (H, W, C). context: window_t has the values at most so many rows and columns from the
    pixel that is told, those before it in the order alone; 0 leaves x_{t-1}, h_{t-1} alone.
    permute: None tells the pixels row by row, a seed in an order that it draws; the channels of
    a pixel follow each other in any case. place_t: learnt for row, column and channel, and for
    which values of the window are known. embedding_size: of u_t, hidden_size where not given.
    options: see `StackOptions`.

    Raises OptionError, ShapeError. Source: van den Oord et al. 2016, Pixel Recurrent Neural
    Networks, eq. 1 and 2.
    """

    order: Tensor  # the number of the value that step t tells
    back: Tensor  # the step that tells a value
    rows: Tensor
    columns: Tensor
    channels: Tensor
    window: Tensor
    known: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: int = 2,
        *,
        context: int = 3,
        permute: int | None = None,
        embedding_size: int | None = None,
        hidden_size: int = 256,
        num_layers: int = 1,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        H, W, C = self.shape = shape
        E = hidden_size if embedding_size is None else embedding_size
        require_positive(height=H, width=W, channels=C, hidden_size=hidden_size, embedding_size=E)
        if not 2 <= levels <= 256:
            raise OptionError(f"levels must lie in 2 ... 256, got {levels}")
        if context < 0:
            raise OptionError(f"context must be 0 or above, got {context}")
        self.levels, self.size = levels, H * W * C
        pixels = pixel_order(H * W, permute)
        order = (pixels[:, None] * C + np.arange(C)).ravel()
        self._keep("order", order)
        self._keep("back", np.argsort(order))
        self._keep("rows", order // (W * C))
        self._keep("columns", order // C % W)
        self._keep("channels", order % C)
        window = _window(pixels, shape, context)
        self._keep("window", window)
        self.register_buffer("known", torch.tensor(window < self.size).float(), persistent=False)
        self.previous = nn.Embedding(levels + 1, E)  # the last is what stands before the first
        self.row, self.column = nn.Embedding(H, E), nn.Embedding(W, E)
        self.channel = nn.Embedding(C, E)
        K = window.shape[1]
        self.near = nn.Linear(K, E) if K else None
        self.seen = nn.Linear(K, E, bias=False) if K else None
        self.stack = build_stack(E, hidden_size, num_layers, **options)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.hidden = nn.Linear(self.stack.output_size + E, hidden_size)
        self.output = nn.Linear(hidden_size, levels)
        for table in (self.previous, self.row, self.column, self.channel):
            nn.init.normal_(table.weight, std=0.3)

    def _keep(self, name: str, values: NDArray[np.int64]) -> None:
        self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each value given those before it: [D, B, levels]."""
        told = self._checked(x)[self.order]
        first = told.new_full((1, told.shape[1]), self.levels)
        u = self._read(self._windows(told), torch.cat((first, told[:-1])), slice(None))
        h, _ = self.stack(self.dropout(u))
        return self._logits(h, u)[self.back]

    def loss(self, x: Tensor) -> Loss:
        """-log p(x) in nats, summed over pictures; their count."""
        logits = self(x)
        total = F.cross_entropy(logits.flatten(0, 1), x.flatten().long(), reduction="sum")
        return Loss(total, x.shape[1])

    def nats(self, x: Tensor) -> Tensor:
        """-log p of each value given those before it: [D, B], without gradient."""
        with evaluating(self):
            logits = self(x).transpose(1, 2)
            return F.cross_entropy(logits, x.long(), reduction="none")

    def generate(
        self,
        count: int,
        *,
        given: Tensor | None = None,
        known: int = 0,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw pictures, value by value: [D, count], in evaluation mode.

        given: [D, count], whose first ``known`` values, in the order in which they are told, are
        kept, so that the others are drawn from p(others | these). temperature: 0 takes the
        likeliest value at each step.
        """
        require_positive(count=count)
        check_sampling(temperature, None, None)
        if not 0 <= known <= (0 if given is None else self.size):
            raise OptionError(f"known must lie in 0 ... {self.size} of what is given, got {known}")
        start = self._checked(given)[self.order] if given is not None else None
        if start is not None and start.shape[1] != count:
            raise ShapeError(f"given must be [D, {count}], got {list(start.shape)}")
        with evaluating(self), torch.inference_mode():
            telling = Telling(self, count)
            for t in range(self.size):
                logits = telling.logits()
                if start is not None and t < known:
                    telling.tell(start[t])
                else:
                    telling.tell(sample(logits, temperature, generator=generator))
            return telling.told[self.back]

    def _value(self, x: Tensor) -> Tensor:
        """Levels as numbers from -1 to 1."""
        return x.to(self.output.weight.dtype) * (2 / (self.levels - 1)) - 1

    def _windows(self, told: Tensor) -> Tensor:
        """[D, B, K]: the values around each pixel, 0 where they are not known yet."""
        values = F.pad(self._value(told).T, (0, 1))  # [B, D + 1]
        found = values[:, self.window.flatten()].view(len(values), *self.window.shape)
        return found.transpose(0, 1)

    def _read(self, window: Tensor, previous: Tensor, steps: slice) -> Tensor:
        """u: [T, B, E] at these steps."""
        place = self.row(self.rows[steps]) + self.column(self.columns[steps])
        place = place + self.channel(self.channels[steps])
        u = embedded(self.previous, previous)
        if self.near is not None and self.seen is not None:
            place = place + self.seen(self.known[steps])
            u = u + self.near(window)
        return F.relu(u + place[:, None])

    def _logits(self, h: Tensor, u: Tensor) -> Tensor:
        return self.output(F.relu(self.hidden(torch.cat((self.dropout(h), u), dim=-1))))

    def _checked(self, x: Tensor) -> Tensor:
        if x.dim() != 2 or len(x) != self.size or x.is_floating_point():
            H, W, C = self.shape
            raise ShapeError(
                f"pictures must be whole numbers [{H} * {W} * {C}, B], got {x.dtype} "
                f"{list(x.shape)}"
            )
        if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < self.levels:
            raise ShapeError(
                f"levels must lie in 0 ... {self.levels - 1}, got {int(x.min())} ... {int(x.max())}"
            )
        return x.long()


class Telling:
    """Pictures in the middle of being told: the layers' state and the values so far.

    By turns `logits` and `tell`, ``model.size`` times, in the order of the model. It keeps the
    weights of the moment when it was made; the model must be in evaluation mode.
    """

    def __init__(self, model: PixelModel, count: int) -> None:
        self.model = model
        self.told = model.order.new_zeros(model.size, count)
        self.values = model.output.weight.new_zeros(model.size + 1, count)  # the last is unknown
        self.t = 0
        self._last = self.told.new_full((count,), model.levels)
        self._stream = model.stack.stream(batch_size=count)

    def logits(self) -> Tensor:
        """[count, levels] of the next value; once before each `tell`."""
        model, t = self.model, self.t
        u = model._read(self.values[model.window[t]].T[None], self._last[None], slice(t, t + 1))[0]
        return model._logits(self._stream(u), u)

    def tell(self, x: Tensor) -> None:
        """The next value is x: [count]."""
        self.told[self.t] = self._last = x
        self.values[self.t] = self.model._value(x)
        self.t += 1


def _window(
    pixels: NDArray[np.int64], shape: tuple[int, int, int], context: int
) -> NDArray[np.int64]:
    """[D, K]: for each step which steps tell the values around it; D for one that is not before.

    Places that are never known are left out.
    """
    H, W, C = shape
    when = np.full((H + 2 * context, W + 2 * context), H * W)  # a border that is never told
    inner = np.argsort(pixels).reshape(H, W)
    when[context : context + H, context : context + W] = inner
    rows, columns = np.divmod(pixels, W)
    now = np.arange(H * W)
    found = []
    for down in range(2 * context + 1):
        for right in range(2 * context + 1):
            there = when[rows + down, columns + right]
            for channel in range(C):
                step = there * C + channel
                # Of the pixel itself the channels that come before.
                before = [(there < now) | ((there == now) & (channel < c)) for c in range(C)]
                found.append(np.where(np.stack(before, 1), step[:, None], H * W * C).ravel())
    table = np.stack(found, 1)
    if not context:
        table = table[:, :0]
    return table[:, (table < H * W * C).any(0)]
