"""`sessionfleet keys`: encryption keys, webhook secrets, and (`keys api`) API keys of the gateway's callers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from broker_config.encryption_keys import new_key
from broker_config.settings import load_settings
from broker_config.webhook_secrets import new_secret, secret_text
from sessions.cli import api_keys
from sessions.cli.output import say
from sessions.cli.store import with_store
from sessions.errors import BadRequest
from sessions.protocol.webhook_signature import tenant_secrets
from sessions.store.keys import SessionKeys, valid_session_id, valid_tenant
from sessions.store.resealing import Resealing
from sessions.store.scripts import ScriptRunner
from sessions.store.sealing import KeyRing

app = typer.Typer(
    help="Manage encryption keys, webhook secrets, and API keys of the gateway's callers.",
    no_args_is_help=True,
)
app.add_typer(api_keys.app, name="api")


@app.command()
def new(
    name: Annotated[str | None, typer.Argument(help="The key's id; by default made of the current time.")] = None,
) -> None:
    """Generate a key. Put it in front of the others in SESSIONFLEET_ENCRYPTION_KEYS."""
    try:
        say(new_key(name or f"k{datetime.now(UTC):%Y%m%d%H%M%S}"))
    except ValueError as error:
        raise BadRequest(str(error)) from error


@app.command()
def webhook(
    tenant: Annotated[str | None, typer.Option(help="The tenant (default: SESSIONFLEET_TENANT).")] = None,
    new: Annotated[bool, typer.Option("--new", help="Generate a new secret for SESSIONFLEET_WEBHOOK_SECRETS.")] = False,
) -> None:
    """Print the secret that a tenant's receivers verify webhooks with; derived from the deployment's first secret."""
    if new:
        say(new_secret())
        return
    settings = load_settings()
    secrets = tenant_secrets(settings, settings.tenant if tenant is None else valid_tenant(tenant))
    if not secrets:
        raise BadRequest(
            "there is no secret to derive it from: generate one with `sessionfleet keys webhook --new`, and set it "
            "as SESSIONFLEET_WEBHOOK_SECRETS here and for the workers"
        )
    say(secret_text(secrets[0]))


@app.command()
def reseal(
    session: Annotated[
        str | None, typer.Option(help="One session, with everything that belongs to it; by default all.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="The session's tenant (default: SESSIONFLEET_TENANT).")] = None,
) -> None:
    """Re-encrypt, with the first key, data written with an older key or before there were keys.

    It may run while the fleet works, and may be repeated. Events stay as they are: they expire.
    """
    settings = load_settings()
    keyring = KeyRing.of(settings)
    if not keyring.ids:
        raise BadRequest("there is no key to encrypt with: set SESSIONFLEET_ENCRYPTION_KEYS as it is set for the fleet")
    whose = settings.tenant if tenant is None else valid_tenant(tenant)
    keys = None if session is None else SessionKeys.of(whose, valid_session_id(session), settings.partitions)
    done = with_store(
        settings, lambda client: Resealing(ScriptRunner(client), client, keyring, settings.partitions).run(keys)
    )
    say(f"re-encrypted {done.values} values with the key {keyring.ids[0]!r}")
    for _, why in sorted(done.closed.items()):
        say(f"left unchanged: {why}", stderr=True)
    if done.closed:
        raise typer.Exit(1)


@app.callback()
def _group() -> None:
    """Without a callback Typer would turn a group of one command into that command."""
