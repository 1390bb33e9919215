"""Signatures of webhooks, as Standard Webhooks (v1, symmetric) has them: made by workers, checked by receivers.

    webhook-id          names the message; the same at each try, so that a receiver tells a repetition
    webhook-timestamp   when this try was made, in seconds
    webhook-signature   `v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`, one for each secret

Each tenant has secrets of its own, derived from those of SESSIONFLEET_WEBHOOK_SECRETS: who may check one tenant's
webhooks cannot forge another's.
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
    """The secrets that a tenant's webhooks are signed with, one for each of the deployment's; none are set: none."""
    if settings.webhook_secrets is None:
        return ()
    secrets = parse_secrets(settings.webhook_secrets.get_secret_value())
    return tuple(hmac.digest(secret, _PURPOSE + tenant.encode(), "sha256") for secret in secrets)


def signed_headers(secrets: Sequence[bytes], message_id: str, body: bytes, *, at: int | None = None) -> dict[str, str]:
    """The three headers of a webhook.

    Args:
        secrets: of which each signs, so that a receiver may have any of them while they are changed.
        message_id: without a '.', which separates it from what follows.
        at: the time of this try in seconds; now when None.
    """
    stamp = str(int(time.time()) if at is None else at)
    signatures = [f"{_VERSION},{_signature(secret, message_id, stamp, body)}" for secret in secrets]
    return {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": " ".join(signatures)}


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes | str, *, tolerance: float = 300.0
) -> dict[str, Any]:
    """Check that a request is a webhook of this fleet, meant for this tenant, and of now; returns what it says.

    Deliveries may be repeated: remember `webhook-id`, and take each once. Answer with any 2xx status.

    Example:
        payload = verify_webhook(os.environ["WEBHOOK_SECRET"], request.headers, await request.body())

    Args:
        secret: what `sessionfleet keys webhook` prints, `whsec_...`.
        headers: of the request, in any spelling of upper and lower case.
        body: of the request, exactly as it came: JSON that was read and written again has other bytes.
        tolerance: seconds that the sender's clock and yours may differ, the way included.

    Raises:
        InvalidWebhook: it is none, or was changed, or is too old: answer 400, and do nothing of what it says.
        BadRequest: the secret is none.
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
            "no signature of this webhook was made with this secret over this body: compare the secret with what "
            "`sessionfleet keys webhook` prints for the tenant, and pass the body as it came"
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
    if not abs(age) <= tolerance:  # NaN is as wrong as what is old
        raise InvalidWebhook(
            f"the webhook's timestamp is not within {tolerance:g} s of this machine's clock: it is an old one sent "
            "again, or one of the clocks is wrong"
        )


def _payload(data: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(data)
    except ValueError as error:
        raise InvalidWebhook("the webhook's body is no JSON") from error
    if not isinstance(payload, dict):
        raise InvalidWebhook("the webhook's body is no JSON object")
    return payload


def _signature(secret: bytes, message_id: str, stamp: str, body: bytes) -> str:
    signed = b".".join((message_id.encode(), stamp.encode(), body))
    return base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
