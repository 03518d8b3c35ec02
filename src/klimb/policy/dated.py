"""A chat template that is told a day: what it writes of the date is the same whenever it is rendered."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from functools import lru_cache
from string import ascii_letters

SET = date(2024, 7, 26)
"""The day where none is known: the one that Llama's templates write where they cannot ask for another."""
ASKS = "strftime_now"
"""The function of transformers by which a template asks for the time."""
TOLD = """{%%- macro strftime_now(format) -%%}
{%%- set told = %s -%%}
{%%- for whole in format.split('%%%%') -%%}
{{- '' if loop.first else '%%' -}}
{%%- for part in whole.split('%%') -%%}
{%%- if loop.first -%%}{{- part -}}
{%%- elif part[:2] in told -%%}{{- told[part[:2]] ~ part[2:] -}}
{%%- elif part[:1] in told -%%}{{- told[part[:1]] ~ part[1:] -}}
{%%- else -%%}{{- '%%' ~ part -}}
{%%- endif -%%}
{%%- endfor -%%}
{%%- endfor -%%}
{%%- endmacro %%}
"""


@lru_cache(4)
def dated(template: str, day: date) -> str:
    """The template with a `strftime_now` of its own, which says midnight of that day; one that asks for no time as is.

    Transformers hands templates plain values only, so the function is written in the template's own language. Its last
    line break is one that transformers leaves out, so that the template begins as ever.
    """
    if ASKS not in template:
        return template
    now = datetime.combine(day, time())
    told = {flag + letter: now.strftime(f"%{flag}{letter}") for flag in ("", "-") for letter in ascii_letters}
    known = {directive: text for directive, text in told.items() if text != f"%{directive}"}
    return TOLD % json.dumps(known) + template
