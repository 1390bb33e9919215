"""Agents that ask other agents: each answer is a turn, on any worker, while the agent that asks holds no slot.

python examples/delegation.py

The offline model calls the tools that a message spells out; a language model decides for itself, and gets the part
before it.
"""

import json

from sessions import Agent, EventType, Session

LIBRARIAN = Agent(name="Librarian", instructions="The oldest book about tea is the Classic of Tea, by Lu Yu.")
RESEARCHER = Agent(name="Researcher", instructions="You research topics, with the librarian's help.", tools=[LIBRARIAN])
CRITIC = Agent(name="Critic", instructions="A text about tea should name the oldest book.")


def spelled_out(tool: str, message: str) -> str:
    """A call of a tool, as the offline model understands it."""
    return f"CALL {tool}({json.dumps({'message': message})})"


def main() -> None:
    """Ask a writer, who asks a researcher, who asks a librarian; the writer also asks a critic."""
    session = Session()
    writer = session.Agent(
        name="Writer",
        instructions="You write short texts. Ask for facts, and for what makes a good text.",
        tools=[RESEARCHER, CRITIC.as_tool(name="ask_for_advice", description="What a good text has")],
    )
    turn = writer.submit(
        "Write about tea. "
        + spelled_out("ask_Researcher", "Facts, please. " + spelled_out("ask_Librarian", "The oldest book about tea?"))
        + spelled_out("ask_for_advice", "What should a text about tea name?")
    )
    for event in turn.events():
        if event.type is EventType.TASK_STARTED:
            print("asks", event.data["agent"])
        elif event.type is EventType.TOOL_RESULT:
            print(event.data["tool"], "said:", str(event.data["result"]).splitlines()[0])
    print(turn.result())
    usage = turn.record().usage
    print("requests of all agents:", usage.requests if usage else 0)


if __name__ == "__main__":
    main()
