"""A policy small enough to sum over every answer it can give, to every prompt it knows."""

from __future__ import annotations

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from klimb.functional import divergence

Parameters = Float[Tensor, "prompts prefixes words"]
Tokens = Float[Tensor, "prompts tokens"]
Answers = Float[Tensor, "prompts answers"]


class Enumerable:
    """An autoregressive policy over `words` words; word 0 ends an answer, and none is longer than `length` words.

    Its parameters are a row of logits for each prompt and each prefix, so it can be any distribution over answers.
    `place` says which row is a prefix's. `answers` lists all; `row[t]` and `word[t]` are the answer and the word of
    each of their tokens, in order; `ends=False` takes the ending away: every answer then has `length` words.
    """

    def __init__(self, words: int = 3, length: int = 3, prompts: int = 1, ends: bool = True) -> None:
        going = range(1 if ends else 0, words)
        prefixes = [prefix for size in range(length) for prefix in product(going, repeat=size)]
        longest = [(*prefix, word) for prefix in prefixes if len(prefix) == length - 1 for word in going]
        self.words, self.prompts = words, prompts
        self.answers = [*((*prefix, 0) for prefix in prefixes if ends), *longest]
        self.place = {prefix: index for index, prefix in enumerate(prefixes)}
        self.prefixes = len(prefixes)
        self.lengths = torch.tensor([len(answer) for answer in self.answers])
        self.row = torch.repeat_interleave(torch.arange(len(self.answers)), self.lengths)
        self.word = torch.tensor([word for answer in self.answers for word in answer])
        self.at = torch.tensor([self.place[answer[:k]] for answer in self.answers for k in range(len(answer))])

    def draw(self, seed: int, scale: float = 1.0) -> Parameters:
        """Random parameters in float64."""
        generator = torch.Generator().manual_seed(seed)
        shape = (self.prompts, self.prefixes, self.words)
        return torch.randn(shape, generator=generator, dtype=torch.float64) * scale

    def logp(self, theta: Parameters) -> Tokens:
        """log pi of each token of each answer to each prompt, in nats. Differentiable."""
        return theta.log_softmax(-1)[:, self.at, self.word]

    def divergence(self, theta: Parameters, ref: Parameters) -> Tokens:
        """KL(pi||ref) of the next token where each token of each answer is drawn, in nats. Differentiable."""
        flat = divergence.exact(theta.flatten(0, 1), ref.flatten(0, 1))
        return flat.view(self.prompts, self.prefixes)[:, self.at]

    def whole(self, logp: Tokens) -> Answers:
        """The sum over each answer's tokens: its own log-probability. Differentiable."""
        return logp.new_zeros(self.prompts, len(self.answers)).index_add(1, self.row, logp)

    def places(self, answer: int) -> Tensor:
        """Where the tokens of one answer stand."""
        return torch.nonzero(self.row == answer).flatten()
