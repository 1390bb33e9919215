"""Small talk: nothing is looked up for it."""

from __future__ import annotations

import pytest

from workers.retrieval_role.small_talk import is_small_talk


@pytest.mark.parametrize(
    "message",
    [
        "thanks!",
        "Thank you so much :)",
        "ok",
        "How are you?",
        "hi, what\u2019s up?",
        "good morning",
        "👍",
        "2+2?",
        "",
        "Danke schön!",
        "wie geht es dir?",
        "¡Muchas gracias!",
        "merci beaucoup",
        "谢谢!",
        "你好",
        "شكرا جزيلا",
        "спасибо большое",
        "ありがとうございます。",
        "ขอบคุณ",
        "नमस्ते",
    ],
)
def test_thanks_and_greetings_are_small_talk(message: str) -> None:
    """In any of the common languages, with any punctuation."""
    assert is_small_talk(message)


@pytest.mark.parametrize(
    "message",
    [
        "What is it for?",
        "holiday",
        "Is this all?",
        "E-104",
        "0x1F4",
        "What is the notice period?",
        "Thanks! And who repairs the roof?",
        "Wie ist die Kündigungsfrist?",
        "你好, 请问合同期限是多久?",
        "药",
        "ok ok ok ok ok ok ok ok ok, and yes",
    ],
)
def test_a_question_is_none(message: str) -> None:
    """Not even behind thanks, or as a single word."""
    assert not is_small_talk(message)
