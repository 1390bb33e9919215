"""`sessionfleet keys api`: API keys for the gateway's callers. A key is printed once, when it is created."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from broker_config.settings import load_settings
from sessions.cli.fleet import AsJson
from sessions.cli.output import ago, cell, print_error, print_json, print_table, say
from sessions.cli.store import with_store
from sessions.client.arguments.values import short_string
from sessions.errors import BadRequest
from sessions.gateway.api_key import digest_of, expired, new_key
from sessions.gateway.principal import Right
from sessions.store.api_keys import ApiKeyRecord, ApiKeyStore
from sessions.store.keys import valid_tenant

app = typer.Typer(help="Manage API keys of the gateway's callers.", no_args_is_help=True)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_TIME: Final = re.compile(r"(\d{1,9})([smhdw])\Z")
_LONGEST_NAME: Final = 100


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for; shown in the list.")] = "",
    tenant: Annotated[str | None, typer.Option(help="The tenant of the key (default: SESSIONFLEET_TENANT).")] = None,
    user: Annotated[
        str | None, typer.Option(help="The user the key acts for; by default a user of its own, key:<id>.")
    ] = None,
    acts_for_users: Annotated[
        bool, typer.Option("--act-for-users", help="For a backend: each request names the user it acts for.")
    ] = False,
    right: Annotated[
        list[Right] | None, typer.Option(help="What the key may do; repeat for more. Default: read and write.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long the key is valid, such as 12h or 90d; by default until it is revoked.")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(min=0, help="Requests per minute; 0: no limit (default: the gateway's limit).")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=0, help="Open requests and streams; 0: no limit (default: the gateway's limit).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. The key goes to stdout, only this once; a description goes to stderr."""
    if user is not None and acts_for_users:
        raise BadRequest(
            "use --user USER or --act-for-users, not both: with the former the key acts for that user, with the "
            "latter for the user that each request names"
        )
    now_ms = int(time.time() * 1000)
    options: dict[str, Any] = {
        "name": _name(name),
        "tenant": valid_tenant(load_settings().tenant if tenant is None else tenant),
        "user": None if user is None else short_string("--user", user),
        "acts_for_users": acts_for_users,
        "rights": tuple(dict.fromkeys(right or (Right.READ, Right.WRITE))),
        "created_ms": now_ms,
        "expires_ms": None if expires is None else now_ms + _seconds(expires) * 1000,
        "rate": rate,
        "concurrency": concurrency,
    }
    key, record = with_store(load_settings(), lambda client: _add(ApiKeyStore(client), options))
    if as_json:
        print_json({"key": key, **_shown(record, None)})
        return
    say(key)
    for field, value in _told(record).items():
        say(f"{field:<8}  {value}", stderr=True)
    say("It is not shown again. Callers send it as `Authorization: Bearer <key>`.", stderr=True)
    say("A gateway that is running without authentication will require keys from its next start on.", stderr=True)


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys of all tenants; the list shows nothing that grants access."""
    found = with_store(load_settings(), lambda client: ApiKeyStore(client).listed())
    if as_json:
        print_json([_shown(record, used) for record, used in found])
        return
    if not found:
        say("there are no API keys; `sessionfleet keys api create` creates one")
        return
    now = time.time()
    rows = [
        (
            record.id,
            cell(record.name),
            record.tenant,
            _whose(record),
            " ".join(record.rights),
            f"{ago(now - record.created_ms / 1000)} ago",
            "-" if used is None else f"{ago(max(0.0, now - used / 1000))} ago",
            _until(record),
        )
        for record, used in found
    ]
    columns = ("id", "name", "tenant", "user", "rights", "created", "last used", "expires")
    print_table(columns, rows, spare=("created", "last used", "tenant"))


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")]) -> None:
    """Revoke a key permanently. Gateways refuse it within two seconds, and end its streams within half a minute."""
    if key_id.startswith("sfk_"):
        raise BadRequest(
            "pass the key's id, the part between the first two '_'; do not put a whole key on the command line"
        )
    if not with_store(load_settings(), lambda client: ApiKeyStore(client).remove(key_id)):
        print_error(f"there is no API key {key_id!r}; `sessionfleet keys api list` lists the keys")
        raise typer.Exit(1)
    say(f"API key {key_id} revoked")


async def _add(store: ApiKeyStore, options: dict[str, Any]) -> tuple[str, ApiKeyRecord]:
    while True:
        key_id, key = new_key()
        record = ApiKeyRecord(id=key_id, digest=digest_of(key), **options)
        if await store.add(record):  # an id that exists already is never issued again
            return key, record


def _name(name: str) -> str:
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise BadRequest(f"--name {name!r}: use at most {_LONGEST_NAME} printable characters")
    return name


def _seconds(text: str) -> int:
    found = _TIME.match(text)
    if found is None or int(found[1]) == 0 or int(found[1]) * _UNITS[found[2]] > 100 * 365 * 86400:
        raise BadRequest(f"--expires {text!r}: use a number and a unit, such as 30m, 12h, 90d or 52w")
    return int(found[1]) * _UNITS[found[2]]


def _told(record: ApiKeyRecord) -> dict[str, str]:
    named = ((record.rate, "requests per minute"), (record.concurrency, "open requests"))
    limits = [f"{number or 'unlimited'} {what}" for number, what in named if number is not None]
    return {
        "id": record.id,
        "tenant": record.tenant,
        "user": _whose(record),
        "rights": ", ".join(record.rights),
        "expires": _until(record),
        "limits": ", ".join(limits) or "the gateway's",
    }


def _shown(record: ApiKeyRecord, used_ms: int | None) -> dict[str, Any]:
    return {
        **record.model_dump(mode="json", exclude={"digest", "version", "created_ms", "expires_ms"}),
        "user": None if record.acts_for_users else _whose(record),
        "created": _iso(record.created_ms),
        "expires": _iso(record.expires_ms),
        "expired": expired(record),
        "last_used": _iso(used_ms),
    }


def _whose(record: ApiKeyRecord) -> str:
    return "any, as it says" if record.acts_for_users else record.user or f"key:{record.id}"


def _until(record: ApiKeyRecord) -> str:
    if record.expires_ms is None:
        return "never"
    date = datetime.fromtimestamp(record.expires_ms / 1000).astimezone()
    return f"{'expired ' if expired(record) else ''}{date:%Y-%m-%d %H:%M}"


def _iso(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
