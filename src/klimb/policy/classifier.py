"""A sequence-classification model of transformers, frozen: a text's logits are those that it has alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from klimb.errors import ModelError
from klimb.policy import hardware, loading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Text = Mapping[str, Sequence[int]]
"""What a tokenizer makes of one text: `input_ids`, and `token_type_ids` where it has them."""
PROBES = ("a", "What is two and two? It is four.", "Yes, of course: gladly.")
SIZES = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
WANTED = (
    "a folder or hub name of a model that AutoModelForSequenceClassification loads, its head trained, or "
    "checkpoints/step-N/model of a run with objective.type=bradley_terry, as recipes/tiny-reward-model.yaml"
)


class Classifier:
    """The opened model.

    Texts are padded on the right, which no token before it sees, whatever side the tokenizer pads on. The padding is
    the model's own; where it has none, an id that no text of the batch has, of which the model is told, so that an
    EOS at the end of a text is read. A model whose scores padding changes (XLNet) reads one text at a time.
    """

    def __init__(self, name: str, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.name, self.model, self.tokenizer = name, model.eval().requires_grad_(False), tokenizer
        self.config = model.config.get_text_config()
        own, rows = self.config.pad_token_id, model.get_input_embeddings().weight.shape[0]
        self._rows, self._own = rows, own if isinstance(own, int) and 0 <= own < rows else None
        self._takes = set(inspect.signature(model.forward).parameters)
        self.pads = self._agrees()

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of its labels, in order."""
        return tuple(str(self.model.config.id2label[index]) for index in range(self.model.config.num_labels))

    @property
    def context(self) -> int:
        """The most tokens of a text: by its positions (of RoBERTa less those that padding takes) and its tokenizer."""
        known = [value for name in SIZES if isinstance(value := getattr(self.config, name, None), int) and value > 0]
        for module in self.model.modules():
            table = getattr(module, "position_embeddings", None)
            if isinstance(table, torch.nn.Embedding) and table.padding_idx is not None:
                known.append(table.num_embeddings - table.padding_idx - 1)
        return int(min([*known, self.tokenizer.model_max_length, 1 << 30]))

    def logits(self, texts: Sequence[Text], most: int) -> Tensor:
        """The logits (texts, labels), float32 on the CPU; at most `most` tokens, padding included, in one forward pass.

        A longer text has a pass of its own.
        """
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]["input_ids"]))
        found = torch.empty(len(texts), len(self.labels))
        while order:
            width = len(texts[order[0]]["input_ids"])
            count = max(1, most // width) if self.pads else 1
            part, order = order[:count], order[count:]
            found[torch.tensor(part)] = self._forward([texts[index] for index in part])
        return found

    def describe(self) -> str:
        """The model in words, and how it reads several texts."""
        weights = sum(weight.numel() for weight in self.model.parameters()) / 1e6
        what = f"{type(self.model).__name__}, {weights:.1f} M weights, {self.model.dtype}".replace("torch.", "")
        parts = [f"{what} on {self.model.device}", f"at most {self.context} tokens"]
        if not self.pads:
            parts.append("one text at a time, as padding changes its scores")
        if self._own is not None and self._own == self.tokenizer.eos_token_id:
            parts.append("its padding is EOS: where it scores the last token, a closing EOS is not read")
        return "; ".join(parts)

    @torch.no_grad()
    def _forward(self, texts: Sequence[Text]) -> Tensor:
        """The logits of some texts in one pass, each padded to the longest."""
        sizes = [len(text["input_ids"]) for text in texts]
        shape, pad = (len(texts), max(sizes)), self._own
        if pad is None:
            used = {token for text in texts for token in text["input_ids"]}
            pad = next((token for token in range(self._rows) if token not in used), None)
            if pad is None and len(texts) > 1:
                return torch.cat([self._forward([text]) for text in texts])
            self.config.pad_token_id = pad if len(texts) > 1 else None
        fill = {"input_ids": pad or 0, "token_type_ids": self.tokenizer.pad_token_type_id}
        names = [name for name in fill if name in self._takes and any(name in text for text in texts)]
        inputs = {name: torch.full(shape, fill[name]) for name in names} | {"attention_mask": torch.zeros(shape).long()}
        for row, (text, size) in enumerate(zip(texts, sizes, strict=True)):
            for name in text.keys() & set(names):
                inputs[name][row, :size] = torch.tensor(text[name])
            inputs["attention_mask"][row, :size] = 1
        more = {"use_cache": False} if "use_cache" in self._takes else {}
        out = self.model(**{name: value.to(self.model.device) for name, value in inputs.items()}, **more)
        logits: Tensor = out.logits.float().cpu()
        return logits

    def _agrees(self) -> bool:
        """Whether texts of different lengths have the same logits together as alone. Raises ModelError."""
        texts = [{name: list(ids) for name, ids in self.tokenizer(text).items()} for text in PROBES]
        try:
            alone = torch.cat([self._forward([text]) for text in texts])
        except Exception as error:  # any architecture may fail here in its own way
            raise loading.broken(self.name, "to score a text", error, WANTED) from error
        try:
            together = self._forward(texts)
        except Exception:  # noqa: BLE001 as above; then each text is read alone
            return False
        allowed = 1e-4 if self.model.dtype == torch.float32 else 0.03
        return bool((together - alone).abs().max() <= allowed * (1 + alone.abs().max()))


def open_classifier(name: str, precision: Literal["auto", "bfloat16", "float32"] = "auto") -> Classifier:
    """The sequence-classification model in a folder, or of a hub name. Raises ModelError.

    One without trained weights for every part is refused: transformers would draw its head at random.
    """
    try:
        place = loading.place_of(name)
        config = loading.config_of(name, place)
    except ModelError as error:
        raise ModelError(error.asked, error.found, WANTED) from error
    own = (getattr(config, "auto_map", None) or {}).get("AutoModelForSequenceClassification")
    if own is not None or type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        found = f"one that needs its author's code ({own}), which is never run" if own else config.model_type
        raise ModelError(f"{name!r} as a reward model of transformers' own architectures", found, WANTED)
    if not isinstance(place, str):
        loading.check_weights(place)
    device = hardware.device_of("auto")
    dtype = hardware.dtype_of(precision, device, small=loading.is_small(place))
    tokenizer = loading.tokenizer_of(name, place)
    model, wrong = loading.weights_of(AutoModelForSequenceClassification, name, place, config, dtype)
    if wrong:
        shown = f"{', '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}"
        kind = (config.architectures or [type(model).__name__])[0]
        raise ModelError(
            f"{name!r} as a reward model", f"a {kind} without weights of its own shapes for {shown}", WANTED
        )
    loading.check_parts(name, model, tokenizer)
    return Classifier(name, model.to(device), tokenizer)
