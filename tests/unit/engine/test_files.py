"""Files in messages and tools' results: references everywhere but in the request, and the same on every replay."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from pydantic_ai.exceptions import ModelContextWindowExceededError, ModelHTTPError
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.profiles import ModelProfile

from sessions.errors import UnsupportedMedia
from sessions.protocol.event import EventType
from sessions.protocol.message import MediaPart, kind_of
from sessions.protocol.message import TextPart as Text
from sessions.tools.decorator import ToolContext, tool
from workers.engine import TurnInput
from workers.engine.attachments import part_of, reference, takes
from workers.engine.context_window import shortened
from workers.engine.failures import classify
from workers.engine.salvage import completed_steps

from .doubles import Crash, Rig, call

PHOTO = b"a photograph"


class Memory:
    """The files of a session, and what was fetched."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.reads = 0

    def add(self, data: bytes, name: str = "photo.png", media_type: str = "image/png") -> MediaPart:
        file_id = sha256(data).hexdigest()
        self.content[file_id] = data
        kind = kind_of(media_type)
        return MediaPart(type=kind, file_id=file_id, name=name, media_type=media_type, size=len(data))

    async def read(self, file_id: str) -> bytes | None:
        self.reads += 1
        return self.content.get(file_id)

    async def fetch(self, part: MediaPart) -> MediaPart:
        self.fetched.append(part.url)
        return self.add(f"version {len(self.fetched)} of {part.url}".encode(), "fetched.png")

    async def stored(self, value: object) -> MediaPart | None:
        return self.add(value.data, "drawn.png") if isinstance(value, BinaryContent) else None


@pytest.fixture
def files(rig: Rig) -> Memory:
    found = Memory()
    rig.state.files = found
    return found


def asking(rig: Rig, *parts: Text | MediaPart, message: str = "what?", **options: object) -> TurnInput:
    return replace(rig.turn(message, **options), parts=(Text(text=message), *parts))  # type: ignore[arg-type]


def binaries(messages: list[ModelMessage]) -> list[bytes | str]:
    """The bytes of the files in a request, and the notes."""
    found: list[bytes | str] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, UserPromptPart | ToolReturnPart):
                items = part.content if isinstance(part.content, list | tuple) else [part.content]
                found += [i.data for i in items if isinstance(i, BinaryContent)]
                found += [i for i in items if isinstance(i, str) and i.startswith("[")]
    return found


async def test_the_model_gets_bytes_and_everything_else_a_reference(rig: Rig, files: Memory) -> None:
    """Neither journal nor history nor events contain the bytes, in whatever encoding."""
    rig.script([TextPart("a heron")])
    output = await rig.run(asking(rig, files.add(PHOTO)))
    assert binaries(rig.seen[0]) == [PHOTO]
    written = b"".join([output.messages, *rig.store.values(), *(str(e.data).encode() for e in rig.events)])
    assert PHOTO not in written
    assert b"YSBwaG90" not in written  # base64
    assert sha256(PHOTO).hexdigest().encode() in output.messages


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", range(4))  # the fetch, the call, its result, the answer
async def test_a_replay_sends_the_same_request(rig: Rig, files: Memory, write: int, when: str) -> None:
    """A URL that was fetched is not fetched again, though its content changes; a tool's picture is drawn once."""

    @tool(retry="safe")
    def draw() -> list[object]:
        rig.effects.append("drawn")
        return ["see:", BinaryContent(b"picture", media_type="image/png")]

    rig.tool(draw)
    rig.script([call("draw", "c1")], [TextPart("nice")])
    turn = asking(rig, MediaPart(type="image", url="https://example.org/a.png"))
    with pytest.raises(Crash):
        await rig.run(turn, crash=(write, when))
    assert (await rig.run(replace(turn, attempt=2))).text == "nice"
    journalled = write > 0 or when == "after"
    assert len(files.fetched) == (1 if journalled else 2)
    version = b"version %d of https://example.org/a.png" % len(files.fetched)
    requests = [binaries(messages) for messages in rig.seen]
    assert {tuple(request) for request in requests} == {(version,), (version, b"picture")}


async def test_a_tools_file_is_a_reference_in_its_event(rig: Rig, files: Memory) -> None:
    """And the journal says that the turn uses it, in the same write."""

    @tool
    def draw() -> BinaryContent:
        return BinaryContent(b"picture", media_type="image/png")

    rig.tool(draw)
    rig.script([call("draw", "c1")], [TextPart("nice")])
    await rig.run()
    (event,) = rig.of(EventType.TOOL_RESULT)
    drawn = sha256(b"picture").hexdigest()
    assert event.data["result"]["file_id"] == drawn
    assert rig.journal.files == [drawn]
    assert binaries(rig.seen[1]) == [b"picture"]


async def test_a_tool_reads_the_files_of_the_message(rig: Rig, files: Memory) -> None:
    """A plain function in its thread, and a coroutine function."""

    @tool
    def look(ctx: ToolContext) -> str:
        return ctx.files.read(next(iter(ctx.files))).decode()

    @tool
    async def alook(ctx: ToolContext) -> str:
        return (await ctx.files.aread(ctx.files.of_message[0].file_id)).decode()

    rig.tool(look)
    rig.tool(alook)
    rig.script([call("look", "c1")], [call("alook", "c2")], [TextPart("ok")])
    await rig.run(asking(rig, files.add(PHOTO)))
    assert [event.data["result"] for event in rig.of(EventType.TOOL_RESULT)] == [PHOTO.decode()] * 2


async def test_old_files_become_notes_the_same_on_a_replay(rig: Rig, files: Memory) -> None:
    """Those of several turns at a time. The number is journalled: another worker sends what the first one sent."""
    rig.script([TextPart("ok")])
    history: list[bytes] = []
    shown: list[int] = []
    for number in range(7):
        asked = replace(asking(rig, files.add(b"photo %d" % number), number=number + 1, history=history))
        history.append((await rig.run(asked, file_turns=2)).messages)
        shown.append(sum(isinstance(binary, bytes) for binary in binaries(rig.seen[-1])) - 1)
        rig.store.clear()
    assert shown == [0, 1, 2, 3, 2, 3, 2]
    last = rig.turn("and now?", number=9, history=history)
    with pytest.raises(Crash):
        await rig.run(last, crash=(1, "before"), file_turns=2)
    await rig.run(last, file_turns=0)
    assert [binaries(messages) for messages in rig.seen[-2:]] == [
        ["[image photo.png, sent earlier]"] * 4 + [b"photo 4", b"photo 5", b"photo 6"]
    ] * 2
    rig.store.clear()
    rig.store["files:again"] = b"2"  # of a turn that began under the earlier version, which wrote the setting down
    await rig.run(last, file_turns=5)
    assert binaries(rig.seen[-1])[-3:] == ["[image photo.png, sent earlier]", b"photo 5", b"photo 6"]


async def test_a_turn_that_fails_keeps_its_references(rig: Rig, files: Memory) -> None:
    """The history of a turn that did not complete has its files."""
    turn = asking(rig, files.add(PHOTO))
    kept = completed_steps(turn, {})
    assert sha256(PHOTO).hexdigest().encode() in kept.messages


async def test_a_model_that_takes_no_images_is_not_asked(rig: Rig, files: Memory) -> None:
    """The error names the model and the file; nothing was paid."""

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        raise AssertionError("asked")

    blind = FunctionModel(answer, model_name="blind", profile=ModelProfile(supports_image_input=False))
    rig.registry.add_model("scripted", blind)
    with pytest.raises(UnsupportedMedia, match=r"blind.*image/png"):
        await rig.run(asking(rig, files.add(PHOTO)))


def test_what_a_model_takes_is_what_its_profile_says() -> None:
    """Kinds, and the media types of documents; a fallback chain takes what any of its models takes."""
    image = MediaPart(type="image", media_type="image/png")
    pdf, own = (MediaPart(type="document", media_type=f"application/{name}") for name in ("pdf", "x-own"))

    def model(**profile: object) -> FunctionModel:
        return FunctionModel(lambda m, i: ModelResponse(parts=[]), profile=ModelProfile(**profile))  # type: ignore[typeddict-item]

    assert takes(model(), image)
    assert not takes(model(supports_image_input=False), image)
    assert takes(model(supports_image_input=False), pdf)
    assert not takes(model(supported_document_media_types=frozenset(["text/plain"])), pdf)
    assert takes(
        model(supported_document_media_types=frozenset(["text/plain"])),
        own,
    )
    assert takes(FallbackModel(model(supports_image_input=False), model()), image)


@pytest.mark.parametrize(
    "text",
    [
        "Invalid content type. image_url is only supported by certain models.",
        "No endpoints found that support image input",
        "This model does not support image inputs",
        "You uploaded an unsupported image. Please make sure your image has of one the following formats",
        "Unsupported media type: audio/flac",
        "document input is not supported by this model",
    ],
)
def test_a_providers_refusal_of_a_file_has_a_type(text: str) -> None:
    """Providers say it in many words."""
    error = ModelHTTPError(status_code=400, model_name="m", body={"error": {"message": text}})
    assert type(classify(error)) is UnsupportedMedia


async def test_a_refused_image_does_not_end_its_session(rig: Rig, files: Memory) -> None:
    """A provider whose profile says nothing: the turn fails with a type, and later ones go on without the image."""
    taken: list[list[ModelMessage]] = []

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        taken.append(messages)
        if any(isinstance(item, bytes) for item in binaries(messages)):
            body = {"error": {"message": "image input is not supported - hint: you may need to provide the mmproj"}}
            raise ModelHTTPError(status_code=500, model_name="small", body=body)
        return ModelResponse(parts=[TextPart("ok")])

    rig.registry.add_model("small", FunctionModel(answer))
    turn = asking(rig, files.add(PHOTO), model="small")
    with pytest.raises(UnsupportedMedia, match="mmproj"):
        await rig.run(turn)
    assert len(taken) == 1
    history = [completed_steps(turn, rig.store).messages]
    rig.store.clear()
    later = rig.turn("and now?", number=2, model="small", history=history)
    assert (await rig.run(later)).text == "ok"
    assert binaries(taken[-1]) == ["[image photo.png, which this model cannot take]"]
    assert (await rig.run(later)).text == "ok"  # replayed
    assert len(taken) == 3


def test_a_file_counts_when_a_request_is_shortened() -> None:
    """References are short, and the bytes that take their place are not."""
    photo = reference(MediaPart(type="image", file_id="a" * 64, media_type="image/png", size=100_000))
    messages: list[ModelMessage] = []
    for number in range(4):
        content = ["see", photo] if number == 1 else "text " * 100
        messages += [ModelRequest(parts=[UserPromptPart(content)]), ModelResponse(parts=[TextPart("ok")])]
    less = shortened(messages)
    assert less is not None
    assert less[0] == messages[4]


async def test_files_are_read_again_for_a_shorter_request(rig: Rig, files: Memory) -> None:
    """A request that was too long is sent again without the oldest turns, and with the bytes of this one."""
    taken: list[list[ModelMessage]] = []

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            raise ModelContextWindowExceededError("m", "too long")
        taken.append(messages)
        return ModelResponse(parts=[TextPart("ok")])

    rig.script([TextPart("ok")])
    history = [(await rig.run(rig.turn("before"))).messages]
    rig.store.clear()
    rig.registry.add_model("small", FunctionModel(answer))
    await rig.run(asking(rig, files.add(PHOTO), number=2, model="small", history=history))
    assert binaries(taken[0]) == [PHOTO]
    assert files.reads == 1


async def test_the_offline_model_says_what_it_was_shown(rig: Rig, files: Memory) -> None:
    """So that examples run without a provider."""
    output = await rig.run(asking(rig, files.add(PHOTO), model="offline"))
    assert "I was shown photo.png (image/png, 12 bytes)." in output.text


def test_only_our_own_references_are_files() -> None:
    """Not any URL that an agent of the worker's puts into a prompt."""
    assert part_of(ImageUrl("https://example.org/a.png")) is None
    assert part_of(ImageUrl("sessionfleet-file:../meta", media_type="image/png")) is None
