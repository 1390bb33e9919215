"""`TeamRun`: one run of a team, a turn whose result is a `TeamResult`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from broker_config.settings import Settings
from sessions.api.session import Session
from sessions.api.turn import Turn
from sessions.client.arguments.values import seconds, short_string, webhook_url
from sessions.client.output_type import OutputType
from sessions.client.per_process import get_client
from sessions.protocol.agent import AgentConfig
from sessions.protocol.team import TeamSpec
from sessions.protocol.team_result import TeamResult
from sessions.protocol.turn import TurnRequest
from sessions.store.keys import keyed_session_id, new_session_id, split_turn_id
from sessions.store.submission import Submission


class TeamRun(Turn):
    """One run of a team: a turn in a session of its own. Each of its tasks is another turn.

    `result()` returns a `TeamResult`; `events()` also contain `task_started` and `task_ended`; `cancel()` cancels the
    tasks too.

    Attributes:
        id: any other process can continue with `TeamRun.attach(id)`.
    """

    @classmethod
    def attach(
        cls, run_id: str, *, user_id: str | None = None, tenant: str | None = None, settings: Settings | None = None
    ) -> Self:
        """A run by its id, from any process.

        Raises:
            InvalidTurnId: it is not the id of a run.
            SessionOwnerError: the run belongs to another user.
        """
        return cls._of(_session_of(run_id, user_id, tenant, settings).turn(run_id))

    @classmethod
    async def aattach(
        cls, run_id: str, *, user_id: str | None = None, tenant: str | None = None, settings: Settings | None = None
    ) -> Self:
        """A run by its id, from any process; see `attach`."""
        return cls._of(await _session_of(run_id, user_id, tenant, settings).aturn(run_id))

    @classmethod
    def _of(cls, turn: Turn) -> Self:
        return cls(turn._client, turn._keys, turn._part, OutputType.of(TeamResult))  # noqa: SLF001 - it is one

    async def aresult(self, timeout: float | None = None) -> TeamResult:
        """Wait for the run's end. A failed task does not raise; it is part of the result.

        Raises:
            ResultTimeout: it did not end in time.
            TurnFailed: the run itself was cancelled, missed its deadline, or the manager made no usable plan.
        """
        found: TeamResult = await super().aresult(timeout)
        return found

    def result(self, timeout: float | None = None) -> TeamResult:
        """Wait for the run's end; see `aresult`."""
        found: TeamResult = super().result(timeout)
        return found


@dataclass(frozen=True, slots=True)
class TeamSettings:
    """Where a team runs.

    Attributes:
        user_id: the run's owner; None for the owner of the agents' sessions.
        settings: of the fleet; None for the environment's.
    """

    user_id: str | None
    tenant: str | None
    settings: Settings | None


class RunRequest:
    """A request to run a team; its arguments are checked when it is made."""

    def __init__(
        self,
        spec: TeamSpec,
        team: TeamSettings,
        *,
        timeout: float | None,
        idempotency_key: str | None,
        webhook: str | None,
    ) -> None:
        self._spec = spec
        self._team = team
        self._timeout = None if timeout is None else seconds("timeout", timeout)
        self._key = None if idempotency_key is None else short_string("idempotency_key", idempotency_key)
        self._webhook = "" if webhook is None else webhook_url(webhook)
        self._client = get_client(team.settings)
        self._client.turns.check_message(spec.model_dump_json())

    async def submit(self) -> TeamRun:
        """Submit the run. Runs on the portal's event loop.

        Raises:
            SessionOwnerError: an agent's session belongs to another user than the run.
        """
        user_id = await self._owner()
        session = Session(
            _session_id(user_id, self._key),
            user_id,
            queue=self._spec.queue,
            tenant=self._team.tenant,
            settings=self._team.settings,
        )
        part = await self._client.turns.submit(session.keys, self._submission(user_id))
        return TeamRun(self._client, session.keys, part, OutputType.of(TeamResult))

    async def _owner(self) -> str | None:
        """The run's owner: the user of the team, otherwise the owner of the agents' sessions."""
        user_id = self._team.user_id
        for session_id in sorted({member.session for member in self._spec.members if member.session}):
            keys = self._client.keys(session_id, self._team.tenant)
            await self._client.ownership.check(keys, user_id)
            user_id = user_id or await self._client.ownership.owner(keys)
        return user_id

    def _submission(self, user_id: str | None) -> Submission:
        spec, settings = self._spec, self._client.settings
        manager = () if spec.manager is None else ((spec.manager, spec.queue),)
        return Submission(
            request=TurnRequest(message=f"{len(spec.tasks)} tasks, {spec.process}", agent="Team", team=spec),
            agent=AgentConfig(name="Team"),
            config=b"",
            user_id=user_id,
            queue=spec.queue,
            timeout=settings.turn_timeout if self._timeout is None else self._timeout,
            idempotency_key=self._key,
            webhook=self._webhook,
            # Nothing else deletes the session of a run, so it expires with the run's result.
            session_ttl=settings.result_ttl,
            hidden=True,
            colleagues=(*manager, *((member.config, member.queue) for member in spec.members)),
        )


def _session_id(user_id: str | None, idempotency_key: str | None) -> str:
    """A new session for each run. The same for the same idempotency key, because keys are recorded per session."""
    if idempotency_key is None:
        return f"team-{new_session_id()}"
    return f"team-{keyed_session_id(user_id or '', idempotency_key)}"


def _session_of(run_id: str, user_id: str | None, tenant: str | None, settings: Settings | None) -> Session:
    return Session(split_turn_id(run_id)[0], user_id, tenant=tenant, settings=settings)
