"""Batches for tests of models of labels and tags."""

import torch

#: Unsorted, with a sequence of no step, one of one step and one of all.
LENGTHS = torch.tensor([4, 0, 6, 1])
T, B, VOCAB = 6, 4, 9


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def outside(lengths=LENGTHS, steps=T):
    """[T, B] bool: the padding."""
    return torch.arange(steps)[:, None] >= lengths


def tokens(seed=0):
    return torch.randint(VOCAB, (T, B), generator=generator(seed))


def vectors(size, seed=0):
    return torch.randn(T, B, size, generator=generator(seed))


def words(vocab=7, seed=0):
    """Characters [C, B] and word_lengths [T, B], with garbage past their ends."""
    word_lengths = torch.randint(1, 5, (T, B), generator=generator(seed))
    word_lengths[2, 0] = 0
    counts = word_lengths.masked_fill(outside(), 0)
    characters = torch.randint(vocab, (int(counts.sum(0).max()), B), generator=generator(seed + 1))
    past = torch.arange(len(characters))[:, None] >= counts.sum(0)
    return characters.masked_fill(past, 10**9), word_lengths


def learnt(model, *batch, steps=120, rate=0.02):
    """The mean loss after training on one batch alone."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(*batch).mean
        loss.backward()
        optimizer.step()
    return model.eval().loss(*batch).mean.item()


def loss_gradients(model, *batch):
    """The total loss and its gradient by each parameter."""
    total = model.loss(*batch).total
    parameters = tuple(model.parameters())
    return total, torch.autograd.grad(total, parameters, materialize_grads=True)
