"""`sessionfleet limits`: limits that single tenants and users have instead of those of the settings, and weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import unquote

import typer

from broker_config.settings import Settings, load_settings
from sessions.cli.fleet import AsJson
from sessions.cli.output import print_error, print_json, print_table, say
from sessions.cli.store import with_store
from sessions.client.arguments.values import short_string
from sessions.client.submission_limits import defaults
from sessions.errors import BadRequest
from sessions.store.keys import valid_tenant
from sessions.store.rota import Rota
from sessions.store.scripts import ScriptRunner
from sessions.store.submission_limits import EACH_USER, Limits, OwnLimitStore

app = typer.Typer(help="Limit the turns and sessions of tenants and users; give tenants weights.", no_args_is_help=True)

_COLUMNS = ("per minute", "in flight", "open", "sessions", "weight")

Tenant = Annotated[str | None, typer.Option(help="The tenant (default: SESSIONFLEET_TENANT).")]
User = Annotated[str | None, typer.Option(help="A user of the tenant, instead of the tenant itself.")]
EachUser = Annotated[bool, typer.Option("--each-user", help="Every user of the tenant, instead of the tenant itself.")]


@app.command("set")
def set_limits(
    tenant: Tenant = None,
    user: User = None,
    each_user: EachUser = False,
    per_minute: Annotated[int | None, typer.Option(min=0, help="Turns in any minute; 0: no limit.")] = None,
    in_flight: Annotated[int | None, typer.Option(min=0, help="Turns queued or running at once; 0: no limit.")] = None,
    open_turns: Annotated[
        int | None, typer.Option("--open", min=0, help="Open turns, also those that wait; 0: no limit.")
    ] = None,
    sessions: Annotated[int | None, typer.Option(min=0, help="Sessions; 0: no limit.")] = None,
    weight: Annotated[
        float | None,
        typer.Option(min=0.01, max=1000, help="Turns for one turn of a tenant without a weight."),
    ] = None,
) -> None:
    """Set limits of one tenant or user. They apply within seconds; what is not named stays as it is."""
    limits = Limits(minute=per_minute, flight=in_flight, open=open_turns, sessions=sessions, weight=weight)
    if limits == Limits():
        raise BadRequest("name at least one limit: --per-minute, --in-flight, --open, --sessions or --weight")
    if weight is not None and (user is not None or each_user):
        raise BadRequest("only tenants have weights: leave out --user and --each-user")
    settings = load_settings()
    whose = _whose(settings, tenant, user, each_user=each_user)
    now = with_store(settings, lambda client: OwnLimitStore(client).set(*whose, limits))
    numbers = ", ".join(f"{_shown(value)} {name}" for name, value in _numbers(now) if value is not None)
    say(f"{_named(*whose)}: {numbers}")


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show the limits of the settings, and those that tenants and users have of their own."""
    settings = load_settings()
    own = with_store(settings, lambda client: OwnLimitStore(client).all())
    of_tenant, of_user = defaults(settings)
    if as_json:
        listed = [{**_whose_json(*whose), **_json(one)} for whose, one in sorted(own.items())]
        print_json({"each_tenant": _json(of_tenant), "each_user": _json(of_user), "own": listed})
        return
    rows = [("each tenant", *_cells(of_tenant)), ("each user", *_cells(of_user))]
    rows += [(_named(*whose), *_cells(one)) for whose, one in sorted(own.items())]
    print_table(("whose", *_COLUMNS), rows)


@app.command()
def waiting(
    queue: Annotated[str, typer.Option(help="A queue that sessions use.")] = "turns", as_json: AsJson = False
) -> None:
    """Show the tenants whose sessions wait for a slot, and how many."""
    counts = with_store(load_settings(), lambda client: Rota(ScriptRunner(client), client).waiting(queue))
    rows = sorted(((unquote(tenant), count) for tenant, count in counts.items()), key=lambda row: (-row[1], row[0]))
    if as_json:
        print_json([{"tenant": tenant, "waiting": count} for tenant, count in rows])
    elif rows:
        print_table(("tenant", "waiting"), rows)
    else:
        say(f"no session of the queue {queue!r} waits for a slot")


@app.command()
def remove(tenant: Tenant = None, user: User = None, each_user: EachUser = False) -> None:
    """Remove the limits that a tenant or user has of its own, so that those of the settings apply again."""
    settings = load_settings()
    whose = _whose(settings, tenant, user, each_user=each_user)
    if not with_store(settings, lambda client: OwnLimitStore(client).remove(*whose)):
        print_error(f"{_named(*whose)} has no limits of its own; `sessionfleet limits show` lists those that there are")
        raise typer.Exit(1)
    say(f"{_named(*whose)} has no limits of its own any more")


def _whose(settings: Settings, tenant: str | None, user: str | None, *, each_user: bool) -> tuple[str, str]:
    if user is not None and each_user:
        raise BadRequest("use --user USER or --each-user, not both")
    name = "" if user is None else short_string("--user", user)
    whose = settings.tenant if tenant is None else valid_tenant(tenant)
    return whose, EACH_USER if each_user else name


def _named(tenant: str, user: str) -> str:
    if not user:
        return f"tenant {tenant!r}"
    return f"each user of tenant {tenant!r}" if user == EACH_USER else f"user {user!r} of tenant {tenant!r}"


def _whose_json(tenant: str, user: str) -> dict[str, Any]:
    each = user == EACH_USER
    return {"tenant": tenant, "user": None if each or not user else user, "each_user": each}


def _numbers(limits: Limits) -> Iterator[tuple[str, float | None]]:
    own = (limits.minute, limits.flight, limits.open, limits.sessions, limits.weight)
    return zip(_COLUMNS, own, strict=True)


def _shown(value: float) -> str:
    return f"{value:g}" if value else "unlimited"


def _cells(limits: Limits) -> tuple[object, ...]:
    """`-` for a limit that another one decides, `no` for none."""
    return tuple("-" if value is None else f"{value:g}" if value else "no" for _, value in _numbers(limits))


def _json(limits: Limits) -> dict[str, Any]:
    return {name.replace(" ", "_"): value for name, value in _numbers(limits)}
