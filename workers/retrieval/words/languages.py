"""Which language a text is in, as far as its endings and function words matter, and its words by script."""

from __future__ import annotations

import re
from typing import Final

ENGLISH: Final = "english"
UNSPACED: Final = "unspaced"

# Frequent words of the languages that Latin letters write and the engine can stem, and that few others have. They tell
# the language; which words are not indexed is the engine's own, longer list.
_FUNCTION_WORDS: Final = {
    ENGLISH: "the and of to is was for that with it are by from this which how what who when where does did not you",
    "german": "der die das und ist nicht ein eine einer einem einen dem den des mit von zu auf für im wie wer wo "
    "welche welcher wann warum sich auch werden wurde ich wir nach bei",
    "french": "le la les des et est une du dans que qui pour pas sur avec au aux par quel quelle quels quelles comment "
    "où quand pourquoi ce cette sont été je nous",
    "spanish": "el la los las del y es un una en que por para con no se su cómo qué quién cuál cuáles dónde cuándo "
    "cuánto cuántos fue como más son al",
    "italian": "il lo gli della del dei delle di e è un una che per con non come chi quale quali dove quando perché "
    "nel nella sono stato quanti più",
    "portuguese": "o os as do da dos das e é um uma em que por para com não se como quem qual quais onde quando no na "
    "foi são mais ao",
    "dutch": "de het een en van is dat niet op te voor met zijn aan door wie wat waar hoe welke "
    "wanneer ik wordt werd ook",
    "swedish": "och att det som en ett är inte på av för med den till var hur vad vem när vilken vilka jag från har",
    "danish": "og at det som en et er ikke på af for med den til var hvor hvad hvem hvornår hvilken hvilke jeg fra har",
    "norwegian": "og at det som en et er ikke på av for med den til var hvor hva hvem når hvilken hvilke jeg fra har",
    "finnish": "ja on ei että se oli joka mikä mitä missä kuka milloin kuinka miten ovat kun niin mutta myös minä hän",
    "hungarian": "a az és nem hogy egy van volt mi ki hol mikor hogyan melyik mint is meg ez azt vagy",
    "romanian": "și în este nu un o de la cu pe care ce cine unde când cum câte a fost sunt din pentru mai al",
    "turkish": "ve bir bu ne kim nerede için ile olarak hangi kaç değil daha çok olan mi de da zaman",
}
_WORD: Final = re.compile(r"[^\W\d_]+")
_ENOUGH: Final = 0.9  # of evidence: one word that no other language has, or several that some share
_MARGIN: Final = 1.2

_SCRIPTS: Final = {
    "arabic": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff",
    "russian": "\u0400-\u052f",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    # Chinese, Japanese, Thai, Lao, Burmese and Khmer put no spaces between words.
    UNSPACED: "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff",
}
_RUNS: Final = re.compile("|".join(f"(?P<{name}>[{letters}]+)" for name, letters in _SCRIPTS.items()))


def _evidence() -> dict[str, dict[str, float]]:
    """For each function word, the languages that have it, and how much it tells: less if several have it."""
    having: dict[str, list[str]] = {}
    for language, words in _FUNCTION_WORDS.items():
        for word in set(words.split()):
            having.setdefault(word, []).append(language)
    return {word: dict.fromkeys(languages, 1 / len(languages)) for word, languages in having.items()}


_EVIDENCE: Final = _evidence()
LATIN: Final = tuple(_FUNCTION_WORDS)


def language_of(text: str) -> str | None:
    """The language of a text's words in Latin letters; None if it has too few function words to tell."""
    found = dict.fromkeys(LATIN, 0.0)
    for word in _WORD.findall(text.lower()):
        for language, weight in _EVIDENCE.get(word, {}).items():
            found[language] += weight
    second, first = sorted(found, key=found.__getitem__)[-2:]
    return first if found[first] >= _ENOUGH and found[first] > _MARGIN * found[second] else None


def by_script(text: str) -> dict[str, str]:
    """The text divided by scripts: the language that stands for a script, `unspaced`, or '' for all other words."""
    parts: dict[str, list[str]] = {}
    rest = []
    end = 0
    for run in _RUNS.finditer(text):
        rest.append(text[end : run.start()])
        parts.setdefault(str(run.lastgroup), []).append(run.group())
        end = run.end()
    rest.append(text[end:])
    return {"": " ".join(rest), **{name: " ".join(runs) for name, runs in parts.items()}}
