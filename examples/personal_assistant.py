"""An assistant with memory, documents and a conversation that continues: run it twice.

python examples/personal_assistant.py
"""

from pathlib import Path

from sessions import Session
from sessions.errors import StateNotFoundError

CALENDAR = Path(__file__).parent / "documents" / "calendar.pdf"

session = Session(
    session_id="assistant_of_john",
    user_id="john_doe",
    memory={"provider": "rag", "use_embedding": True},
    knowledge={"vector_store": {"provider": "qdrant", "config": {"collection_name": "personal_docs"}}},
)
try:
    session.restore_state()
    print("Restored previous session")
except StateNotFoundError:
    print("Starting new session")

assistant = session.Agent(
    name="Personal Assistant",
    instructions="You are a personal assistant. Use what you remember, and the documents you are given.",
    memory=True,
    knowledge=True,
)

print("calendar:", session.add_knowledge(CALENDAR)["status"])
if not session.list_memory():
    session.add_memory("John prefers morning meetings")

print(assistant.chat("Schedule a meeting for tomorrow: when does John prefer meetings?"))
print(assistant.chat("Is the dentist on Thursday?"))
print("checkpoint", session.save_state(), "with", session.get_context()["message_count"], "messages")
