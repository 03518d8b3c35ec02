"""The nearest name: in the same section, in another section, or under another type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from klimb.schema import Record, Shape, leaves

ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "learning_rate": "optimizer.lr",
        "lr": "optimizer.lr",
        "warmup_steps": "optimizer.warmup",
        "lr_scheduler_type": "optimizer.schedule",
        "max_grad_norm": "optimizer.clip",
        "adam_epsilon": "optimizer.eps",
        "num_generations": "source.completions",
        "group_size": "source.completions",
        "rollout_n": "source.completions",
        "train_batch_size": "source.prompts",
        "per_device_train_batch_size": "training.micro_tokens",
        "gradient_accumulation_steps": "training.micro_tokens",
        "num_iterations": "source.epochs",
        "ppo_epochs": "source.epochs",
        "ppo_mini_batch_size": "source.minibatches",
        "max_completion_length": "sampling.max_tokens",
        "max_new_tokens": "sampling.max_tokens",
        "max_response_length": "sampling.max_tokens",
        "max_steps": "training.steps",
        "num_steps": "training.steps",
        "save_steps": "checkpoints.every",
        "save_total_limit": "checkpoints.keep",
        "eval_steps": "evaluation.every",
        "output_dir": "run",
        "report_to": "trackers",
        "model_name_or_path": "model.name",
        "model_name": "model.name",
        "reward_funcs": "rewards",
        "dtype": "model.precision",
        "bf16": "model.precision",
        "gradient_checkpointing": "model.checkpointing",
    }
)
"""What other trainers call a setting; read only where the record has the setting."""


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name most like `name`, or None where none is like it."""
    wanted = _plain(name)
    scores = {known: _likeness(wanted, _plain(known)) for known in dict.fromkeys(names)}
    best = max(scores, key=lambda known: scores[known], default=None)
    return best if best is not None and scores[best] >= cutoff else None


def _likeness(a: str, b: str) -> float:
    """How alike two names are, from 0 to 1; swapped letters count less than other faults: gpro is nearest to grpo."""
    return difflib.SequenceMatcher(None, a, b).ratio() + (0.1 if sorted(a) == sorted(b) else 0.0)


def cure_unknown(root: Record, section: Shape, path: str, name: str, value: Any) -> tuple[str, str | None]:
    """The cure for a name that `section` (at `path`) lacks, and the name of this section that it was meant for."""
    record = section.chosen(value)
    own = list(record.model_fields) if record else [section.tag] * bool(section.tag)
    prefix = f"{path}." if path else ""
    same = next((known for known in own if _plain(known) == _plain(name)), None)
    if same:
        return prefix + same, same
    elsewhere = _other_types(section, path, name) or _elsewhere(root, prefix + name)
    if elsewhere:
        return elsewhere, None
    close = nearest(name, own)
    if close:
        return prefix + close, close
    leaf = nearest(name, {here.rpartition(".")[2] for here in leaves(root)}, 0.8)
    if leaf:
        return _either(_ending(root, leaf)), None
    held = ", ".join(own) if own else "no settings of its own"
    return f"one of the names of {path or 'a recipe'}: {held}", None


def _other_types(section: Shape, path: str, name: str) -> str:
    """Which other members of a union have the name."""
    having = [tag for tag, record in section.members if name in record.model_fields]
    if not having:
        return ""
    whose = ", ".join(having[:4])
    return f"take it out, or {path}={{type: {having[0]}, ...}}: it belongs to {section.tag} {whose}"


def _elsewhere(root: Record, path: str) -> str:
    """The same name in another section, the section spelled out, or the name that other trainers have for it."""
    name = path.rpartition(".")[2]
    paths = list(leaves(root))
    if "." in name or path in paths:
        return f"write {path} as a section, not with a dot"
    if known_elsewhere(paths, name):
        return known_elsewhere(paths, name)
    return _either(_ending(root, name))


def known_elsewhere(paths: Sequence[str], name: str) -> str:
    """The one of these settings that other trainers call by this name, or ""."""
    setting = ELSEWHERE.get(_plain(name), "")
    return setting if setting in paths else ""


def _ending(root: Record, name: str) -> list[str]:
    return list(dict.fromkeys(here for here in leaves(root) if here.rpartition(".")[2] == name))


def _either(paths: Sequence[str]) -> str:
    return " or ".join(paths[:3])


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").strip()
