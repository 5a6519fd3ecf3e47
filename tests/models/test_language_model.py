import pytest
import torch
from torch.nn.functional import cross_entropy

import elman
from elman.errors import OptionError, ShapeError
from elman.models import LanguageModel


def tokens(T=7, B=3, vocab=11, seed=0):
    return torch.randint(vocab, (T, B), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru", "slstm", "projected-lstm", "sru"])
def test_every_cell_makes_a_model(cell):
    model = LanguageModel(11, 8, 2, cell=cell)
    logits, state = model(tokens())
    assert logits.shape == (7, 3, 11)
    assert len(state) == 2


def test_the_loss_is_the_cross_entropy_of_the_next_token():
    model = LanguageModel(11, 8)
    x, y = tokens(), tokens(seed=1)
    loss = model.loss(x, y).mean
    logits, _ = model(x)
    expected = torch.stack([cross_entropy(logits[t], y[t]) for t in range(7)]).mean()
    assert torch.allclose(loss, expected)


def test_chunks_with_carried_state_are_one_text():
    model = LanguageModel(11, 8, 2, cell="gru").eval()
    x = tokens()
    whole, last = model(x)
    first, state = model(x[:3])
    second, state = model(x[3:], state)
    assert torch.allclose(torch.cat((first, second)), whole, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(state, last, strict=True))


def test_one_batch_can_be_learnt_by_heart():
    torch.manual_seed(0)
    model = LanguageModel(11, 32)
    x, y = tokens(), tokens(seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(x, y).mean
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_tied_weights_are_one_matrix():
    model = LanguageModel(11, 8, tie_weights=True)
    assert model.output.weight is model.embedding.weight
    with pytest.raises(OptionError, match="must have one size"):
        LanguageModel(11, 8, embedding_size=5, tie_weights=True)


def test_generation_depends_on_the_seed_alone_and_leaves_the_mode():
    model = LanguageModel(11, 8, dropout=0.5).train()
    prompt = torch.tensor([1, 2])

    def written(seed):
        return list(model.generate(prompt, 20, generator=torch.Generator().manual_seed(seed)))

    assert written(3) == written(3) != written(4)
    assert model.training


def test_greedy_generation_follows_the_model():
    model = LanguageModel(11, 8).eval()
    text = [4]
    for _ in range(6):
        logits, _ = model(torch.tensor(text)[:, None])
        text.append(int(logits[-1, 0].argmax()))
    assert list(model.generate(torch.tensor([4]), 6, temperature=0)) == text[1:]


def test_steps_are_the_whole_text():
    model = LanguageModel(11, 8, 2).eval()
    x = tokens()
    whole, _ = model(x)
    state = None
    for t in range(len(x)):
        logits, state = model.step(x[t], state)
        assert torch.allclose(logits, whole[t], atol=1e-6)


def test_excluded_tokens_are_never_written():
    model = LanguageModel(4, 8)
    generator = torch.Generator().manual_seed(0)
    written = list(model.generate(torch.tensor([1]), 60, exclude=[0, 2], generator=generator))
    assert set(written) == {1, 3}


def test_a_cell_of_ones_own_can_be_used():
    class Leaky(elman.Cell):
        def __init__(self, input_size, hidden_size, rate=0.1):
            super().__init__(input_size, h=hidden_size)
            self.rate = rate
            self.W = torch.nn.Linear(input_size, hidden_size)

        def step(self, x, h):
            return (1 - self.rate) * h + self.rate * self.W(x).tanh()

    model = LanguageModel(11, 8, 2, cell=Leaky, cell_options={"rate": 0.5})
    assert model(tokens())[0].shape == (7, 3, 11)
    with pytest.raises(OptionError, match="Leaky cannot be built.*speed=1"):
        LanguageModel(11, 8, cell=Leaky, cell_options={"speed": 1})


@pytest.mark.parametrize("options", [{"vocab_size": 0}, {"hidden_size": -1}, {"num_layers": 0}])
def test_sizes_must_be_positive(options):
    with pytest.raises(OptionError, match=f"{next(iter(options))} must be"):
        LanguageModel(**{"vocab_size": 5, **options})


def test_an_unknown_cell_suggests_the_nearest():
    with pytest.raises(OptionError, match="did you mean 'lstm'"):
        LanguageModel(5, cell="lstmm")


def test_an_empty_prompt_is_refused():
    with pytest.raises(OptionError, match="T > 0"):
        list(LanguageModel(5, 4).generate(torch.tensor([], dtype=torch.long), 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.tensor([[5]]), r"0 ... 4, got 5 ... 5"),
        (torch.tensor([[-1]]), r"0 ... 4, got -1"),
        (torch.tensor([[0.5]]), "whole numbers"),
        (torch.tensor([[[1]]]), r"\[T, B\]"),
    ],
)
def test_tokens_that_cannot_be_are_refused(given, message):
    with pytest.raises(ShapeError, match=message):
        LanguageModel(5, 4)(given)
