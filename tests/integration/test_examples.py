"""The examples, and the code in the documentation, as a reader runs them: each script in a separate process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import preloaded
from tests.support.fleet import ROOT, Fleet, running_fleet
from tests.support.gateway import GatewayProcess, running_gateway
from tests.support.openai_server import OpenAIServer
from tests.support.servers import Server, running

EXAMPLES = ROOT / "examples"
_BLOCK = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.M | re.S)


_GUIDES = ("adapters", "tools", "sessions", "teams", "retrieval", "remote", "files", "openai")
_PAGES = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in _GUIDES))
_GATEWAY = "http://127.0.0.1:8000"
_IMPORTED = ("_tools.py", "_agents.py")


def page_files() -> dict[str, str]:
    """The Python files on the pages by name: each block says its own on its first line."""
    return {name: text for page in _PAGES for name, text in _BLOCK.findall(page.read_text())}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of the fleet."""
    with running(Server(tmp_path_factory.mktemp("store"))) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(store: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The gateway of the fleet; on the pages it is at 127.0.0.1:8000."""
    with running_gateway(store, tmp_path_factory.mktemp("gateway"), SESSIONFLEET_GATEWAY_AUTH="off") as started:
        yield started


@pytest.fixture(scope="module")
def shop(store: Server, gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two workers with the offline model and the tools of the examples and of the pages."""
    folder = tmp_path_factory.mktemp("pages")
    for name, text in page_files().items():
        (folder / name).write_text(text.replace(_GATEWAY, gateway.url))
    modules = [name.removesuffix(".py") for name in page_files() if name.endswith(_IMPORTED)]
    environment = {
        "SESSIONFLEET_MODEL": "offline",
        "SESSIONFLEET_IMPORTS": ",".join(["shop_tools", *modules]),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, EXAMPLES / "tools_example", folder))),
    }
    with running_fleet(folder, store, environment, workers=("shop1", "shop2")) as fleet:
        yield fleet


def run(fleet: Fleet, script: Path, *arguments: str, **environment: str) -> str:
    """What a script says; it must end well."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONFLEET_")}
    done = preloaded.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        env={**kept, "REDIS_URL": fleet.server.url, "PYTHONPATH": fleet.env["PYTHONPATH"], **environment},
        cwd=script.parent,
        timeout=60,
    )
    assert done.returncode == 0, f"{script.name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_second_process_knows_what_the_first_was_told(shop: Fleet) -> None:
    """Run `examples/first_chat.py` twice."""
    run(shop, EXAMPLES / "first_chat.py", "My name is Alice")
    assert "Alice" in run(shop, EXAMPLES / "first_chat.py", "What is my name?")


def test_a_turn_is_followed_from_other_processes(shop: Fleet) -> None:
    """`examples/reattach.py`: submitted in one process, followed in a second, resumed after a cursor in a third."""
    script = EXAMPLES / "reattach.py"
    turn = run(shop, script, "submit", "The sea is blue").strip()
    assert "The sea is blue" in run(shop, script, "result", turn)
    lines = run(shop, script, "follow", turn).splitlines()
    assert "started" in lines[0]
    assert "ended" in lines[-1]
    cursor = lines[1].partition(" ")[0]
    assert run(shop, script, "follow", turn, cursor).splitlines() == lines[2:]


def test_tools_run_on_the_workers(shop: Fleet) -> None:
    """Run `examples/tools_example`."""
    said = run(shop, EXAMPLES / "tools_example" / "ask.py")
    assert "4 euros" in said
    assert re.search(r"charged 4 euros, reference shop-42~\w{32}:call_", said)


def test_an_answer_can_be_an_object(shop: Fleet) -> None:
    """Run `examples/typed_answer.py`."""
    assert run(shop, EXAMPLES / "typed_answer.py").startswith("Order article=")


def test_what_a_customer_said_is_known_in_the_next_session(shop: Fleet) -> None:
    """Run `examples/memory.py` in three processes."""
    script = EXAMPLES / "memory.py"
    assert "Remembered." in run(shop, script, "tell")
    said = run(shop, script, "ask")
    assert re.search(r"^\d\.\d\d Owns a coffee machine", said, re.M)
    assert "about style: ['Prefers technical explanations']" in said
    assert "The kitchen has hard water" in said
    assert "memories in the prompt: 0" not in said
    assert "of the other ticket: []" in said
    assert "forgotten: 3" in run(shop, script, "forget")
    assert "The kitchen has hard water" not in run(shop, script, "ask")
    run(shop, script, "forget")


def test_documents_are_searched_by_sessions_that_share_a_base(shop: Fleet) -> None:
    """`examples/knowledge.py`, twice: a document that exists is not added again."""
    script = EXAMPLES / "knowledge.py"
    said = run(shop, script)
    assert "handbook.md: added" in said
    assert "  embedding 2/2\ncourses.pdf: added, 2 chunks" in said
    assert "[courses.pdf, page 2]" in said
    assert "three sheets of plywood" in said
    outside = said.partition("another project finds: ")[2]
    assert "handbook.md" in outside
    assert "text-" not in outside, "a project's own findings are its own"
    again = run(shop, script, str(EXAMPLES / "documents" / "handbook.md"), "no_such.pdf")
    assert "handbook.md: unchanged" in again
    assert "left out: there is no file" in again


def test_an_assistant_goes_on_where_it_was(shop: Fleet) -> None:
    """`examples/personal_assistant.py`, twice: state, memory, documents and conversation are those of the first."""
    script = EXAMPLES / "personal_assistant.py"
    first = run(shop, script)
    assert first.startswith("Starting new session\ncalendar: added\n")
    assert "John prefers morning meetings" in first
    assert "dentist, Mill Street 4" in first
    assert "checkpoint 1 with 4 messages" in first
    again = run(shop, script)
    assert again.startswith("Restored previous session\ncalendar: unchanged\n")
    assert "checkpoint 2 with 8 messages" in again


def test_a_session_behind_a_server(shop: Fleet, gateway: GatewayProcess) -> None:
    """`examples/remote_session.py`, with the gateway; and its error where there is no server."""
    script = EXAMPLES / "remote_session.py"
    said = run(shop, script, f"{gateway.url}/agent")
    assert "Alice" in said
    assert "remembered: Alice prefers window seats" in said
    assert "messages: 6 state: {'step': 1}" in said


def test_openais_client_on_a_fleet(shop: Fleet, gateway: GatewayProcess) -> None:
    """`examples/openai_client.py`: the server keeps the conversation, and the tool is the program's own."""
    said = run(shop, EXAMPLES / "openai_client.py", f"{gateway.url}/v1", "none")
    assert "models: assistant" in said
    assert "Alice" in said


@pytest.mark.parametrize(
    "name", [name for name in page_files() if not name.endswith(_IMPORTED) and "with_" not in name]
)
def test_the_code_of_the_pages_runs(shop: Fleet, name: str) -> None:
    """Every Python block of README.md and of the guides in docs/, in the file that its first line names."""
    run(shop, shop.folder / name)


def test_every_block_of_python_has_a_name() -> None:
    """The tests would not run a block without a name."""
    for page in _PAGES:
        text = page.read_text()
        assert text.count("```python\n") == len(_BLOCK.findall(text)), page.name


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_holds_what_it_promises() -> None:
    """`make demo`: two workers killed, both turns finished, nothing charged or asked twice, nothing left running."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all of it held" in done.stdout
    assert "everything stopped\n" in done.stdout


@pytest.mark.parametrize(
    ("script", "needs"),
    [("with_pydantic_ai", "pydantic_ai"), ("with_openai_sdk", "agents"), ("with_adk", "google.adk")],
)
def test_agents_of_other_libraries(shop: Fleet, script: str, needs: str) -> None:
    """The scripts of `docs/adapters.md`, with a server that answers as their providers do."""
    pytest.importorskip(needs)
    with OpenAIServer() as provider:
        said = run(
            shop,
            shop.folder / f"{script}.py",
            OPENAI_API_KEY="x",
            OPENAI_BASE_URL=provider.url,
            GOOGLE_API_KEY="x",
            GOOGLE_GEMINI_BASE_URL=provider.url.removesuffix("/v1"),
        )
        provider.shutdown()
    assert said.splitlines() == ["you said My name is Ada", "['My name is Ada', 'you said My name is Ada']"]
