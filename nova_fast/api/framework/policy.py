"""Who may call a route: a name in the declaration, a function here.

A project role counts only for a token scoped to a project; the role admin passes everywhere. Which objects exist for a
caller at all is not decided here but where the object is read (``Caller.may_see``).
"""

from __future__ import annotations

from collections.abc import Callable

from nova_fast.model.identity import Caller

Check = Callable[[Caller], bool]


def _project_role(role: str) -> Check:
    def check(caller: Caller) -> bool:
        return (bool(caller.project_id) and role in caller.roles) or "admin" in caller.roles

    return check


def _anybody(caller: Caller) -> bool:
    return True


def _admin(caller: Caller) -> bool:
    return "admin" in caller.roles


def _service(caller: Caller) -> bool:
    return "service" in caller.roles or "admin" in caller.roles


def _system_reader(caller: Caller) -> bool:
    return "admin" in caller.roles or (caller.system and "reader" in caller.roles)


#: "none" needs no token; "any" a valid one; "owner-user" lets the handler decide who owns the object.
POLICIES: dict[str, Check | None] = {
    "none": None,
    "any": _anybody,
    "owner-user": _anybody,
    "admin": _admin,
    "service": _service,
    "reader": _project_role("reader"),
    "member": _project_role("member"),
    "manager": _project_role("manager"),
    "system-reader": _system_reader,
}
