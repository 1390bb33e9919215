"""Settings, and clients of the servers behind a fleet."""

from broker_config.settings import Settings, SettingsError, load_settings, queue_name

__all__ = ["Settings", "SettingsError", "load_settings", "queue_name"]
