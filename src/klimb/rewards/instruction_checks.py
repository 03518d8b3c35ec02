"""One function an instruction of IFEval (2311.07911), under its name there: does the text keep it?

They run in klimb's own process, so each takes time that grows no faster than the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from types import MappingProxyType

_PARAGRAPH = re.compile(r"\s?\*\*\*\s?")


def _compare(count: int, relation: str, wanted: int) -> bool:
    if relation not in ("at least", "less than"):
        raise ValueError(f"relation {relation!r} is neither 'at least' nor 'less than'")
    return count >= wanted if relation == "at least" else count < wanted


def _times(word: str, text: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


def _words(text: str, num_words: int, relation: str = "at least") -> bool:
    return _compare(len(re.findall(r"\w+", text)), relation, num_words)


def _sentences(text: str, num_sentences: int, relation: str = "at least") -> bool:
    return _compare(
        len([part for part in re.split(r"(?<![.!?])[.!?]+(?:\s|$)", text) if part.strip()]), relation, num_sentences
    )


def _paragraphs(text: str, num_paragraphs: int) -> bool:
    parts = _PARAGRAPH.split(text)
    inner = [part for at, part in enumerate(parts) if part.strip() or 0 < at < len(parts) - 1]
    return all(part.strip() for part in inner) and len(inner) == num_paragraphs


def _first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    parts = [part.strip() for part in re.split(r"\n\n", text) if part.strip()]
    if len(parts) != num_paragraphs or nth_paragraph > num_paragraphs:
        return False
    word = parts[nth_paragraph - 1].split()[0].strip("'\"")
    return re.split(r"[.,?!'\"]", word)[0].casefold() == first_word.casefold()


def _keywords(text: str, keywords: Sequence[str]) -> bool:
    return all(_times(word, text) for word in keywords)


def _forbidden(text: str, forbidden_words: Sequence[str]) -> bool:
    return not any(_times(word, text) for word in forbidden_words)


def _frequency(text: str, keyword: str, frequency: int, relation: str = "at least") -> bool:
    return _compare(_times(keyword, text), relation, frequency)


def _letters(text: str, letter: str, let_frequency: int, let_relation: str = "at least") -> bool:
    return _compare(text.casefold().count(letter.casefold()), let_relation, let_frequency)


def _capitals(text: str, capital_frequency: int, capital_relation: str = "at least") -> bool:
    return _compare(len([word for word in text.split() if word.isupper()]), capital_relation, capital_frequency)


def _bullets(text: str, num_bullets: int) -> bool:
    return len(re.findall(r"^[^\S\n]*(?:\*[^*\n]|-).*$", text, re.MULTILINE)) == num_bullets


def _highlights(text: str, num_highlights: int) -> bool:
    found = [*re.findall(r"\*[^\n*]*\*", text), *re.findall(r"\*\*[^\n*]*\*\*", text)]
    return len([one for one in found if one.strip("*").strip()]) >= num_highlights


def _title(line: str) -> bool:
    start, end = line.find("<<"), line.rfind(">>")
    return 0 <= start < end and bool(line[start:end].lstrip("<").rstrip(">").strip())


def _sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.split(rf"\s?{re.escape(section_spliter.strip())}\s?\d+\s?", text)) - 1 >= num_sections


def _json(text: str) -> bool:
    plain = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(plain)
    except (ValueError, RecursionError):
        return False
    return True


def _postscript(text: str, postscript_marker: str) -> bool:
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(postscript_marker, re.escape(postscript_marker))
    return re.search(rf"{pattern}.*$", text, re.IGNORECASE | re.MULTILINE) is not None


def _repeated(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().casefold().startswith(prompt_to_repeat.strip().casefold())


def _two(text: str) -> bool:
    parts = text.split("******")
    inner = [part.strip() for at, part in enumerate(parts) if part.strip() or 0 < at < len(parts) - 1]
    return len(inner) == 2 and all(inner) and inner[0] != inner[1]


def _ends(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').casefold().endswith(end_phrase.strip().casefold())


CHECKS: MappingProxyType[str, Callable[..., bool]] = MappingProxyType(
    {
        "change_case:capital_word_frequency": _capitals,
        "change_case:english_capital": lambda text: text.isupper(),
        "change_case:english_lowercase": lambda text: text.islower(),
        "combination:repeat_prompt": _repeated,
        "combination:two_responses": _two,
        "detectable_content:number_placeholders": lambda text, num_placeholders: (
            len(re.findall(r"\[[^\[\]]*\]", text)) >= num_placeholders
        ),
        "detectable_content:postscript": _postscript,
        "detectable_format:constrained_response": lambda text: any(
            answer in text for answer in ("My answer is yes.", "My answer is no.", "My answer is maybe.")
        ),
        "detectable_format:json_format": _json,
        "detectable_format:multiple_sections": _sections,
        "detectable_format:number_bullet_lists": _bullets,
        "detectable_format:number_highlighted_sections": _highlights,
        "detectable_format:title": lambda text: any(map(_title, text.split("\n"))),
        "keywords:existence": _keywords,
        "keywords:forbidden_words": _forbidden,
        "keywords:frequency": _frequency,
        "keywords:letter_frequency": _letters,
        "length_constraints:nth_paragraph_first_word": _first_word,
        "length_constraints:number_paragraphs": _paragraphs,
        "length_constraints:number_sentences": _sentences,
        "length_constraints:number_words": _words,
        "punctuation:no_comma": lambda text: "," not in text,
        "startend:end_checker": _ends,
        "startend:quotation": lambda text: len(text.strip()) > 1 and text.strip()[0] == text.strip()[-1] == '"',
    }
)
"""All of IFEval's but `language:response_language`, which the source `language` checks."""
