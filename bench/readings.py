"""Two readings of a text."""

import re


def words(completion: str) -> int:
    """How many words it has."""
    return len(completion.split())


def flesch(completion: str) -> float | None:
    """Flesch's reading ease; a syllable is a run of vowels, a silent e at the end aside."""
    found = re.findall(r"[a-z']+", completion.lower())
    if not found:
        return None
    sentences = max(1, len(re.findall(r"[.!?]+", completion)))
    syllables = sum(max(1, len(re.findall(r"[aeiouy]+", word.removesuffix("e")))) for word in found)
    return 206.835 - 1.015 * len(found) / sentences - 84.6 * syllables / len(found)
