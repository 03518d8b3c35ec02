"""Two hundred texts that a page must survive, and a view that is made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from klimb.lens.view import View
from klimb.lens.words import Words
from klimb.types import Completion, Finish, Group, Message, Prompt, Rollout

CALL = "window.hurt=(window.hurt||0)+1"
SEEDS = (
    f"<script>{CALL}</script>",
    f"</script><script>{CALL}</script>",
    f"</ScRiPt ><script >{CALL}//",
    f"<!--<script>{CALL}</script>-->",
    f"--></script><script>{CALL}</script>",
    f"<img src=x onerror='{CALL}'>",
    f"<svg/onload={CALL}>",
    f"<svg><script>{CALL}</script></svg>",
    f"<body onload={CALL}>",
    f"<iframe srcdoc='<script>parent.{CALL}</script>'></iframe>",
    f"<iframe src='javascript:parent.{CALL}'></iframe>",
    f"<a href='javascript:{CALL}' autofocus onfocus='{CALL}'>x</a>",
    f"<input autofocus onfocus={CALL}>",
    f"<details open ontoggle={CALL}>",
    f"<video><source onerror={CALL}></video>",
    f"<math><mtext></mtext><mglyph><style></math><img src onerror={CALL}>",
    f"<style>@import 'http://127.0.0.1:9/x'; * {{background:url(javascript:{CALL})}}</style>",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<base href=http://127.0.0.1:9/>",
    "<form action=http://127.0.0.1:9/><input type=submit>",
    "<object data=http://127.0.0.1:9/x></object><embed src=http://127.0.0.1:9/x>",
    f"\"'`;{CALL};//",
    f"${{{CALL}}}",
    f"{{{{constructor.constructor('{CALL}')()}}}}",
    f"{{% raw %}}{{{{ 7*7 }}}}{{% endraw %}}{CALL}",
    f"]]>{CALL}<![CDATA[",
    f"\\u003cscript\\u003e{CALL}\\u003c/script\\u003e",
    f"&lt;script&gt;{CALL}&lt;/script&gt;",
    "\u202egnp.exe\u202c\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
    "in\u200bvis\u200cib\u200dle\u2060\ufeff\u00ad",
    "\x00\x01\x07\x08\x1b[31m\x7f\x80\x9b",
    "\ud800 half \udfff pairs \ud83d",
    "e" + "\u0301" * 300,
    "\u0301\u0302\u0303 marks first",
    "\u2028line\u2029paragraph\x0b\x0c\x85",
    "\U000e0041\U000e0042\ue000\ufff9\uffff",
    "__proto__",
    "$\\frac{1}{0}$ $$ \\input{x}",
    "\n" * 50 + "\t\r" * 50,
)
MILLION = "A<b>" * 262_144


def texts() -> list[str]:
    """Two hundred of them; the last is a token of a megabyte."""
    wrapped = [*SEEDS]
    for before, after in (('">', ""), ("'>", "<!--"), ("\u202e", "\u202c"), ("</pre></div>", "\x00")):
        wrapped += [before + seed + after for seed in SEEDS]
    return [*wrapped[:199], MILLION]


class Told(Words):
    """Words from a list."""

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__(None)
        self.known = known

    def __call__(self, token: int) -> str:
        return self.known[token]


def view(known: Sequence[str], name: str = "a view") -> View:
    """Each text in every place: as tokens, alternatives, prompt, answer, whole completion, name, and missing."""
    groups = [
        Group(
            Prompt(str(place), messages=(Message("user", text),), answer=text, tokens=(0,)),
            (Rollout(Completion((place, place), (-1.0, -2.0), text, Finish.EOS, (0.5, 1.5)), 0, 0, {}, 1.0),),
        )
        for place, text in enumerate(known)
    ]
    tokens = np.repeat(np.arange(len(known)), 2)
    some = np.linspace(0.001, 3.0, tokens.size).astype(np.float32)
    values = {"entropy": some, "logp": -some, "ratio": some + 0.5, "advantage": some - 1, "kept": (some > 1) * some}
    return View(
        name=name,
        policy=known[0],
        groups=groups,
        tokens=tokens,
        row=tokens,
        values=values,
        words=Told(known),
        likeliest=np.stack([(tokens + step) % len(known) for step in range(5)], 1),
        probability=np.full((tokens.size, 5), 0.2, np.float32),
        live=[True] * len(known),
        missing=list(known[:60]),
    )


def lengthened(short: View, length: int) -> View:
    """One completion of so many tokens, in place of the view's own."""
    tokens = np.arange(length) % 2
    done = Completion(tuple(tokens.tolist()), (), "", Finish.LENGTH)
    group = Group(Prompt("long", text="go on", tokens=(0,)), (Rollout(done, 0, 0, {}, 0.0),))
    some = np.linspace(0.0, 4.0, length).astype(np.float32)
    values = {"entropy": some, "logp": -some}
    likeliest, chance = np.zeros((length, 5), np.int64), np.full((length, 5), 0.2, np.float32)
    flat = np.zeros(length, np.int64)
    return View(short.name, "", [group], tokens, flat, values, short.words, likeliest, chance)
