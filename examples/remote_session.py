"""A session behind a server: with all features if that is a Sessionfleet gateway, otherwise with messages only.

sessionfleet up                                            in one terminal: a fleet with its gateway
python remote_session.py                                   in another one
python remote_session.py https://any:KEY@host/agent        with an API key
"""

from __future__ import annotations

import sys
import uuid

from sessions import Session
from sessions.errors import RemoteError, RemoteTimeout, RemoteUnsupported


def ask(session: Session, message: str) -> str:
    """Ask the agent at the URL. Network failures are ConnectionErrors, and each kind has its own class."""
    try:
        return str(session.chat(message, timeout=20))
    except RemoteTimeout as error:
        if error.turn_id is None:  # a server without turns: it is unknown whether the message was processed
            raise
        print("it takes longer; the turn continues:", error.turn_id)
        return str(session.turn(error.turn_id).result())


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/agent"
    session = Session(f"remote-{uuid.uuid4().hex[:8]}", user_id="alice", agent_url=url)
    try:
        print(ask(session, "My name is Alice"))
        print(ask(session, "What is my name?"))
        more_than_messages(session)
    except RemoteUnsupported as error:
        print(error)
    except RemoteError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def more_than_messages(session: Session) -> None:
    """The same code works for a session of this process's own fleet."""
    session.set_state("step", 1)
    memory = session.add_memory("Alice prefers window seats")
    print("remembered:", session.search_memory("seat preferences")[0]["text"])
    turn = session.Agent("Assistant", memory=True).submit("Which seats do I prefer?", stream=True)
    print("streamed:", "".join(event.text for event in turn.events()))
    print("messages:", session.get_context()["message_count"], "state:", session.get_state())
    session.delete_memory(memory)


if __name__ == "__main__":
    main()
