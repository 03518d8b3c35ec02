"""Drawing tokens: one uniform number a token, turned into a token by the inverse of the distribution function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from klimb.errors import GenerationError
from klimb.generation.base import Forking, Sampling

BLOCK = 256
CHUNK = 1 << 19
FLOOR = -200.0


@dataclass(frozen=True, slots=True)
class Draws:
    """One token for each row: `tokens[r]`, their log-probs `logps[r]` and the `entropies[r]`, nats, float32."""

    tokens: Tensor
    logps: Tensor
    entropies: Tensor


def draw(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> Draws:
    """One token for each row of `logits` [r, v], by `uniforms` [r] in [0, 1), float64.

    The order is temperature, top-k, top-p (as transformers has it); the log-prob is of the distribution that remains,
    renormalised; the entropy is of the one at the temperature, before anything is cut. Temperature 0 takes the
    likeliest token, the first of equals: log-prob and entropy 0. Raises GenerationError for logits that are not finite.
    """
    if sampling.forking is not None:
        return _forked(logits, uniforms, sampling, sampling.forking)
    size = max(1, CHUNK // logits.shape[1])
    parts = [
        _draw(logits[start : start + size], uniforms[start : start + size], sampling)
        for start in range(0, logits.shape[0], size)
    ]
    return Draws(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _draw(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    if sampling.temperature == 0.0:
        return _greedy(logits)
    scaled = logits.to(torch.float32, copy=True)
    if sampling.temperature != 1.0:
        scaled.div_(sampling.temperature)
    scaled.sub_(scaled.amax(-1, keepdim=True)).clamp_(min=FLOOR)  # minus infinity would make 0 * -inf below
    mass = scaled.exp()
    blocks = _block_sums(mass)
    total = blocks.sum(-1)
    _refuse_broken(total)
    entropies = total.log() - torch.linalg.vecdot(mass, scaled).double() / total
    if sampling.top_k or sampling.top_p < 1.0:
        mass = truncate(mass, sampling.top_k, sampling.top_p)
        blocks = _block_sums(mass)
        total = blocks.sum(-1)
    tokens = _invert(mass, blocks, uniforms)
    logps = scaled.gather(1, tokens[:, None])[:, 0].double() - total.log()
    return tokens, logps.float().clamp_(max=0.0), entropies.float().clamp_(min=0.0)


def _forked(logits: Tensor, uniforms: Tensor, sampling: Sampling, forking: Forking) -> Draws:
    """Rows at one of two temperatures, by their entropy at temperature 1, which is also the entropy that is told.

    The log-probs are of the re-tempered distributions that were drawn from.
    """
    one = sampling.model_copy(update={"forking": None})
    entropies = draw(logits, uniforms, one).entropies
    above = entropies > forking.threshold
    tokens, logps = torch.zeros_like(entropies, dtype=torch.int64), torch.zeros_like(entropies)
    for rows, temperature in ((above, forking.high), (~above, forking.low)):
        if bool(rows.any()):
            part = draw(logits[rows], uniforms[rows], one.model_copy(update={"temperature": temperature}))
            tokens[rows], logps[rows] = part.tokens, part.logps
    return Draws(tokens, logps, entropies)


def _greedy(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    best, tokens = logits.float().max(-1)
    _refuse_broken(best)
    zeros = torch.zeros_like(best)
    return tokens, zeros, zeros


def _refuse_broken(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise GenerationError(
            "next-token logits", "a row with NaN or infinity", "check the model's weights, or use float32"
        )


def _block_sums(mass: Tensor) -> Tensor:
    """The mass of each block of BLOCK entries [r, ceil(v / BLOCK)], float64."""
    rows, width = mass.shape
    whole = width // BLOCK * BLOCK
    sums = mass[:, :whole].view(rows, -1, BLOCK).sum(-1) if whole else mass[:, :0]
    if whole < width:
        sums = torch.cat([sums, mass[:, whole:].sum(-1, keepdim=True)], -1)
    return sums.double()


def _invert(mass: Tensor, blocks: Tensor, uniforms: Tensor) -> Tensor:
    """The first entry at which the running mass passes `uniforms` of the whole: by block, then inside the block."""
    ends = blocks.cumsum(-1)
    target = uniforms.to(ends)[:, None] * ends[:, -1:]
    block = _passing(ends, target)
    before = ends.gather(1, block) - blocks.gather(1, block)
    places = block * BLOCK + torch.arange(BLOCK, device=mass.device)
    inside = mass.gather(1, places.clamp(max=mass.shape[1] - 1)).double()
    inside.masked_fill_(places >= mass.shape[1], 0.0)
    return (block * BLOCK + _passing(inside.cumsum(-1), target - before))[:, 0]


def _passing(ends: Tensor, target: Tensor) -> Tensor:
    """The first index whose running sum exceeds `target`; by rounding none may, then the last that has any mass."""
    last = torch.searchsorted(ends, ends[:, -1:].contiguous())
    return torch.minimum(torch.searchsorted(ends, target, right=True), last)


def truncate(mass: Tensor, top_k: int, top_p: float) -> Tensor:
    """`mass` [r, v] with zeros outside its `top_k` largest entries, then outside the smallest set reaching `top_p`.

    Among equals at the border the first ones stay, so that exactly the wanted number does.
    """
    width = mass.shape[1]
    if 0 < top_k < width:
        counts = torch.full((mass.shape[0], 1), top_k, device=mass.device)
        mass = _keep_largest(mass, mass.topk(top_k).values[:, -1:], counts)
    if top_p < 1.0:
        largest, counts = _nucleus(mass, top_p)
        mass = _keep_largest(mass, largest.gather(1, counts - 1), counts)
    return mass


def _nucleus(mass: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The largest entries, sorted, and how many of them reach `top_p`. Few are looked at first: few are needed."""
    width = mass.shape[1]
    wanted = mass.sum(-1, keepdim=True, dtype=torch.float64) * top_p
    for size in (128, 2048, width):
        largest = mass.topk(min(size, width)).values
        ends = largest.cumsum(-1, dtype=torch.float64)
        if size >= width or bool((ends[:, -1:] >= wanted).all()):
            break
    counts = (ends < wanted).sum(-1, keepdim=True) + 1
    return largest, counts.clamp(max=largest.shape[1])


def _keep_largest(mass: Tensor, border: Tensor, counts: Tensor) -> Tensor:
    keep = mass > border
    equal = mass == border
    room = counts - keep.sum(-1, keepdim=True)
    keep |= equal & (equal.cumsum(-1) <= room)
    return mass * keep
