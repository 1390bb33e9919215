"""Who asks: whose sessions a request may touch, and what it may do with them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sessions.errors import Forbidden


class Right(StrEnum):
    """What a credential may be good for."""

    READ = "read"  # look at sessions and what they have
    WRITE = "write"  # turns, state, memory, knowledge
    APPROVE = "approve"  # answers to what agents ask leave for: not for those whom the agents serve
    CONFIGURE = "configure"  # instructions, tools and models of one's own; agents, teams, what a tenant shares
    ADMIN = "admin"  # the API keys of the tenant


ALL_RIGHTS: Final = frozenset(Right)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        tenant: whose sessions these are.
        user: who it is; None: a backend of the tenant, which acts as whoever owns a session.
        acts_for_users: whether it may say for which user it asks.
        id: whom limits count: `key:<id>`, `token:<user>`, or None where there are none.
        rate, concurrency: limits of its own; None: those of the settings.
    """

    tenant: str
    user: str | None = None
    rights: frozenset[Right] = ALL_RIGHTS
    acts_for_users: bool = False
    id: str | None = None
    rate: int | None = None
    concurrency: int | None = None

    def need(self, right: Right) -> None:
        """Refuse what it has no right to.

        Raises:
            Forbidden: the credential lacks this right.
        """
        if right not in self.rights:
            raise Forbidden(f"this needs the right {right.value!r}, and your credential has not got it")

    def user_for(self, named: str | None) -> str | None:
        """For whom it asks: the user that it names, where it may, else itself.

        Raises:
            Forbidden: it names another user than itself.
        """
        if named is None or named == self.user:
            return self.user
        if not self.acts_for_users:
            raise Forbidden(
                f"you are not {named!r}: leave the user out, or use an API key that acts for users "
                "(`sessionfleet keys api create --act-for-users`)"
            )
        return named
