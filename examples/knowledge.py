"""Documents that agents search: those of one session, and a knowledge base that many sessions share.

python examples/knowledge.py [FILE ...]
"""

import sys
from pathlib import Path

from sessions import EventType, Progress, Session
from sessions.errors import DocumentError

DOCUMENTS = Path(__file__).parent / "documents"


def show(progress: Progress) -> None:
    """Pages while a document is read, then chunks while they are embedded."""
    print(f"  {progress.stage} {progress.done}/{progress.total or '?'}")


def fill(files: list[Path]) -> None:
    """Run by whoever maintains the base; adding the same content again changes nothing."""
    editor = Session(session_id="workshop_editor", knowledge="workshop")
    for file in files:
        try:
            receipt = editor.add_knowledge(file, progress=show)
        except (DocumentError, FileNotFoundError) as error:
            print("left out:", error)
            continue
        print(f"{receipt['source']}: {receipt['status']}, {receipt['chunks']} chunks")
    print("in the base:", [document["source"] for document in editor.list_knowledge()])


def work_together() -> None:
    """Two people in one session: it searches the base, and what they add belongs to their project only."""
    project = Session(session_id="project_boat", knowledge=["workshop"])
    project.add_knowledge(
        "Important finding: the hull needs three sheets of plywood of four millimetres", scope="session"
    )

    for passage in project.search_knowledge("How do I learn to cut with the laser?", limit=2):
        where = passage["heading"] or f"page {passage['page']}"
        print(f"{passage['score']:.3f} [{passage['source']}, {where}] {passage['text'].splitlines()[-1][:60]!r}")

    agent = project.Agent(name="Planner", instructions="You plan what to build, and name your sources.")
    turn = agent.submit("How many sheets of plywood does the hull need?")
    print(turn.result(timeout=60))
    for event in turn.events():
        if event.type is EventType.RETRIEVED:
            print("passages in the prompt:", event.data["chunks"])

    outside = Session(session_id="project_chair", knowledge="workshop")
    found = outside.search_knowledge("How is the laser cutter booked?")
    print("another project finds:", {passage["source"] for passage in found})


if __name__ == "__main__":
    fill([Path(name) for name in sys.argv[1:]] or [DOCUMENTS / "handbook.md", DOCUMENTS / "courses.pdf"])
    work_together()
