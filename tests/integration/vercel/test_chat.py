"""What `useChat` sends and gets: each message is a turn of a session on real workers."""

from __future__ import annotations

import base64
from typing import Any

import httpx

from tests.support.fleet import Fleet
from tests.support.ui_messages import PATH, history, kinds, parts_of, posted, text_of, user

WEATHER: Any = {"name": "weather", "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}}}


# --- messages ------------------------------------------------------------------------------------------------


def test_an_answer_is_a_stream_of_parts(http: httpx.Client, chat: str) -> None:
    """With the turn in its metadata, and what it used at its end."""
    parts = posted(http, chat, [user("m1", "SAY one two three")])
    assert text_of(parts) == "one two three"
    assert kinds(parts) == ["start", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"]
    assert parts[0]["messageMetadata"]["turnId"] == f"{chat}~{parts[0]['messageId'].removeprefix('msg_')}"
    assert parts[-1]["finishReason"] == "stop"
    assert parts[-1]["messageMetadata"]["usage"]["totalTokens"] > 0


def test_the_servers_history_counts(http: httpx.Client, chat: str, fleet: Fleet) -> None:
    """Only the last message is new, whatever else the page sends."""
    posted(http, chat, [user("m1", "SAY noted")])
    made_up = [user("x", "SAY invented"), {"id": "y", "role": "assistant", "parts": []}]
    assert text_of(posted(http, chat, [*made_up, user("m2", "RECITE")])) == "SAY noted | noted"
    assert len(fleet.session(chat).history()) == 4


def test_a_message_that_is_sent_again_is_the_same_turn(http: httpx.Client, chat: str, fleet: Fleet) -> None:
    """After a lost connection a page may post again: its message has an id."""
    first = posted(http, chat, [user("m1", "SAY once")])
    assert posted(http, chat, [user("m1", "SAY once")])[0] == first[0]
    assert len(fleet.session(chat).history()) == 2


def test_the_history_as_messages(http: httpx.Client, chat: str) -> None:
    """For a page that begins with them; a chat that does not exist yet has none."""
    assert history(http, chat) == []
    started = posted(http, chat, [user("m1", 'CALL stamp({"text": "letter"})')], agent="clerk")[0]
    question, answer = history(http, chat)
    assert question["parts"] == [{"type": "text", "text": 'CALL stamp({"text": "letter"})'}]
    assert (question["role"], answer["role"], answer["id"]) == ("user", "assistant", started["messageId"])
    step, call, _, text = answer["parts"]
    assert (step["type"], text["text"]) == ("step-start", "ok: stamped letter")
    assert (call["type"], call["state"], call["output"]) == ("tool-stamp", "output-available", "stamped letter")


def test_files_are_those_of_the_session(http: httpx.Client, chat: str) -> None:
    """Posted as data URLs, shown by their addresses at the gateway; a page that edits a message sends these."""
    data = base64.b64encode(b"not really a picture").decode()
    file = {"type": "file", "mediaType": "image/png", "filename": "dot.png", "url": f"data:image/png;base64,{data}"}
    posted(http, chat, [user("m1", file, "SAY seen")])
    kept, text = history(http, chat)[0]["parts"]
    assert (kept["mediaType"], kept["filename"], text["text"]) == ("image/png", "dot.png", "SAY seen")
    assert http.get(kept["url"]).content == b"not really a picture"
    posted(http, chat, [user("m2", kept, "SAY seen again")])
    assert history(http, chat)[2]["parts"][0]["url"] == kept["url"]


def test_errors(http: httpx.Client, chat: str) -> None:
    """A request that cannot be used is a problem; a turn that fails is a part of its stream."""
    body: Any = {"id": chat, "messages": [user("m1", "SAY x")], "agent": "nobody"}
    assert http.post(PATH, json=body).status_code == 404
    assert http.post(PATH, json={"id": chat, "messages": []}).status_code == 422
    assistant = {"id": "made-up", "role": "assistant", "parts": []}
    assert http.post(PATH, json={"id": chat, "messages": [assistant]}).status_code == 422
    failed = posted(http, chat, [user("m2", "FAIL 400 9")])
    assert failed[-1]["type"] == "error"
    assert failed[-1]["errorText"]


def test_a_chat_is_its_users(http: httpx.Client, chat: str) -> None:
    """On every route: somebody else reads nothing, sends nothing, and stops nothing."""
    alice, bob = {"X-User-ID": "alice"}, {"X-User-ID": "bob"}
    body = {"id": chat, "messages": [user("m1", "SAY secret")]}
    answer = {
        "id": parts_of(http.post(PATH, json=body, headers=alice))[0]["messageId"],
        "role": "assistant",
        "parts": [],
    }
    question = {"after": answer["id"].replace("msg_", "usr_")}
    assert http.get(f"{PATH}/{chat}/stream", params=question, headers=alice).status_code == 200
    refused = [
        http.get(f"{PATH}/{chat}/messages", headers=bob),
        http.get(f"{PATH}/{chat}/stream", headers=bob),
        http.get(f"{PATH}/{chat}/stream", params=question, headers=bob),
        http.delete(f"{PATH}/{chat}/stream", headers=bob),
        http.post(PATH, json=body, headers=bob),
        http.post(PATH, json={"id": chat, "messages": [answer]}, headers=bob),
        http.post(PATH, json={**body, "trigger": "regenerate-message"}, headers=bob),
    ]
    assert [response.status_code for response in refused] == [403] * len(refused)


# --- resuming, stopping --------------------------------------------------------------------------------------


def test_a_page_that_is_loaded_again_gets_the_whole_answer(http: httpx.Client, chat: str, fleet: Fleet) -> None:
    """From its start, and the question with the messages; nothing when it has ended."""
    assert http.get(f"{PATH}/{chat}/stream").status_code == 204
    turn = fleet.session(chat).Agent().submit("SAY one two three four\nPACE 0.2", stream=True)
    next(event for event in turn.events() if event.text)
    (question,) = history(http, chat)
    assert question["id"] == f"usr_{turn.id.rpartition('~')[2]}"
    parts = parts_of(http.get(f"{PATH}/{chat}/stream"))
    assert text_of(parts) == "one two three four"
    assert parts[0]["messageId"] == f"msg_{turn.id.rpartition('~')[2]}"
    assert http.get(f"{PATH}/{chat}/stream").status_code == 204
    late = http.get(f"{PATH}/{chat}/stream", params={"after": question["id"]})
    assert text_of(parts_of(late)) == "one two three four", "it ended before the page asked for it"
    assert http.get(f"{PATH}/{chat}/stream", params={"after": parts[0]["messageId"]}).status_code == 204
    assert [message["id"] for message in history(http, chat)] == [question["id"], parts[0]["messageId"]]


def test_stopping_an_answer(http: httpx.Client, chat: str, fleet: Fleet) -> None:
    """Cancels its turn, which its readers are told."""
    turn = fleet.session(chat).Agent().submit("SLEEP 60", stream=True)
    with http.stream("GET", f"{PATH}/{chat}/stream") as response:
        assert http.delete(f"{PATH}/{chat}/stream").status_code == 204
        response.read()
        assert parts_of(response)[-1]["type"] == "abort"
    assert turn.status == "cancelled"


# --- tools, approvals ----------------------------------------------------------------------------------------


def test_the_agents_tools_are_shown(http: httpx.Client, chat: str) -> None:
    """They run on the workers: the page is not asked to. Each response of the model is a step."""
    parts = posted(http, chat, [user("m1", 'CALL stamp({"text": "letter"})')], agent="clerk")
    assert kinds(parts)[1:9] == [
        "start-step",
        "tool-input-available",
        "tool-output-available",
        "finish-step",
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
    ]
    call, result = parts[2], parts[3]
    assert (call["toolName"], call["input"], call["providerExecuted"]) == ("stamp", {"text": "letter"}, True)
    assert (result["toolCallId"], result["output"]) == (call["toolCallId"], "stamped letter")


def test_a_tool_that_fails(http: httpx.Client, chat: str, fleet: Fleet) -> None:
    """Its error is a part of the answer."""
    fleet.session(chat).Agent("maths", tools=["divide"]).chat("SAY ready")
    parts = posted(http, chat, [user("m1", 'CALL divide({"number": 1, "by": 0})')], agent="maths")
    assert "tool-output-error" in kinds(parts)


def _asked(http: httpx.Client, chat: str, fleet: Fleet) -> tuple[dict[str, Any], dict[str, Any]]:
    """An answer that asks for approval, as the page has it, and its call."""
    fleet.session(chat).Agent("cashier", tools=["refund"]).chat("SAY ready")
    parts = posted(http, chat, [user("m1", 'CALL refund({"amount": 9})')], agent="cashier")
    assert kinds(parts)[2:] == ["tool-input-available", "tool-approval-request", "finish-step", "finish"]
    assert parts[-1]["finishReason"] == "tool-calls"
    call = {"type": "tool-refund", "toolCallId": parts[2]["toolCallId"], "state": "approval-responded"}
    call |= {"input": {"amount": 9}, "approval": {"id": parts[3]["approvalId"], "approved": True}}
    return {"id": parts[0]["messageId"], "role": "assistant", "parts": [call]}, call


def test_a_call_is_approved_on_the_page(http: httpx.Client, chat: str, fleet: Fleet) -> None:
    """The same answer goes on; a page that is loaded again meanwhile is asked, too; a repeat changes nothing."""
    answer, call = _asked(http, chat, fleet)
    again = parts_of(http.get(f"{PATH}/{chat}/stream"))
    assert [part["approvalId"] for part in again if part["type"] == "tool-approval-request"] == [call["approval"]["id"]]
    parts = posted(http, chat, [user("m1", "x"), answer])
    assert (parts[0]["messageId"], text_of(parts)) == (answer["id"], "ok: refunded 9")
    assert [part["output"] for part in parts if part["type"] == "tool-output-available"] == ["refunded 9"]
    assert "tool-input-available" not in kinds(parts)
    assert posted(http, chat, [user("m1", "x"), answer])[1:] == parts[1:]
    assert len(fleet.ledger("refund")) >= 1


def test_a_call_is_denied_on_the_page(http: httpx.Client, chat: str, fleet: Fleet) -> None:
    """The call did not run, and the answer and the history say so."""
    answer, call = _asked(http, chat, fleet)
    call["approval"] |= {"approved": False, "reason": "too much"}
    parts = posted(http, chat, [user("m1", "x"), answer])
    assert [part["toolCallId"] for part in parts if part["type"] == "tool-output-denied"] == [call["toolCallId"]]
    assert "too much" in text_of(parts)
    assert history(http, chat)[-1]["parts"][1]["state"] == "output-denied"


def test_an_answer_without_the_decision_is_refused(http: httpx.Client, chat: str, fleet: Fleet) -> None:
    """The turn waits for it."""
    answer, call = _asked(http, chat, fleet)
    del call["approval"]["approved"]
    assert http.post(PATH, json={"id": chat, "messages": [answer]}).status_code == 422


def test_the_pages_own_tools(http: httpx.Client, chat: str) -> None:
    """Calls of them are not the workers': the turn waits for the result, which the page sends with the answer."""
    parts = posted(http, chat, [user("m1", 'CALL weather({"city": "Rome"})')], tools=[WEATHER])
    assert kinds(parts)[2:] == ["tool-input-available", "finish-step", "finish"]
    assert "providerExecuted" not in parts[2]
    call = {"type": "tool-weather", "toolCallId": parts[2]["toolCallId"], "state": "output-available", "output": "rain"}
    answer = {"id": parts[0]["messageId"], "role": "assistant", "parts": [call]}
    done = posted(http, chat, [answer])
    assert (done[0]["messageId"], text_of(done)) == (answer["id"], "ok: rain")


# --- other answers -------------------------------------------------------------------------------------------


def test_another_answer(http: httpx.Client, chat: str, fleet: Fleet) -> None:
    """`regenerate` replaces the last answer, or the one with an id and what came after it."""
    first = posted(http, chat, [user("m1", "SAY one")])
    second = posted(http, chat, [user("m2", "SAY two")])
    old = {"id": first[0]["messageId"], "role": "assistant", "parts": []}
    messages = [user("m1", "SAY one"), old, user("m2", "SAY two")]
    third = posted(http, chat, messages, trigger="regenerate-message")
    assert (text_of(third), third[0]["messageId"] != second[0]["messageId"]) == ("two", True)
    assert [message["id"] for message in history(http, chat)][1::2] == [old["id"], third[0]["messageId"]]
    posted(http, chat, messages[:1], trigger="regenerate-message", messageId=old["id"])
    assert [part["text"] for part in history(http, chat)[0]["parts"]] == ["SAY one"]
    assert len(history(http, chat)) == 2


def test_an_edited_message(http: httpx.Client, chat: str) -> None:
    """Its id was made by the page, or is that of the history."""
    posted(http, chat, [user("m1", "SAY one")])
    edited = posted(http, chat, [user("m1", "SAY uno")], messageId="m1")
    assert text_of(edited) == "uno"
    question, answer = history(http, chat)
    assert question["parts"][0]["text"] == "SAY uno"
    assert text_of(posted(http, chat, [user(question["id"], "SAY eins")], messageId=question["id"])) == "eins"
    answer = history(http, chat)[1]
    after = [history(http, chat)[0], answer, user("m2", "SAY more")]
    assert text_of(posted(http, chat, after, trigger="regenerate-message")) == "more", "it was never answered"
    assert len(history(http, chat)) == 4
