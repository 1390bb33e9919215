"""The client of a fleet: what `Session` and the command line send requests through."""

from sessions.client.fleet_client import FleetClient
from sessions.client.per_process import fleet_info, get_client

__all__ = ["FleetClient", "fleet_info", "get_client"]
