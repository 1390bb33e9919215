"""The caller of a request: which sessions it may touch, and what it may do with them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sessions.errors import Forbidden


class Right(StrEnum):
    """What a credential can allow."""

    READ = "read"  # look at sessions and what they contain
    WRITE = "write"  # turns, state, memory, knowledge
    APPROVE = "approve"  # decisions on tool calls: not for the people whom the agents serve
    CONFIGURE = "configure"  # instructions, tools and models; agents, teams, whatever a tenant shares
    ADMIN = "admin"  # the API keys of the tenant


ALL_RIGHTS: Final = frozenset(Right)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller.

    Attributes:
        tenant: whose sessions these are.
        user: the user; None: a backend of the tenant, which acts as the owner of a session.
        acts_for_users: whether it may name the user it acts for.
        id: whom limits count: `key:<id>`, `token:<user>`, or None without limits.
        rate, concurrency: its own limits; None: those in the settings.
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
            raise Forbidden(f"this needs the right {right.value!r}, which your credential does not have")

    def user_for(self, named: str | None) -> str | None:
        """The user it acts for: the one it names, if it may, otherwise itself.

        Raises:
            Forbidden: it names another user than itself.
        """
        if named is None or named == self.user:
            return self.user
        if not self.acts_for_users:
            raise Forbidden(
                f"you are not {named!r}: omit the user, or use an API key that acts for users (`sessionfleet keys "
                "api create --act-for-users`)"
            )
        return named
