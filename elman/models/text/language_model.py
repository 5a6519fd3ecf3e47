"""The recurrent language model."""

from collections.abc import Iterator, Sequence
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.errors import OptionError, require_positive
from elman.layers.dropout import Dropout
from elman.models.common.encoder import StackOptions, build_stack, embedded
from elman.models.common.loss import Loss
from elman.models.common.sampling import sample


class LanguageModel(nn.Module):
    """Predicts the next token of a text from all before it.

        u_t = stack(dropout(E w_t), state)
        p(w_{t+1} | w_1 ... w_t) = softmax(V dropout(u_t) + b)        V = E where tie_weights

    tokens: [T, B] ids (or [T])   ->   logits: [T, B, vocab_size], state
    embedding_size: hidden_size where not given. options: see `StackOptions`; dropout acts on the
    embeddings and the outputs too.

    Raises OptionError. Source: Mikolov et al. 2010; with dropout Zaremba et al. 2014; tied
    weights Press & Wolf 2017.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 256,
        num_layers: int = 1,
        *,
        embedding_size: int | None = None,
        tie_weights: bool = False,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        embedding_size = hidden_size if embedding_size is None else embedding_size
        require_positive(
            vocab_size=vocab_size, hidden_size=hidden_size, embedding_size=embedding_size
        )
        self.vocab_size = vocab_size
        self.stack = build_stack(embedding_size, hidden_size, num_layers, **options)
        self.dropout = Dropout(options.get("dropout", 0.0))
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.output = nn.Linear(self.stack.output_size, vocab_size)
        nn.init.uniform_(self.output.weight, -0.1, 0.1)
        nn.init.zeros_(self.output.bias)
        if tie_weights:
            self._tie(embedding_size)

    def _tie(self, embedding_size: int) -> None:
        if embedding_size != self.stack.output_size:
            raise OptionError(
                f"tie_weights: the embedding ({embedding_size}) and the output of the last layer "
                f"({self.stack.output_size}) must have one size; set embedding_size to it"
            )
        # One matrix for both: as small as a softmax wants it.
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: Any = None, **sequence: Any) -> tuple[Tensor, Any]:
        """Logits of the token after each; ``sequence``: lengths, reset, truncate, as any layer."""
        u = self.dropout(embedded(self.embedding, tokens))
        outputs, state = self.stack(u, state, **sequence)
        return self.output(self.dropout(outputs)), state

    def loss(self, tokens: Tensor, targets: Tensor, state: Any = None) -> Loss:
        """The cross entropy in nats of the tokens that follow, and the state to carry on with.

        tokens, targets: [T, B]
        """
        logits, state = self(tokens, state)
        total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        return Loss(total, targets.numel(), state)

    def step(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One token more of each of N texts, as `elman.models.decode` takes a step.

        tokens: [N]   ->   logits: [N, vocab_size] of the token after it, state
        state: what the model returned for the texts so far.
        """
        logits, state = self(tokens[None], state)
        return logits[0], state

    @torch.inference_mode()
    def generate(
        self,
        prompt: Tensor,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        exclude: Sequence[int] = (),
        generator: torch.Generator | None = None,
    ) -> Iterator[int]:
        """Write ``length`` tokens after the prompt, one at a time, in evaluation mode.

        prompt: [T] ids, T > 0. temperature, top_k, top_p: see
        `elman.models.common.sampling.sample`.
        exclude: ids that are never written.
        """
        for token, _ in self.generate_scored(
            prompt,
            length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            exclude=exclude,
            generator=generator,
        ):
            yield token

    @torch.inference_mode()
    def generate_scored(
        self,
        prompt: Tensor,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        exclude: Sequence[int] = (),
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[int, float]]:
        """As `generate`, each token with its log probability in nats.

        It is that of the token among the whole vocabulary as the model has it, whatever the
        temperature and what was ruled out.
        """
        if prompt.dim() != 1 or prompt.numel() == 0:
            raise OptionError(f"prompt must be [T] ids with T > 0, got {list(prompt.shape)}")
        was_training = self.training
        self.eval()
        try:
            logits, state = self(prompt[:, None])
            for _ in range(length):
                last = logits[-1, 0]
                log_p = last.log_softmax(dim=-1)
                last[list(exclude)] = -torch.inf
                token = sample(last, temperature, top_k, top_p, generator)
                yield int(token), float(log_p[token])
                logits, state = self(token.view(1, 1), state)
        finally:
            self.train(was_training)
