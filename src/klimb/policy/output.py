"""The output layer of a causal language model: what it is called, and which weights are its own. No torch here."""

from __future__ import annotations

from typing import Any

from klimb.errors import ModelError

OUTPUT = ("lm_head.", "embed_out.")
"""What the names of its weights begin with in a model's files, where it is not the embedding."""


def output_layer(model: Any) -> Any:
    """The layer that makes logits of hidden states. Raises ModelError where transformers knows none."""
    if (layer := model.get_output_embeddings()) is None:
        found = f"{type(model).__name__}, whose output layer transformers does not name"
        raise ModelError("a value head as wide as what the output layer reads", found, "another decoder")
    return layer


def own_output(model: Any) -> set[str]:
    """The names of the weights that only the output layer has: none where it is the embedding, or is left out."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    own = {id(weight) for weight in ([] if head is None else head.parameters())} - {id(embedding.weight)}
    return {name for name, weight in model.named_parameters(remove_duplicate=False) if id(weight) in own}
