"""Measures which cosines a model gives to texts that have nothing in common, and to questions and their answers.

Some models give 0.0 to the former, others 0.8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Final

from workers.retrieval.ports import Vector

_PAIRS: Final = (
    ("When does the train to Lisbon leave?", "The express to Lisbon leaves at nine in the morning."),
    ("How long do eggs have to boil?", "Boil the eggs for seven minutes, then rinse them with cold water."),
    ("Who pays for repairs of the roof?", "The owner of the house bears the cost of mending the roof."),
    ("Which medicine lowers a fever?", "Paracetamol reduces a high temperature within an hour."),
    ("What does the sensor measure?", "The probe reports the pressure in the pipe once a second."),
    ("Where did the composer grow up?", "She spent her childhood in a village near Salzburg."),
)
_MARGIN: Final = 1.2  # the best answers are closer than these are on average


def measured_scale(embed: Callable[[Sequence[str]], Sequence[Vector]]) -> tuple[float, float]:
    """The cosines of `CosineScale`: `unrelated` and `same`."""
    questions = embed([question for question, _ in _PAIRS])
    answers = embed([answer for _, answer in _PAIRS])
    cosines = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in answers] for one in questions]
    own = fmean(row[number] for number, row in enumerate(cosines))
    others = fmean(value for number, row in enumerate(cosines) for at, value in enumerate(row) if at != number)
    return others, max(others + 0.05, others + _MARGIN * (own - others))
