"""A team: agents that work on tasks together, on as many workers as there are.

python examples/team.py            # runs three teams
python examples/team.py RUN        # the result of a run that another process submitted
"""

import sys

from sessions import Agent, AgentTeam, EventType, Session, Task, TeamRun
from sessions.errors import StateNotFoundError


def one_after_the_other() -> None:
    """The agents of one session: what each of them says is part of its transcript."""
    session = Session(session_id="personal_assistant", user_id="john_doe")
    try:
        session.restore_state()
        print("Restored previous session")
    except StateNotFoundError:
        print("Starting new session")
    assistant = session.Agent(name="Personal Assistant", instructions="You help John with his day.")
    writer = session.Agent(name="Writer", instructions="You write short texts.")
    print(assistant.chat("Schedule a meeting for tomorrow"))

    plan = Task(description="Plan the meeting", expected_output="three points", agent=assistant, name="plan")
    invitation = Task(description="Write the invitation", agent=writer, context=[plan])
    print(AgentTeam(agents=[assistant, writer], tasks=[plan, invitation], process="sequential").start())
    print("said so far:", session.get_context()["message_count"])
    session.save_state()


def at_the_same_time() -> str:
    """Tasks that do not depend on each other run on different workers; progress comes as events."""
    analyst = Agent(name="Analyst", instructions="You look at one city at a time.")
    cities = [Task(f"What is {city} known for?", agent=analyst, name=city) for city in ("Oslo", "Lima", "Kyoto")]
    summary = Task("Compare the cities", agent=analyst, context=cities, name="summary")
    run = AgentTeam(agents=[analyst], tasks=[*cities, summary], process="parallel").submit()
    for event in run.events():
        if event.type in (EventType.TASK_STARTED, EventType.TASK_ENDED):
            print(event.type, event.data["name"], event.data.get("status", ""))
    result = run.result()
    print("all of them:", result.ok, "| requests:", result.usage.requests)
    return run.id


def as_the_manager_says() -> None:
    """Tasks without an agent: a manager model assigns them to the agents that fit."""
    agents = [
        Agent(name="Writer", instructions="You write articles."),
        Agent(name="Researcher", instructions="You research topics."),
    ]
    tasks = [
        Task("Research the history of tea", name="facts"),
        Task("Write an article", name="text", context=["facts"]),
    ]
    for task in AgentTeam(agents, tasks, process="hierarchical").start().tasks:
        print(f"{task.name} was done by the {task.agent}")


def main(run_id: str | None = None) -> None:
    """Run the teams, or read a run's result."""
    if run_id is not None:
        print(TeamRun.attach(run_id).result(timeout=60))
        return
    one_after_the_other()
    print("run", at_the_same_time())
    as_the_manager_says()


if __name__ == "__main__":
    main(*sys.argv[1:])
