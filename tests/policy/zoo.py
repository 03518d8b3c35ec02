"""Small random-weight models of several architectures, batches, and what a model says of each sequence alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from klimb.batch import Batch
from klimb.policy.base import PolicySettings
from klimb.policy.policy import Policy
from klimb.policy.tiny import tiny_tokenizer

VOCABULARY = 259
SIZES: Any = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
NARROW: Any = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama with biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "gemma2": Gemma2Config(
        **SIZES, head_dim=16, query_pre_attn_scalar=16, attn_logit_softcapping=2.0, final_logit_softcapping=1.5
    ),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=16, query_pre_attn_scalar=16, sliding_window=64),
    "gpt2": GPT2Config(**NARROW),
    "cohere": CohereConfig(**SIZES, logit_scale=0.3),
    "granite": GraniteConfig(**SIZES, logits_scaling=3.0, residual_multiplier=0.7, attention_multiplier=0.2),
    "gpt neox": GPTNeoXConfig(**{k: v for k, v in SIZES.items() if k != "num_key_value_heads"}),
}
WINDOWED = MistralConfig(**SIZES, sliding_window=16)
RECURRENT = MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4)


def model_of(config: Any, seed: int = 0) -> Any:
    """A float32 model with weights large enough that every part of it matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        family: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        model = family(config).float()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.2 if weight.ndim > 1 else 0.05)
    return model.eval()


def policy_of(config: Any, **settings: Any) -> Policy:
    """A policy around such a model, opened as any other."""
    return Policy.of(model_of(config), tiny_tokenizer(128), PolicySettings(precision="float32", **settings))


def batch_of(
    prompts: tuple[int, ...] = (9, 4, 1),
    rows: tuple[tuple[int, int], ...] = ((0, 7), (0, 1), (0, 12), (1, 5), (2, 3), (2, 8)),
    temperature: float = 1.0,
    seed: int = 0,
    vocabulary: int = VOCABULARY,
) -> Batch:
    """A batch of random tokens; `rows` are (prompt, length)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([length for _, length in rows])
    count = int(lengths.sum())
    return Batch(
        tokens=torch.randint(vocabulary, (count,), generator=generator),
        row=torch.repeat_interleave(torch.arange(len(rows)), lengths),
        group=torch.tensor([group for group, _ in rows]),
        prompts=tuple(torch.randint(vocabulary, (size,), generator=generator) for size in prompts),
        learn=torch.ones(count, dtype=torch.bool),
        reward=torch.zeros(len(rows)),
        scored=torch.ones(len(rows), dtype=torch.bool),
        truncated=torch.zeros(len(rows), dtype=torch.bool),
        temperature=temperature,
        weight=torch.randn(count, generator=generator) / count,
    )


def alone(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies by a plain forward pass of each sequence alone."""
    logps, entropies = [], []
    for row, tokens in enumerate(torch.split(batch.tokens, batch.lengths.tolist())):
        prompt = batch.prompts[int(batch.group[row])]
        logits = model(input_ids=torch.cat([prompt, tokens])[None], use_cache=False).logits[0]
        wide = torch.promote_types(logits.dtype, torch.float32)
        every = (logits[prompt.numel() - 1 : -1].to(wide) / batch.temperature).log_softmax(-1)
        logps.append(every.gather(-1, tokens[:, None])[:, 0])
        entropies.append(-(every.exp() * every).sum(-1))
    return torch.cat(logps), torch.cat(entropies)


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of each weight, and none left behind."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def largest_gap(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest relative difference of a weight's gradient, against the norm of the whole gradient's largest."""
    assert found.keys() == wanted.keys()
    floor = 1e-3 * max(float(grad.norm()) for grad in wanted.values())
    return max(float((found[name] - grad).norm()) / max(float(grad.norm()), floor) for name, grad in wanted.items())
