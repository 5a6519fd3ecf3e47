"""What was written, and how to read it back."""

from torch import Tensor


class Trail:
    """The tokens of every step, each with the place of the token before it.

    Sequences that share a beginning share it here, so a step costs what it adds.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[list[int], list[int], list[float]]] = []
        self.attention: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.steps)

    def append(
        self, before: Tensor, tokens: Tensor, log_p: Tensor, attention: Tensor | None
    ) -> None:
        """before: [M] places in the last step; log_p: of the tokens [M]; attention: [M, S]."""
        self.steps.append((before.tolist(), tokens.tolist(), log_p.tolist()))
        if attention is not None:
            self.attention.append(attention)

    def read(self, length: int, place: int) -> tuple[list[int], list[float], list[Tensor]]:
        """Tokens, log probabilities and attention of the sequence of ``length`` tokens whose last
        is at ``place``."""
        tokens, log_p, attention = [], [], []
        for number in reversed(range(length)):
            before, written, gained = self.steps[number]
            tokens.append(written[place])
            log_p.append(gained[place])
            if self.attention:
                attention.append(self.attention[number][place])
            place = before[place]
        return tokens[::-1], log_p[::-1], attention[::-1]
