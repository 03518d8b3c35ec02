"""The built-in tiny model: a random-weight Llama over bytes that learns in seconds, on the code path of any other."""

from __future__ import annotations

from typing import Any, cast

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from klimb.errors import ModelError
from klimb.policy.base import TinySizes

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tiny_tokenizer(context: int) -> PreTrainedTokenizerFast:
    """One token a byte (ids 3 to 258, in the byte alphabet's order), after pad 0, bos 1 and eos 2; puts bos first."""
    specials = [PAD, BOS, EOS]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*specials, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    made: PreTrainedTokenizerFast = cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        chat_template=TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    return made


def tiny_config(sizes: TinySizes, vocabulary: int) -> LlamaConfig:
    """The model's configuration. Raises ModelError where the sizes do not go together."""
    if sizes.hidden % sizes.heads or sizes.heads % sizes.kv_heads or (sizes.hidden // sizes.heads) % 2:
        raise ModelError(
            "model.tiny wants heads that divide hidden evenly, and kv_heads that divide heads",
            f"hidden={sizes.hidden}, heads={sizes.heads}, kv_heads={sizes.kv_heads}",
            "hidden=64, heads=4, kv_heads=2",
        )
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=sizes.hidden,
        intermediate_size=3 * sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        max_position_embeddings=sizes.context,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def tiny_model(sizes: TinySizes, vocabulary: int, seed: int) -> Any:
    """The model, float32, its weights drawn from `seed` alone. Raises ModelError as above."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(tiny_config(sizes, vocabulary))
    model.generation_config = cast(Any, GenerationConfig)(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    return model.float()
