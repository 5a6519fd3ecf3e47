"""Sequences from a latent variable."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from elman.errors import OptionError, ShapeError, require_positive
from elman.models.common.encoder import Encoder, StackOptions
from elman.models.common.loss import Loss
from elman.models.common.vector_decoder import VectorDecoder, VectorDecoderOptions

#: What the encoder takes of the options; the others are the decoder's alone.
SHARED = ("vocab_size", "input_size", "embedding_size", "hidden_size", "num_layers")


class SequenceVAE(nn.Module):
    """The variational autoencoder of sequences: p(x) = integral p(z) p(x | z) dz.

        q(z | x) = N(mu, diag exp(l))        [mu; l] = W [forward_n; backward_1] + b
        p(z) = N(0, 1)                       p(x | z): see `VectorDecoder`, with v = z
        log p(x) >= E_q log p(x | z) - KL(q(z | x) || p(z))

    forward_n, backward_1: the last outputs of a bidirectional `Encoder`, of both its directions
    x: [T, B] ids where vocab_size is given, else [T, B, input_size]   z: [B, latent_size]
    free_bits: in training the KL of a dimension, as the mean of the batch, costs no less than
    this, in nats: below it nothing presses q to p.
    options: see `VectorDecoder` and `StackOptions`; the sizes, the cell and its regularisers are
    of the encoder and the decoder alike.

    Raises OptionError. Sources: Kingma & Welling 2014, Auto-Encoding Variational Bayes; Bowman
    et al. 2016, Generating Sentences from a Continuous Space; free bits: Kingma et al. 2016,
    Improving Variational Inference with Inverse Autoregressive Flow, appendix C.8.
    """

    def __init__(
        self,
        latent_size: int,
        *,
        free_bits: float = 0.0,
        **options: Unpack[VectorDecoderOptions],
    ) -> None:
        super().__init__()
        require_positive(latent_size=latent_size)
        if not 0 <= free_bits < math.inf:
            raise OptionError(f"free_bits must be 0 or above, in nats, got {free_bits}")
        self.latent_size, self.free_bits = latent_size, free_bits
        self.decoder = VectorDecoder(latent_size, **options)
        names = (*SHARED, *StackOptions.__annotations__)
        shared: dict[str, Any] = {k: v for k, v in options.items() if k in names}
        self.encoder = Encoder(bidirectional=True, **shared)
        self.posterior = nn.Linear(self.encoder.output_size, 2 * latent_size)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The decoder's outputs for one z drawn from q(z | x), and log p(x | z), KL of each.

        ->   outputs: see `VectorDecoder.forward`, log p(x | z): [B], KL: [B, latent_size]
        """
        mean, log_variance = self.encode(x, lengths)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        outputs, log_prob = self.decoder(x, z, lengths)
        return outputs, log_prob, gaussian_kl(mean, log_variance)

    def encode(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """mu and l, the mean and the log variance of q(z | x): [B, latent_size] each."""
        x, lengths = self.decoder.items.checked(x, lengths)
        outputs, _ = self.encoder(x, lengths)
        mean, log_variance = self.posterior(_ends(outputs, lengths)).chunk(2, dim=-1)
        return mean, log_variance

    def loss(self, x: Tensor, lengths: Tensor | None = None, beta: float = 1.0) -> Loss:
        """The negative ELBO in nats; its mean is taken over sequences.

            total = sum_b -log p(x_b | z_b) + beta B sum_j max(free_bits, mean_b KL_bj)

        In evaluation mode without beta and free bits: -log p(x_b | z_b) + KL_b.
        """
        if not 0 <= beta < math.inf:
            raise OptionError(f"beta must be 0 or above, got {beta}")
        _, log_prob, kl = self(x, lengths)
        cost = kl.sum()
        if self.training:
            cost = beta * kl.sum(dim=0).clamp(min=self.free_bits * len(kl)).sum()
        return Loss(cost - log_prob.sum(), len(kl))

    def elbo_parts(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """log p(x | z) and KL(q(z | x) || p(z)), sums over the batch; ELBO = first - second."""
        _, log_prob, kl = self(x, lengths)
        return log_prob.sum(), kl.sum()

    def log_likelihood(
        self, x: Tensor, lengths: Tensor | None = None, samples: int = 64, at_once: int = 16
    ) -> Tensor:
        """A lower bound of log p(x), [B] in nats, that more samples make tighter.

            log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x)        z_k ~ q(z | x), K = samples

        at_once: how many z of each sequence are decoded together; it changes the memory alone.
        Source: Burda, Grosse & Salakhutdinov 2016, Importance Weighted Autoencoders, eq. 8.
        """
        require_positive(samples=samples, at_once=at_once)
        x, lengths = self.decoder.items.checked(x, lengths)
        mean, log_variance = self.encode(x, lengths)
        noise = torch.randn(samples, *mean.shape, dtype=mean.dtype, device=mean.device)
        z = mean + (log_variance / 2).exp() * noise
        log_prob = [self._log_prob(x, some, lengths) for some in torch.split(z, at_once)]
        prior_to_posterior = (log_variance + noise.square() - z.square()).sum(dim=-1) / 2
        weights = torch.cat(log_prob) + prior_to_posterior
        return weights.logsumexp(dim=0) - math.log(samples)

    def _log_prob(self, x: Tensor, z: Tensor, lengths: Tensor) -> Tensor:
        """log p(x | z) for several z of each sequence. z: [K, B, latent_size]   ->   [K, B]"""
        copies = x.repeat(1, len(z), *[1] * (x.dim() - 2))
        return self.decoder(copies, z.flatten(0, 1), lengths.repeat(len(z)))[1].view(z.shape[:2])

    def prior(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """z ~ p(z): [count, latent_size]."""
        require_positive(count=count)
        return self.posterior.weight.new_empty(count, self.latent_size).normal_(generator=generator)

    def start_state(self, z: Tensor) -> Any:
        """The state from which `step` writes what z says: see `VectorDecoder.start_state`."""
        return self.decoder.start_state(z)

    def step(self, items: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One item more: see `VectorDecoder.step`."""
        return self.decoder.step(items, state)

    def generate(
        self,
        z: Tensor | int,
        length: int,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Write a sequence for each z, or for so many z of the prior: see `VectorDecoder`."""
        if isinstance(z, int):
            z = self.prior(z, generator)
        return self.decoder.generate(z, length, temperature=temperature, generator=generator)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each dimension, in nats."""
    return 0.5 * (mean.square() + log_variance.expm1() - log_variance)


def interpolate(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Points of the straight line from a to b, both included: [steps, *a.shape].

    Raises OptionError for less than 2 steps, ShapeError where a and b differ in shape.
    """
    if steps < 2:
        raise OptionError(f"steps must be 2 or more, both ends included, got {steps}")
    if a.shape != b.shape:
        raise ShapeError(f"a and b must have one shape, got {list(a.shape)} and {list(b.shape)}")
    share = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)
    return torch.lerp(a, b, share.view(-1, *[1] * a.dim()))


def _ends(outputs: Tensor, lengths: Tensor) -> Tensor:
    """[B, 2H]: where the forward half ends and where the backward half does; 0 without a step."""
    if not len(outputs):
        return outputs.new_zeros(outputs.shape[1:])
    last = (lengths - 1).clamp(min=0)[None, :, None].expand(1, -1, outputs.shape[-1])
    ahead, _ = outputs.gather(0, last)[0].chunk(2, dim=-1)
    _, back = outputs[0].chunk(2, dim=-1)
    return torch.cat((ahead, back), dim=-1)
