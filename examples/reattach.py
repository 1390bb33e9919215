"""Submit in one process, follow in another: a turn is known by its id, and its events by their cursors.

python examples/reattach.py submit "Tell me a story"   # prints the turn's id, and exits at once
python examples/reattach.py follow TURN [CURSOR]       # its events as they come, each with its cursor
python examples/reattach.py result TURN                # waits for the answer
"""

import sys

from sessions import Session


def submit(message: str) -> None:
    """Submit a message. From here on the turn ends in exactly one status, whatever happens to this process."""
    turn = Session().Agent("Assistant").submit(message, stream=True)
    print(turn.id)


def follow(turn_id: str, cursor: str | None = None) -> None:
    """Print the events after a cursor; without one, all of them."""
    for event in session_of(turn_id).turn(turn_id).events(after=cursor):
        print(event.id, event.type, event.data)


def result(turn_id: str) -> None:
    """Wait for the answer."""
    print(session_of(turn_id).turn(turn_id).result(timeout=60))


def session_of(turn_id: str) -> Session:
    """A turn's id contains its session's. A web backend takes the session from its own records instead."""
    return Session(turn_id.rpartition("~")[0])


def main(command: str, *arguments: str) -> None:
    """Run one of the three commands."""
    match command:
        case "submit":
            submit(*arguments)
        case "follow":
            follow(*arguments)
        case "result":
            result(*arguments)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
