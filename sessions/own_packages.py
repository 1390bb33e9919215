"""Makes sure that `broker_config`, `sessions` and `workers` are Sessionfleet's packages and not the user's.

Applications use these names as well: `workers/tasks.py` is a common layout of Celery projects. Python looks in a
script's folder, and Celery in the working directory, before they look where Sessionfleet is installed. So our own
commands run their processes through this file, by its path:

    python -P own_packages.py MODULE [ARG ...]   like `python -m MODULE`, but our packages are always found first

Where a user's own command decides what is imported (`celery -A workers`), `require_own` fails with both paths. In an
editable install Python would otherwise import some modules of a package from one place, and some from the other.

Imports nothing of Sessionfleet, because that is what may be the wrong package.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType

NAMES = ("broker_config", "sessions", "workers")
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - sys.path takes strings


class HiddenPackage(RuntimeError):
    """Another module has the name of one of our packages and is imported instead of it.

    Not an ImportError: Celery would report only that there is no application, without this message.
    """


class FoundIn:
    """A finder for the head of `sys.meta_path`: finds these top-level modules in one folder, before `sys.path`."""

    def __init__(self, folder: str, names: Iterable[str]) -> None:
        self._folder = folder
        self._names = frozenset(names)

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec; None if the folder does not contain it, or only a namespace package of this name."""
        spec = PathFinder.find_spec(fullname, [self._folder]) if fullname in self._names else None
        return None if spec is None or spec.origin is None else spec


def own_program(module: str, *arguments: str) -> list[str]:
    """The command that runs a module as a program and finds our packages in any working directory."""
    # Not PYTHONSAFEPATH: the Python programs that users' tools start would inherit it.
    return [sys.executable, "-P", os.path.abspath(__file__), module, *arguments]  # noqa: PTH100


def add_working_directory(modules: Iterable[str]) -> None:
    """Let this process import from its working directory: these modules first, all others last.

    Modules that the user named are found in the working directory first, as Celery does it. Any other file there, such
    as a `redis.py`, must not replace a library.
    """
    here = os.getcwd()  # noqa: PTH109
    if here not in sys.path:
        sys.path.append(here)
    sys.meta_path.insert(0, FoundIn(here, {_top(module) for module in modules} - set(NAMES)))


def require_own(*names: str) -> None:
    """Check that these packages, imported or to be imported, are ours.

    Raises:
        HiddenPackage: one is not; the message has both paths.
    """
    for name in names:
        found = _place(_spec(name))
        if not _is_ours(name, found):
            raise HiddenPackage(
                f"Sessionfleet needs its own package {name!r} ({own_path(name)!r}), but Python finds {found!r} first: "
                "rename that module, or remove its folder from Python's search path; `sessionfleet worker` and "
                "`sessionfleet up` work in any directory"
            )


def hidden_here(name: str) -> str | None:
    """What Python imports instead of our package if it looks in the working directory first; None if it is ours."""
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError:  # it was removed
        return None
    spec = PathFinder.find_spec(name, [here, *sys.path])
    return None if spec is None or _is_ours(name, _place(spec)) else _place(spec)


def import_refused(module: str) -> str | None:
    """Why a module in SESSIONFLEET_IMPORTS cannot be the user's; None if it is not in a package with our name."""
    top = _top(module)
    if top not in NAMES:
        return None
    theirs = PathFinder.find_spec(top, [os.getcwd()])  # noqa: PTH109
    own = f"is in Sessionfleet's own package {top!r} ({own_path(top)!r})"
    if theirs is None or _is_ours(top, _place(theirs)):
        return f"{own}: name one of your modules"
    return f"{own}, which is imported instead of your {_place(theirs)!r}: rename yours"


def own_path(name: str) -> str:
    """The folder of our package with this name."""
    return os.path.join(_ROOT, name)  # noqa: PTH118


def run(module: str, arguments: list[str]) -> None:
    """Run a module as a program; from now on our packages are found first."""
    sys.meta_path.insert(0, FoundIn(_ROOT, NAMES))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ValueError:  # sys.modules has an object without a spec
        return None


def _place(spec: ModuleSpec | None) -> str | None:
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    return next(iter(folders), None) if folders is not None else spec.origin


def _is_ours(name: str, place: str | None) -> bool:
    return place is not None and os.path.realpath(place) == os.path.realpath(own_path(name))


def _top(module: str) -> str:
    return module.partition(".")[0]


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
