"""What no causal language model is: an encoder, whose tokens see what comes after them, or a model of another kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from klimb.errors import ModelError

DECODER = "a decoder such as Llama or Qwen"
SCORES = "; an encoder can score (rewards: [{type: reward_model}]), but not learn here"


def not_causal(name: str, config: Any) -> ModelError:
    """The error of a model that is none: an encoder can be used elsewhere, another kind cannot."""
    wants, kind = f"model {name!r} wants a causal language model", f"model_type={config.model_type}"
    if getattr(config, "is_encoder_decoder", False) or type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return ModelError(wants, f"{kind}, which is another kind of model", DECODER)
    return ModelError(f"{wants}, whose tokens see only those before them", kind, DECODER + SCORES)


@torch.no_grad()
def reads_ahead(model: Any) -> bool:
    """Whether the first token's state changes with the second token, as in BERT, which has a causal class, too."""
    rows = model.get_input_embeddings().weight.shape[0]
    states = _states(model.eval(), torch.tensor([[rows // 2, rows // 3], [rows // 2, rows // 4]]))
    if states is None:
        return False
    allowed = 1e-3 if model.dtype == torch.float32 else 0.03
    first = states[:, 0].float()
    return bool((first[0] - first[1]).norm() > allowed * first[0].norm())


def _states(model: Any, tokens: Tensor) -> Tensor | None:
    """The last hidden states (r, n, d); None where the model cannot be computed, of which its path tells the reason."""
    found: Tensor
    try:
        found = model.base_model(input_ids=tokens).last_hidden_state
    except Exception:  # noqa: BLE001 any architecture may fail here in its own way, and is asked in another
        try:
            found = model(input_ids=tokens, output_hidden_states=True).hidden_states[-1]
        except Exception:  # noqa: BLE001 as above
            return None
    return found
