"""Small policies, and a server on loopback that answers as vLLM does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import torch
import transformers

from klimb.generation.base import Request, Sampling
from klimb.generation.local import Local
from klimb.policy.tiny import tiny_tokenizer

CONTEXT = 96
EOS = tuple(range(60, 68))
SIZES: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
HEAD = {"head_dim": 8}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", HEAD),
    "gemma2": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**HEAD, "sliding_window": 64, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0},
    ),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**HEAD, "sliding_window": 64}),
    "granite": (
        "GraniteConfig",
        "GraniteForCausalLM",
        {"embedding_multiplier": 2.0, "residual_multiplier": 0.5, "logits_scaling": 3.0, "attention_multiplier": 0.2},
    ),
    "cohere": ("CohereConfig", "CohereForCausalLM", {"logit_scale": 0.25}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {}),
}
FAST = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "granite")


def model_of(family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A small model with random weights, the same every time."""
    config, model, sizes = FAMILIES[family]
    torch.manual_seed(7)
    made = getattr(transformers, model)(getattr(transformers, config)(**{**SIZES, **sizes, **changes})).to(dtype).eval()
    with torch.no_grad():  # norms start at one (or zero) and biases at zero: a test must see whether they are used
        for weight in made.parameters():
            if weight.dim() == 1:
                weight.add_(torch.randn_like(weight), alpha=0.2)
    return made


def policy_of(model: Any) -> Any:
    """What a sampler uses of a policy."""
    return SimpleNamespace(
        model=model,
        tokenizer=tiny_tokenizer(CONTEXT),
        device=torch.device("cpu"),
        dtype=model.dtype,
        eos_ids=EOS,
        context=CONTEXT,
    )


def truth(model: Any, prompt: tuple[int, ...], tokens: tuple[int, ...], temperature: float = 1.0) -> torch.Tensor:
    """The log-probs [n, v] that the model itself gives at the places of a completion's tokens."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + tokens[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :]
    logps: torch.Tensor = (logits.float() / temperature).log_softmax(-1)
    return logps


@contextmanager
def served(handle: Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]) -> Iterator[str]:
    """A server on loopback whose POST requests go to `handle`; gives its address up to /v1."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            handle(self, body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, body: bytes | dict[str, Any], status: int = 200, **headers: str) -> None:
    """Sends a whole answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def server_of(policy: Any) -> Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]:
    """Answers completions as vLLM does, by sampling from `policy` in this process."""
    lock = threading.Lock()

    def handle(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        sampling = Sampling(
            temperature=body["temperature"],
            top_p=body["top_p"],
            top_k=body.get("top_k", 0),
            max_tokens=body["max_tokens"],
            stop=tuple(body.get("stop", ())),
        )
        with lock, Local(engine="plain").open(policy) as sampler:
            ((done,),) = sampler.sample([Request(tuple(body["prompt"]), (body["seed"],))], sampling)
        choice = {
            "index": 0,
            "text": done.text,
            "finish_reason": "length" if done.finish == "length" else "stop",
            "token_ids": list(done.tokens),
            "logprobs": {"token_logprobs": list(done.logps)},
        }
        answer(handler, {"choices": [choice]})

    return handle
