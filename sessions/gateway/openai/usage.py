"""What a turn used, as OpenAI's clients read it."""

from __future__ import annotations

from typing import Any

from sessions.protocol.turn import Usage


def chat_usage(usage: Usage | None) -> dict[str, Any]:
    """The usage of a chat completion; zeros while the turn has not ended."""
    used = usage or Usage()
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cache_read_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def response_usage(usage: Usage | None) -> dict[str, Any]:
    """The usage of a response."""
    used = usage or Usage()
    cached = {"cached_tokens": used.cache_read_tokens, "cache_write_tokens": used.cache_write_tokens}
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": cached,
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.input_tokens + used.output_tokens,
    }
