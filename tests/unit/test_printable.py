"""What strangers wrote is shown, not obeyed: by every command, in a terminal and in a pipe."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from rich.console import Console

from broker_config.printable import one_line, printable
from sessions.cli import fleet, receipts
from sessions.cli.output import print_error, print_exception, print_fields, print_json, print_styled, print_table, say
from tests.support.fleet import ROOT

TITLE, CLIPBOARD, CLEAR = "\x1b]0;PWNED\x07", "\x1b]52;c;cm0gLXJmIH4=\x07", "\x1b[2J\x1b[1;1H"
C1, BIDI, TAG, OVERPRINT = "\x9b2J", "\u202etxt.exe", "\U000e0041", "over\rprinted"
HOSTILE = f"hi {TITLE}{CLIPBOARD}{CLEAR}{C1}{BIDI}{TAG}{OVERPRINT}\x08"
MARKUP = r"[red]red[/red] [link=https://evil.example]here[/link] \[bold]bold[/]"
RAW = ("\x1b]", "\x1b[2J", "\x1b[1;1H", "\x07", "\x08", "\r", "\x9b", "\u202e", TAG)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        (TAG, r"\U000e0041"),
        ("\ud83d", r"\ud83d"),
        ("two\r\nlines\n\tand a tab", "two\nlines\n\tand a tab"),
        ("naïve 中文 🏳️‍🌈 می‌خواهم", "naïve 中文 🏳️‍🌈 می‌خواهم"),
    ],
)
def test_what_a_terminal_obeys_becomes_visible(text: str, shown: str) -> None:
    """People's own writing stays unchanged, including joined emoji and scripts."""
    assert printable(text) == shown
    assert one_line("a\nb\tc") == r"a\nb\tc"


@pytest.mark.parametrize("width", [0, 100])
def test_no_command_sends_a_strangers_control_sequences(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines, tables, fields, errors, receipts and the fleet's log lines: all of it is readable, none of it obeyed."""

    def terminal(**_: object) -> Console:
        return Console(force_terminal=width > 0, width=width or 100, highlight=False, soft_wrap=True)

    monkeypatch.setattr("sessions.cli.output.terminal", terminal)
    texts = [HOSTILE, MARKUP]
    receipt = {"source": HOSTILE, "status": "added", "kind": "text", "pages": 0, "chunks": 1, "bytes": 1}
    say(HOSTILE)
    print_styled((MARKUP, "bold"), HOSTILE)
    print_table(("id", "text"), [(HOSTILE, MARKUP), ("b", HOSTILE)], cut="text")
    print_fields({"message": HOSTILE, "answer": MARKUP})
    print_error(HOSTILE)
    fleet._say_in_colour("worker-1", HOSTILE)
    fleet._say_to_log("worker-1", HOSTILE)
    receipts.print_receipts([receipt, {"source": HOSTILE, "status": "failed", "error": HOSTILE}], as_json=False)
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        print_exception(type(error), error, error.__traceback__)
    out, err = capsys.readouterr()
    for said in (out, err):
        assert not [raw for raw in RAW if raw in said]
        assert r"\x1b]0;PWNED\x07" in said
        assert "evil.example\x1b" not in said, "a link that a terminal would open"
    assert out.count(texts[1]) >= 2, "markup is shown as it is written"


def test_a_field_cannot_pretend_to_be_another(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts read the fields of a pipe line by line."""
    print_fields({"message": "hello\nstatus  succeeded", "status": "failed"})
    assert capsys.readouterr().out == "message  hello\\nstatus  succeeded\nstatus   failed\n"


def test_json_is_exact_and_safe_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    """A program gets each text as it is stored; the document itself sets no title when it is printed."""
    value = {"text": HOSTILE + MARKUP + "中文 \ud83d \x7f"}
    print_json(value)
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert not [raw for raw in RAW if raw in said]
    assert "中文" in said


def test_commands_print_through_one_module() -> None:
    """So that the escaping cannot be forgotten in a new command. (rich itself is guarded by import-linter.)"""
    found = []
    for path in sorted((ROOT / "sessions" / "cli").glob("*.py")):
        if path.name != "output.py":
            found += [f"{path.name}:{line} {name}" for line, name in _ways_out(path)]
    assert found == []


def _ways_out(path: Path) -> list[tuple[int, str]]:
    """Calls that write to the terminal past `sessions.cli.output`."""
    names = {"print", "sys.stdout.write", "sys.stderr.write"}
    names |= {f"{module}.{name}" for module in ("typer", "click") for name in ("echo", "secho", "confirm", "prompt")}
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(call.lineno, ast.unparse(call.func)) for call in calls if ast.unparse(call.func) in names]
