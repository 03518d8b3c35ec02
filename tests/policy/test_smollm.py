"""The 135M model: exact against plain passes in float32, close in bfloat16, rendered as its template says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from klimb.policy import pull
from klimb.policy.base import PolicySettings
from klimb.policy.hardware import has_bfloat16
from klimb.policy.loading import load
from klimb.policy.policy import Policy
from klimb.types import Message, Prompt
from tests.policy.zoo import alone, batch_of, gradients, largest_gap

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder() -> Path:
    found = pull.resolve("smollm2-135m")
    if found is None:
        pytest.skip("no smollm2-135m in the cache: klimb pull smollm2-135m")
    return found


@pytest.fixture(scope="module")
def exact(folder: Path) -> Policy:
    return load(PolicySettings(name=str(folder), precision="float32", path="packed"))


TEXT = (
    "The capital of France is Paris. It lies on the river Seine in the north of the country, and about two million "
    "people live there. The city is known for its museums, its food and the Eiffel Tower, which was built in 1889."
)
BATCH = batch_of(vocabulary=49152)


def test_float32_log_probs_entropies_and_gradients_are_those_of_each_sequence_alone(
    exact: Policy, folder: Path
) -> None:
    """In double precision: on some processors a plain pass in float32 is ten times further from that than ours."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    truth, entropy = alone(model, BATCH)
    assert BATCH.weight is not None
    wanted = {n: one.float() for n, one in gradients(model, (BATCH.weight.double() * truth).sum()).items()}
    outputs = exact(BATCH)
    torch.testing.assert_close(outputs.logp, truth.float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs.entropy, entropy.float(), atol=1e-4, rtol=0)
    assert largest_gap(gradients(exact.model, (BATCH.weight * outputs.logp).sum()), wanted) < 1e-4


def test_bfloat16_is_nearer_to_float32_than_the_models_own_bfloat16_logits(exact: Policy, folder: Path) -> None:
    if not has_bfloat16(torch.device("cpu")):
        pytest.skip("no bfloat16 in hardware: emulated, the layers below the logits round as much as the logits do")
    policy = load(PolicySettings(name=str(folder), precision="bfloat16", path="packed"))
    prompt = exact.render(Prompt("a", messages=(Message("user", "What is the capital of France?"),))).tokens
    ids = exact.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    batch = batch_of(prompts=(len(prompt),), rows=((0, len(ids)),))
    batch = batch.replace(tokens=torch.tensor(ids), prompts=(torch.tensor(prompt),))
    with torch.no_grad():
        truth, ours, plain = exact(batch).logp, policy(batch).logp, alone(policy.model, batch)[0]
    assert float((ours - truth).abs().mean()) < 0.75 * float((plain - truth).abs().mean())
    assert float((ours - truth).abs().mean()) < 0.03


def test_a_chat_is_rendered_as_its_template_says_without_bos_and_ends_at_id_2(exact: Policy) -> None:
    prompt = exact.render(Prompt("a", messages=(Message("system", "s"), Message("user", "2 + 2?"))))
    text = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    assert exact.tokenizer.decode(list(prompt.tokens)) == text
    assert (set(exact.eos_ids), exact.context) == ({2}, 8192)
    assert exact.decode([*prompt.tokens[:1], *exact.render(Prompt("b", text="four")).tokens, 2]) == "four"
