"""Why a turn was not accepted, as an error."""

from __future__ import annotations

from sessions.errors import ScheduleNotFound, SessionBusy, SessionfleetError, TurnNotFound
from sessions.protocol.access import refused
from sessions.store.files import unknown_file
from sessions.store.keys import SessionKeys
from sessions.store.submission import Submission
from sessions.store.transitions.shared import Full, OtherOwner
from sessions.store.transitions.turns import NoFile, NothingToReplace, Open, Passed, Skipped

Refused = Open | OtherOwner | Full | NoFile | NothingToReplace | Passed | Skipped


def refusal(keys: SessionKeys, submission: Submission, reply: Refused) -> SessionfleetError:
    """The error for a reply of the script that accepts turns."""
    session = f"session {keys.session_id!r}"
    match reply:
        case Open(count=count):
            return SessionBusy(
                f"{session} has {count} open turns, and the policy is 'reject'; wait for them to end, or send it with "
                "another policy",
                policy=str(submission.policy),
            )
        case Full(count=count):
            return SessionBusy(
                f"{session} has {count} turns waiting or scheduled, which is the limit (SESSIONFLEET_MAILBOX_LIMIT); "
                "wait for some to end, then try again"
            )
        case OtherOwner():
            return refused(keys.session_id, submission.sender or submission.user_id)
        case NoFile(id=file_id):
            return unknown_file(keys, file_id)
        case NothingToReplace():
            return _nothing_to_replace(keys, submission)
        case Passed() | Skipped():  # a client that triggers a schedule is not told that it was skipped
            return ScheduleNotFound(f"{session}: {ScheduleNotFound.__doc__}")


def _nothing_to_replace(keys: SessionKeys, submission: Submission) -> TurnNotFound:
    wanted = submission.replacement
    if wanted is None or wanted.turn is None:
        return TurnNotFound(f"session {keys.session_id!r} has no committed turn that could be replaced")
    return TurnNotFound(
        f"turn {keys.public_id(wanted.turn)!r} is not in the history of session {keys.session_id!r}: it was not "
        "committed, was deleted, or was replaced by another turn (`branches()` lists those that were)"
    )
