"""What a receiver of webhooks imports: `verify_webhook`."""

from sessions.protocol.webhook_signature import verify_webhook

__all__ = ["verify_webhook"]
