"""Answers about servers that a worker keeps, encoded, as long as nothing that they show has changed.

Making the view of a server from its record, ports, host and the names of networks and groups costs as much as ten
requests that find it made. So a worker keeps what it has made, in a *form*: for a microversion, for admins or others,
for what links begin with, single or in a list.

SAFETY: an answer is never trusted by its age. The store says which servers look different since when
(``state/shown.py``), in the commit that changed them, whatever command did; :meth:`Kept.follow` reads that up to the
snapshot of the request before anything is taken, and drops what it names. What is kept is bounded in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from nova_fast.api.compute.server_view import ServerView
from nova_fast.api.framework.request import Request
from nova_fast.model.servers import Server
from nova_fast.queries import servers as queries
from nova_fast.queries.reading import Reader

#: Of all forms together, about 18,000 servers in detail; half of each form goes when it is full.
BYTES_MAX = 32 << 20
#: What an entry costs beside its bytes: two objects and its share of a table.
ENTRY_BYTES = 200
#: What a link begins with is what the client says, so there may be any number of forms.
FORMS_MAX = 32
#: The forms of one view.
BRIEF, DETAIL, SINGLE = range(3)

_NOTHING = ("", b"")
_encode = msgspec.json.Encoder().encode
#: What is kept, by the servers' keys: a row, or the server's project and the whole answer about it.
Form = dict[bytes, Any]


class Kept:
    """The answers that one worker keeps."""

    def __init__(self) -> None:
        self._forms: dict[tuple[Any, ...], Form] = {}
        self._commit = -1
        self._number = -1
        self.size = 0  # bytes of all forms

    def follow(self, snapshot: Reader) -> bool:
        """Drop what looks different by now. Whether answers may be taken and put: not in an older state than before."""
        commit = snapshot.commit()
        if commit == self._commit:
            return True
        if commit < self._commit:
            return False
        changed = snapshot.shown_changes(self._number)
        if changed is None:
            self.forget()
        else:
            for form in self._forms.values():
                for key in changed:
                    dropped = form.pop(key, None)
                    if dropped is not None:
                        self.size -= _size(dropped)
        self._number, self._commit = snapshot.shown_number()[0], commit
        return True

    def form(self, name: tuple[Any, ...]) -> Form:
        """What is kept in a form, by the servers' keys."""
        form = self._forms.get(name)
        if form is None:
            if len(self._forms) >= FORMS_MAX:
                self._drop(min(self._forms, key=lambda name: len(self._forms[name])))
            form = self._forms[name] = {}
        return form

    def put(self, form: Form, key: bytes, answer: bytes | tuple[str, bytes]) -> None:
        """Keep an answer that was made of the state that was followed last."""
        form[key] = answer
        self.size += _size(answer)
        if self.size > BYTES_MAX:
            self._halve()

    def forget(self) -> None:
        """Drop everything."""
        self._forms.clear()
        self.size = 0

    def _halve(self) -> None:
        for form in self._forms.values():
            for key in list(islice(form, (len(form) + 1) // 2)):
                self.size -= _size(form.pop(key))

    def _drop(self, name: tuple[Any, ...]) -> None:
        self.size -= sum(map(_size, self._forms.pop(name).values()))


def _size(answer: bytes | tuple[str, bytes]) -> int:
    return ENTRY_BYTES + len(answer if isinstance(answer, bytes) else answer[1])


def single(request: Request, snapshot: Reader, server_id: str) -> bytes:
    """The whole body for one server. Raises NotFound when the caller may not see it."""
    kept, caller = request.kept(Kept), request.caller
    form: Form = {}
    usable = kept.follow(snapshot)
    key = server_id.encode(errors="surrogatepass") + b"\0"
    if usable:
        form = kept.form((SINGLE, caller.is_admin, request.version, *request.link_facts))
    kept_of: tuple[str, bytes] = form.get(key, _NOTHING)
    project_id, answer = kept_of
    if answer and caller.may_see(project_id):
        return answer
    server = queries.visible_server(snapshot, caller, server_id)
    answer = _encode({"server": ServerView(request, snapshot).detail(server, single=True)})
    if usable:
        kept.put(form, key, (server.project_id, answer))
    return answer


class ServerRows:
    """The rows of a list for one request, encoded: kept ones, or made anew."""

    def __init__(self, request: Request, snapshot: Reader) -> None:
        self._request = request
        self._snapshot = snapshot
        self._kept = request.kept(Kept)
        self._usable = self._kept.follow(snapshot)
        self._view: ServerView | None = None

    def rows(self, kind: int, keys: Sequence[bytes]) -> list[bytes]:
        """One row for each key, in order."""
        form = self._form(kind)
        rows = list(map(form.get, keys))
        if None in rows:
            places = [place for place, row in enumerate(rows) if row is None]
            servers = queries.servers_of(self._snapshot, [keys[place] for place in places])
            for place, server in zip(places, servers, strict=True):
                rows[place] = self._row(form, kind, keys[place], server)
        return rows  # type: ignore[return-value]  # none is missing now

    def _row(self, form: Form, kind: int, key: bytes, server: Server) -> bytes:
        if self._view is None:
            self._view = ServerView(self._request, self._snapshot)
        row = _encode(self._view.detail(server) if kind == DETAIL else self._view.brief(server))
        if self._usable:
            self._kept.put(form, key, row)
        return row

    def _form(self, kind: int) -> Form:
        if not self._usable:
            return {}
        request = self._request
        return self._kept.form((kind, request.caller.is_admin, request.version, *request.link_facts))
