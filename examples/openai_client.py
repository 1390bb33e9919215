"""OpenAI's own client on a fleet: a conversation that the server keeps, and a tool that this program has.

sessionfleet up                                            in one terminal: a fleet with its gateway
python openai_client.py                                    in another one (pip install openai)
python openai_client.py https://host/v1 KEY                with an API key
"""

from __future__ import annotations

import sys
import uuid
from typing import Any

from openai import OpenAI

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What the weather is like in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def main() -> None:
    url, key = (sys.argv[1:] + ["http://127.0.0.1:8000/v1", "none"][len(sys.argv) - 1 :])[:2]
    client = OpenAI(base_url=url, api_key=key)
    print("models:", ", ".join(model.id for model in client.models.list()))
    session = {"X-Session-Id": f"openai-{uuid.uuid4().hex[:8]}"}
    for message in ("My name is Alice", "What is my name?"):  # what was said before is not sent again
        said = client.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": message}], extra_headers=session
        )
        print(said.choices[0].message.content)
    print(with_a_tool(client, session))


def with_a_tool(client: OpenAI, session: dict[str, str]) -> str | None:
    """Answer the model's calls until it has an answer. In between, the turn waits; this program may be restarted."""
    messages: list[Any] = [{"role": "user", "content": "What is the weather like in Rome?"}]
    while True:
        message = (
            client.chat.completions.create(model="assistant", messages=messages, tools=[WEATHER], extra_headers=session)
            .choices[0]
            .message
        )
        if not message.tool_calls:
            return message.content
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            print("called:", call.model_dump()["function"])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "Sunny, 24 degrees."})


if __name__ == "__main__":
    main()
