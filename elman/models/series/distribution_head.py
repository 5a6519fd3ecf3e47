"""What a forecast says of each future value: a number, quantiles, or a distribution."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.errors import OptionError, unknown

OUTPUTS = ("mean", "median", "quantiles", "normal", "student")
#: The quantiles that are learnt, drawn and written where no others are named.
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
#: A distribution is never narrower than this, in deviations of the series: a value that repeats
#: would make its density infinite.
NARROWEST = 1e-3


class Output(nn.Module, ABC):
    """K numbers of a network for each value y.

    loss(o, y), quantile(o, p): element by element, o [..., K], y [...]   ->   [...]
    ``placed`` moves what o says by a level a and stretches it by a scale s > 0, so that it speaks
    of a + s y.
    """

    #: K.
    size: int
    #: What `loss` is called.
    loss_name: str

    @abstractmethod
    def placed(self, o: Tensor, level: Tensor, scale: Tensor) -> Tensor:
        """level, scale: [...]   ->   [..., K], ready for the other methods."""

    @abstractmethod
    def loss(self, o: Tensor, y: Tensor) -> Tensor: ...

    @abstractmethod
    def point(self, o: Tensor) -> Tensor:
        """The one number that is said where one is asked for."""

    def quantiles(self, o: Tensor, levels: Sequence[float]) -> Tensor | None:
        """[..., Q] the quantiles of these levels; None where the output has none."""
        return None

    def draw(self, o: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A value for each y, drawn; the point where there is no distribution."""
        return self.point(o)


class Point(Output):
    """One number: the mean (squared error) or the median (absolute error)."""

    size = 1

    def __init__(self, of: str) -> None:
        super().__init__()
        self.of = of
        self.loss_name = "mse" if of == "mean" else "mae"

    def placed(self, o: Tensor, level: Tensor, scale: Tensor) -> Tensor:
        return level[..., None] + scale[..., None] * o

    def loss(self, o: Tensor, y: Tensor) -> Tensor:
        error = o[..., 0] - y
        return error.square() if self.of == "mean" else error.abs()

    def point(self, o: Tensor) -> Tensor:
        return o[..., 0]


class Quantiles(Output):
    """The quantiles of given levels, by the pinball loss.

        loss(o, y) = 2 / Q * sum_q max(p_q (y - o_q), (p_q - 1) (y - o_q))

    The factor 2 makes that of the median alone the absolute error. Quantiles that cross are put
    in order. Source: Koenker & Bassett 1978; Wen et al. 2017.
    """

    loss_name = "pinball"

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__()
        if not levels or sorted(set(levels)) != list(levels) or not 0 < levels[0] <= levels[-1] < 1:
            raise OptionError(f"levels must rise between 0 and 1, got {list(levels)}")
        self.levels = tuple(levels)
        self.size = len(levels)
        self.register_buffer("p", torch.tensor(self.levels), persistent=False)
        self.p: Tensor

    def placed(self, o: Tensor, level: Tensor, scale: Tensor) -> Tensor:
        return level[..., None] + scale[..., None] * o

    def loss(self, o: Tensor, y: Tensor) -> Tensor:
        above = y[..., None] - o
        return 2 * torch.maximum(self.p * above, (self.p - 1) * above).mean(-1)

    def point(self, o: Tensor) -> Tensor:
        return self._at(o, [0.5])[..., 0]

    def quantiles(self, o: Tensor, levels: Sequence[float]) -> Tensor:
        return self._at(o, levels)

    def _at(self, o: Tensor, levels: Sequence[float]) -> Tensor:
        """Between the levels that were learnt a straight line; beyond them the outermost."""
        own, o = self.p.double(), o.sort(dim=-1).values
        wanted = torch.tensor(list(levels), dtype=torch.float64, device=o.device)
        wanted = wanted.clamp(own[0], own[-1])
        above = torch.searchsorted(own, wanted).clamp(1, max(len(own) - 1, 1))
        if len(own) == 1:
            return o.expand(*o.shape[:-1], len(wanted))
        low, high = own[above - 1], own[above]
        share = ((wanted - low) / (high - low)).to(o.dtype)
        return o[..., above - 1] * (1 - share) + o[..., above] * share


class Normal(Output):
    """N(y; m, d^2) with d = softplus(o_2), by the negative log likelihood in nats."""

    size = 2
    loss_name = "loss_nats"

    def placed(self, o: Tensor, level: Tensor, scale: Tensor) -> Tensor:
        m = level + scale * o[..., 0]
        d = scale * F.softplus(o[..., 1]) + NARROWEST
        return torch.stack((m, d, *o[..., 2:].unbind(-1)), dim=-1)

    def loss(self, o: Tensor, y: Tensor) -> Tensor:
        m, d = o[..., 0], o[..., 1]
        return 0.5 * ((y - m) / d).square() + d.log() + 0.5 * math.log(2 * math.pi)

    def point(self, o: Tensor) -> Tensor:
        return o[..., 0]

    def quantiles(self, o: Tensor, levels: Sequence[float]) -> Tensor:
        z = torch.tensor([NormalDist().inv_cdf(p) for p in levels], dtype=o.dtype, device=o.device)
        return o[..., :1] + o[..., 1:2] * z

    def draw(self, o: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.empty_like(o[..., 0]).normal_(generator=generator)
        return o[..., 0] + o[..., 1] * noise


class Student(Normal):
    """Student's t of location m, scale d and n = 2 + softplus(o_3) degrees of freedom.

        p(y) = G((n + 1) / 2) / (G(n / 2) sqrt(pi n) d) (1 + ((y - m) / d)^2 / n)^(-(n + 1) / 2)

    For what jumps now and then. Source: Salinas et al. 2020 name it as one of DeepAR's.
    """

    size = 3

    def placed(self, o: Tensor, level: Tensor, scale: Tensor) -> Tensor:
        placed = super().placed(o[..., :2], level, scale)
        return torch.cat((placed, 2 + F.softplus(o[..., 2:])), dim=-1)

    def loss(self, o: Tensor, y: Tensor) -> Tensor:
        m, d, n = o.unbind(-1)
        z = (y - m) / d
        inside = torch.log1p(z.square() / n) * (n + 1) / 2
        return (
            inside
            + torch.lgamma(n / 2)
            - torch.lgamma((n + 1) / 2)
            + d.log()
            + 0.5 * (n * math.pi).log()
        )

    def quantiles(self, o: Tensor, levels: Sequence[float]) -> Tensor:
        m, d, n = (part[..., None] for part in o.unbind(-1))
        return m + d * torch.cat([_student_quantile(p, n) for p in levels], dim=-1)

    def draw(self, o: Tensor, generator: torch.Generator | None = None) -> Tensor:
        m, d, n = o.unbind(-1)
        noise = torch.empty_like(m).normal_(generator=generator)
        # Chi squared is a gamma distribution of shape n / 2 and scale 2.
        chi = 2 * torch._standard_gamma(n / 2, generator=generator)
        return m + d * noise * (n / chi.clamp(min=1e-12)).sqrt()


def _student_quantile(p: float, n: Tensor) -> Tensor:
    """The quantile of t with n > 2 degrees of freedom, as far as 1 / n^4: within 1 % of the true
    one between the levels 0.025 and 0.975. Source: Abramowitz & Stegun 1964, 26.7.5."""
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum((g / n**k for k, g in enumerate(terms, 1)), torch.zeros_like(n))


def output_named(name: str, levels: Sequence[float] = LEVELS) -> Output:
    """The output of this name; OptionError where there is none."""
    if name in ("mean", "median"):
        return Point(name)
    if name == "quantiles":
        return Quantiles(levels)
    if name == "normal":
        return Normal()
    if name == "student":
        return Student()
    raise unknown("output", name, OUTPUTS)
