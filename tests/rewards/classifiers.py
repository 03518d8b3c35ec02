"""Small sequence-classification models with random weights, in folders, and what transformers says of a text alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
    RobertaConfig,
    XLNetConfig,
)

from klimb.policy.tiny import tiny_tokenizer
from klimb.types import Completion, Finish

SIZES: Any = {"vocab_size": 261, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "max_position_embeddings": 96, "pad_token_id": 0}
CLOSED = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}"
    "{% endfor %}"
)
NARROW: Any = {"vocab_size": 261, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 96}
CONFIGS: dict[str, tuple[Any, str]] = {
    "llama": (LlamaConfig(**SIZES, num_key_value_heads=1), "chat"),
    "llama that pads with eos": (LlamaConfig(**{**SIZES, "pad_token_id": 2}), "chat"),
    "llama without padding": (LlamaConfig(**{**SIZES, "pad_token_id": None}), "chat"),
    "llama with a padding that is no token": (LlamaConfig(**{**SIZES, "pad_token_id": -1}), "chat"),
    "qwen2": (Qwen2Config(**SIZES, num_key_value_heads=2), "chat"),
    "gpt2 without padding": (GPT2Config(**NARROW), "plain"),
    "gpt2 that pads with eos": (GPT2Config(**NARROW, pad_token_id=2, eos_token_id=2), "plain"),
    "bert": (BertConfig(**SIZES), "pair"),
    "deberta": (DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"]), "pair"),
    "roberta": (RobertaConfig(**{**SIZES, "type_vocab_size": 1}), "pair"),
    "xlnet": (XLNetConfig(vocab_size=261, d_model=16, n_layer=2, n_head=2, d_inner=24), "pair"),
}


def saved(folder: Path, name: str = "llama", changes: Mapping[str, Any] | None = None, **more: Any) -> Path:
    """A folder as save_pretrained writes it; `changes` to its config.json, `more` to its configuration."""
    config, kind = CONFIGS[name]
    config = type(config).from_dict({**config.to_dict(), "num_labels": 1, **more})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = cast(Any, AutoModelForSequenceClassification).from_config(config).float()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.3 if weight.ndim > 1 else 0.05)
    model.save_pretrained(folder)
    tokenizer: Any = tiny_tokenizer(96)
    if kind == "chat":
        tokenizer.chat_template = CLOSED
        tokenizer.padding_side = "left"
    else:
        tokenizer.chat_template = None
    if kind == "plain":
        tokenizer.pad_token = None
    if kind == "pair":
        tokenizer.add_special_tokens({"cls_token": "<cls>", "sep_token": "<sep>"})
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<cls> $A <sep>", pair="<cls>:0 $A:0 <sep>:0 $B:1 <sep>:1",
            special_tokens=[("<cls>", tokenizer.cls_token_id), ("<sep>", tokenizer.sep_token_id)],
        )  # fmt: skip
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **(changes or {})}), "utf-8")
    return folder


def alone(folder: Path, *texts: Any) -> list[list[float]]:
    """The logits of each text alone by transformers: one text, a pair of texts, or a list of messages."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    found = []
    for text in texts:
        if isinstance(text, list):
            ready = tokenizer.apply_chat_template(text, return_tensors="pt", return_dict=True)
        else:
            ready = tokenizer(*([text] if isinstance(text, str) else text), return_tensors="pt")
        if "token_type_ids" in ready and int(ready["token_type_ids"].max()) >= getattr(
            model.config, "type_vocab_size", 2
        ):
            del ready["token_type_ids"]
        with torch.no_grad():
            found.append(model.eval()(**ready).logits[0].tolist())
    return found


def said(text: str) -> Completion:
    """An answer."""
    return Completion((7,), (-1.0,), text, Finish.EOS)
