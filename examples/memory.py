"""What a customer said once is known to every agent that talks to them later, in any session and any process.

python examples/memory.py tell      # a first ticket: facts are remembered
python examples/memory.py ask       # another ticket, another process
python examples/memory.py forget    # delete everything
"""

import sys

from sessions import EventType, Session

CUSTOMER = "customer-7"


def tell() -> None:
    """Memories of a session with a user belong to the user; one can be kept to the session."""
    ticket = Session(session_id="support_1001", user_id=CUSTOMER, memory=True)
    ticket.add_memory("Prefers technical explanations", metadata={"topic": "style"})
    ticket.add_memory("Owns a coffee machine of the type Aroma 3", metadata={"topic": "product"})
    ticket.add_memory("The courier comes on Friday", memory_type="short", scope="session")

    # Agents with memory have a tool for it. A real model calls it when it learns something lasting.
    agent = ticket.Agent(name="Support", instructions="You help customers.")
    print(agent.chat('CALL remember({"fact": "The kitchen has hard water"})'))


def ask() -> None:
    """Relevant memories are in the prompt; the user's memories are available in the new session."""
    ticket = Session(session_id="support_1002", user_id=CUSTOMER, memory=True)
    for memory in ticket.search_memory("which device does the customer have?", limit=2):
        print(f"{memory['score']:.2f} {memory['text']} {memory['metadata']}")
    print(
        "about style:",
        [memory["text"] for memory in ticket.search_memory("how to explain", filters={"topic": "style"})],
    )

    turn = ticket.Agent(name="Support", instructions="You help customers.").submit("How hard is the water?")
    print(turn.result(timeout=60))
    for event in turn.events():
        if event.type is EventType.RETRIEVED:
            print("memories in the prompt:", event.data["memories"])
    print("of the other ticket:", ticket.search_memory("courier", scope="session"))


def forget() -> None:
    """Deleting a session deletes the session's memories; the user's are deleted explicitly."""
    for session_id in ("support_1001", "support_1002"):
        Session(session_id=session_id, user_id=CUSTOMER).delete()
    left = Session(user_id=CUSTOMER)
    print("forgotten:", left.clear_memory())


if __name__ == "__main__":
    {"tell": tell, "ask": ask, "forget": forget}[sys.argv[1] if len(sys.argv) > 1 else "tell"]()
