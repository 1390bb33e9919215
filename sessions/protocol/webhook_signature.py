"""Signatures of webhooks, as in Standard Webhooks (v1, symmetric): made by workers, verified by receivers.

    webhook-id          identifies the message; the same for every try, so that a receiver recognises repeats
    webhook-timestamp   when this try was made, in seconds
    webhook-signature   `v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`, one for each secret

Each tenant has its own secrets, derived from those in SESSIONFLEET_WEBHOOK_SECRETS: a receiver that can verify one
tenant's webhooks cannot forge another's.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from broker_config.settings import Settings
from broker_config.webhook_secrets import parse_secret, parse_secrets
from sessions.errors import BadRequest, InvalidWebhook

_PURPOSE: Final = b"sessionfleet webhook 1\0"
_VERSION: Final = "v1"


def tenant_secrets(settings: Settings, tenant: str) -> tuple[bytes, ...]:
    """The secrets that sign a tenant's webhooks, one for each of the deployment's; empty if none are set."""
    if settings.webhook_secrets is None:
        return ()
    secrets = parse_secrets(settings.webhook_secrets.get_secret_value())
    return tuple(hmac.digest(secret, _PURPOSE + tenant.encode(), "sha256") for secret in secrets)


def signed_headers(secrets: Sequence[bytes], message_id: str, body: bytes, *, at: int | None = None) -> dict[str, str]:
    """The three headers of a webhook.

    Args:
        secrets: all of them sign, so that a receiver may have any of them while secrets are rotated.
        message_id: without a '.', which separates it from what follows.
        at: the time of this try in seconds; now when None.
    """
    stamp = str(int(time.time()) if at is None else at)
    signatures = [f"{_VERSION},{_signature(secret, message_id, stamp, body)}" for secret in secrets]
    return {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": " ".join(signatures)}


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes | str, *, tolerance: float = 300.0
) -> dict[str, Any]:
    """Verify that a request is a recent webhook of this fleet for this tenant; returns its payload.

    Deliveries may be repeated: remember `webhook-id`, and process each once. Answer with any 2xx status.

    Example:
        payload = verify_webhook(os.environ["WEBHOOK_SECRET"], request.headers, await request.body())

    Args:
        secret: what `sessionfleet keys webhook` prints, `whsec_...`.
        headers: of the request, in any capitalisation.
        body: of the request, exactly as it arrived: JSON that was parsed and written again has other bytes.
        tolerance: seconds by which the sender's clock and yours may differ, including the time in transit.

    Raises:
        InvalidWebhook: it is not a webhook, or was changed, or is too old: answer 400, and ignore its contents.
        BadRequest: the secret is not valid.
    """
    try:
        key = parse_secret(secret)
    except ValueError as error:
        raise BadRequest(f"secret: {error}") from None
    message_id, stamp, signatures = _parts({name.lower(): value for name, value in headers.items()})
    _check_time(stamp, tolerance)
    data = body.encode() if isinstance(body, str) else body
    wanted = _signature(key, message_id, stamp, data).encode()
    offered = [signature.partition(",") for signature in signatures.split()]
    if not any(version == _VERSION and hmac.compare_digest(wanted, one.encode()) for version, _, one in offered):
        raise InvalidWebhook(
            "none of this webhook's signatures was made with this secret over this body: compare the secret with "
            "what `sessionfleet keys webhook` prints for the tenant, and pass the body as it arrived"
        )
    return _payload(data)


def _parts(headers: Mapping[str, str]) -> tuple[str, str, str]:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    missing = [name for name in names if not headers.get(name)]
    if missing:
        raise InvalidWebhook(f"the request has no header {missing[0]!r}")
    return headers[names[0]], headers[names[1]], headers[names[2]]


def _check_time(stamp: str, tolerance: float) -> None:
    try:
        age = time.time() - float(stamp)
    except ValueError:
        age = math.nan
    if not abs(age) <= tolerance:  # `not ... <=` also refuses NaN
        raise InvalidWebhook(
            f"the webhook's timestamp is not within {tolerance:g} s of this machine's clock: it is an old webhook "
            "sent again, or one of the clocks is wrong"
        )


def _payload(data: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(data)
    except ValueError as error:
        raise InvalidWebhook("the webhook's body is not JSON") from error
    if not isinstance(payload, dict):
        raise InvalidWebhook("the webhook's body is not a JSON object")
    return payload


def _signature(secret: bytes, message_id: str, stamp: str, body: bytes) -> str:
    signed = b".".join((message_id.encode(), stamp.encode(), body))
    return base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
