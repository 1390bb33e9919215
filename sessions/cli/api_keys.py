"""`sessionfleet keys api`: keys that callers of the gateway show. A key is printed once, when it is made."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from broker_config.settings import load_settings
from sessions.cli.fleet import AsJson
from sessions.cli.output import ago, print_error, print_json, print_table, say
from sessions.cli.store import with_store
from sessions.client.arguments.values import short_text
from sessions.errors import BadRequest
from sessions.gateway.api_key import digest_of, expired, new_key
from sessions.gateway.principal import Right
from sessions.store.api_keys import ApiKeyRecord, ApiKeyStore
from sessions.store.keys import valid_tenant

app = typer.Typer(help="API keys of the gateway's callers.", no_args_is_help=True)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_TIME: Final = re.compile(r"(\d{1,9})([smhdw])\Z")
_LONGEST_NAME: Final = 100


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for; shown in the list.")] = "",
    tenant: Annotated[str | None, typer.Option(help="Whose sessions it opens (SESSIONFLEET_TENANT).")] = None,
    user: Annotated[str | None, typer.Option(help="Whose key it is; default: a user of its own, key:<id>.")] = None,
    acts_for_users: Annotated[
        bool, typer.Option("--act-for-users", help="For a backend that says for which user it asks.")
    ] = False,
    right: Annotated[
        list[Right] | None, typer.Option(help="What it may do; give it again for more. Default: read and write.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long it is good for: 12h, 90d; default: until revoked.")
    ] = None,
    rate: Annotated[int | None, typer.Option(min=0, help="Requests a minute; 0: any (else the gateway's).")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=0, help="Open requests and streams; 0: any (else the gateway's).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It goes to stdout, and is shown this once; what it is good for goes to stderr."""
    if user is not None and acts_for_users:
        raise BadRequest(
            "give --user USER or --act-for-users, not both: the one is that user, the other says who it is"
        )
    now_ms = int(time.time() * 1000)
    options: dict[str, Any] = {
        "name": _name(name),
        "tenant": valid_tenant(load_settings().tenant if tenant is None else tenant),
        "user": None if user is None else short_text("--user", user),
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
    say("A gateway that runs without authentication asks for keys from its next start on.", stderr=True)


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys of all tenants; what is shown of them opens nothing."""
    found = with_store(load_settings(), lambda client: ApiKeyStore(client).listed())
    if as_json:
        print_json([_shown(record, used) for record, used in found])
        return
    if not found:
        say("there are no API keys; `sessionfleet keys api create` makes one")
        return
    now = time.time()
    rows = [
        (
            record.id,
            record.name or "-",
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
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]) -> None:
    """Revoke a key for good. Gateways refuse it within two seconds, and end its streams within half a minute."""
    if key_id.startswith("sfk_"):
        raise BadRequest("give the key's id, which stands between the first two '_'; a whole key does not belong here")
    if not with_store(load_settings(), lambda client: ApiKeyStore(client).remove(key_id)):
        print_error(f"there is no API key {key_id!r}; `sessionfleet keys api list` shows those there are")
        raise typer.Exit(1)
    say(f"API key {key_id} revoked")


async def _add(store: ApiKeyStore, options: dict[str, Any]) -> tuple[str, ApiKeyRecord]:
    while True:
        key_id, key = new_key()
        record = ApiKeyRecord(id=key_id, digest=digest_of(key), **options)
        if await store.add(record):  # an id that there is already is never given again
            return key, record


def _name(name: str) -> str:
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise BadRequest(f"--name {name!r}: give at most {_LONGEST_NAME} characters that can be printed")
    return name


def _seconds(text: str) -> int:
    found = _TIME.match(text)
    if found is None or int(found[1]) == 0 or int(found[1]) * _UNITS[found[2]] > 100 * 365 * 86400:
        raise BadRequest(f"--expires {text!r}: give a number and a unit, as 30m, 12h, 90d or 52w")
    return int(found[1]) * _UNITS[found[2]]


def _told(record: ApiKeyRecord) -> dict[str, str]:
    named = ((record.rate, "requests a minute"), (record.concurrency, "open requests"))
    limits = [f"{number or 'any'} {what}" for number, what in named if number is not None]
    return {
        "id": record.id,
        "tenant": record.tenant,
        "user": _whose(record),
        "rights": ", ".join(record.rights),
        "expires": _until(record),
        "limits": ", ".join(limits) or "those of the gateway",
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
