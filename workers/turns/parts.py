"""What running turns takes in a worker process. `workers.process.process` makes each part once, at start-up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker_config.settings import Settings
from sessions.store.files import FileStore
from sessions.store.leases import LeaseStore
from sessions.store.rota import Rota
from sessions.store.wake_up import Publish
from workers.engine import Engine
from workers.lease.heartbeat import Heartbeat
from workers.lease.lost_leases import LostLeases
from workers.retrieval_role.extraction import FactExtraction
from workers.retrieval_role.recall import Recaller
from workers.retrieval_role.runner import RetrievalRunner
from workers.teams.runner import TeamRunner
from workers.turns.archive_writer import ArchiveWriter
from workers.turns.budgets import Budgets
from workers.turns.compaction import Compaction
from workers.turns.model_limits import ModelLimiter
from workers.turns.packing import HistoryPacking
from workers.turns.states import TurnStates
from workers.turns.titles import TitleWriting
from workers.turns.webhook_delivery import WebhookDelivery


@dataclass(frozen=True, slots=True)
class TurnParts:
    """The parts that `TurnRunner` and `Execution` share.

    Attributes:
        publish: publishes a wake-up; False if that failed.
        model_of: the model of an agent whose configuration names none, by the agent's name.
    """

    settings: Settings
    leases: LeaseStore
    heartbeat: Heartbeat
    lost_leases: LostLeases
    engine: Engine
    states: TurnStates
    files: FileStore
    recaller: Recaller
    facts: FactExtraction
    titles: TitleWriting
    compaction: Compaction
    teams: TeamRunner
    retrieval: RetrievalRunner
    webhooks: WebhookDelivery
    archive: ArchiveWriter
    model_limits: ModelLimiter
    budgets: Budgets
    rota: Rota
    packing: HistoryPacking
    publish: Publish
    model_of: Callable[[str], str]
