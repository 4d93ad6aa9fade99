"""Regular expressions of users, matched in linear time.

List filters take expressions, as the database of the original does. A backtracking engine can be made to work for ever
by a short expression, so what is given is turned into a nondeterministic automaton and walked state set by state set:
the work is at most the length of the text times the size of the expression, and sets once seen are remembered.

Understood are literals, ``.``, classes, groups, ``|``, ``* + ? {m,n}`` (lazy or not: it makes no difference to whether
something is found), ``^``, ``$`` and the escapes ``\\d \\w \\s \\D \\W \\S``. Back references and look-around are
refused.
"""

from __future__ import annotations

from collections.abc import Callable

from nova_fast.model.errors import BadRequest

CHARACTERS_MAX = 255
STATES_MAX = 2000  # of one expression
_DEPTH_MAX = 20
_REMEMBERED_MAX = 5000  # transitions
_META = frozenset("[]{}()*+?|^$\\.")

Accepts = Callable[[str], bool]

_CLASSES: dict[str, Accepts] = {
    "d": str.isdigit,
    "w": lambda c: c.isalnum() or c == "_",
    "s": str.isspace,
    "D": lambda c: not c.isdigit(),
    "W": lambda c: not (c.isalnum() or c == "_"),
    "S": lambda c: not c.isspace(),
}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r"}


def searcher(text: str, field: str) -> Callable[[str], bool]:
    """Whether a text contains what an expression says. Raises BadRequest that names the field."""
    if len(text) > CHARACTERS_MAX:
        raise BadRequest(f"The filter {field} is too long.", field=field)
    if not _META & set(text):
        return lambda value: text in value
    try:
        return _Automaton(text).search
    except _WrongError as error:
        raise BadRequest(f"The expression of filter {field} is not valid: {error}", field=field) from None


class _WrongError(Exception):
    """What is wrong with an expression."""


class _Automaton:
    """States are numbers; each consumes a character, or leads on without one (``_free``)."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._accepts: list[Accepts | None] = []
        self._free: list[list[int]] = []
        self._next: list[int] = []
        self._begins: set[int] = set()  # passable only where the text begins
        self._ends: set[int] = set()  # passable only where it ends
        self._known: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._start, self._final = self._alternatives(0)
        if self._at < len(text):
            raise _WrongError("an unmatched )")

    def search(self, value: str) -> bool:
        """Whether the expression matches somewhere in a text."""
        final, last = self._final, len(value)
        states = self._closure({self._start}, begin=True, end=last == 0)
        for position, character in enumerate(value, 1):
            if final in states:
                return True
            ends = position == last
            key = (states, character)
            known = None if ends else self._known.get(key)
            if known is None:
                after = {self._next[s] for s in states if (a := self._accepts[s]) is not None and a(character)}
                known = self._closure({*after, self._start}, begin=False, end=ends)
                if not ends and len(self._known) < _REMEMBERED_MAX:
                    self._known[key] = known
            states = known
        return final in states

    def _closure(self, states: set[int], *, begin: bool, end: bool) -> frozenset[int]:
        found: set[int] = set()
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state in found:
                continue
            found.add(state)
            if (state in self._begins and not begin) or (state in self._ends and not end):
                continue
            waiting += self._free[state]
        return frozenset(found)

    # ------------------------------------------------------------------ building
    def _state(self, accepts: Accepts | None = None) -> int:
        if len(self._accepts) >= STATES_MAX:
            raise _WrongError("it is too large")
        self._accepts.append(accepts)
        self._free.append([])
        self._next.append(-1)
        return len(self._accepts) - 1

    def _one(self, accepts: Accepts) -> tuple[int, int]:
        begin, end = self._state(accepts), self._state()
        self._next[begin] = end
        return begin, end

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _take(self, what: str) -> bool:
        if self._text.startswith(what, self._at):
            self._at += len(what)
            return True
        return False

    def _alternatives(self, depth: int) -> tuple[int, int]:
        if depth > _DEPTH_MAX:
            raise _WrongError("groups are nested too deep")
        begin, end = self._state(), self._state()
        while True:
            first, last = self._sequence(depth)
            self._free[begin].append(first)
            self._free[last].append(end)
            if not self._take("|"):
                return begin, end

    def _sequence(self, depth: int) -> tuple[int, int]:
        begin = end = self._state()
        while self._peek() not in ("", "|", ")"):
            start = self._at
            first, last = self._atom(depth)
            least, most = self._repetition()
            if (least, most) != (1, 1):
                first, last = self._repeated(start, (first, last), (least, most), depth)
            self._free[end].append(first)
            end = last
        return begin, end

    def _repeated(
        self, start: int, atom: tuple[int, int], times: tuple[int, int | None], depth: int
    ) -> tuple[int, int]:
        """The atom that begins at ``start``, several times: its text is read again for each copy."""
        behind = self._at
        least, most = times
        copies = [atom]
        while len(copies) < max(least, most or 0, 1):
            self._at = start
            copies.append(self._atom(depth))
        self._at = behind
        begin = end = self._state()
        out = self._state()
        for number, (first, last) in enumerate(copies):
            if number >= least:
                self._free[end].append(out)
            if most == 0:
                break
            self._free[end].append(first)
            end = last
        self._free[end].append(out)
        if most is None:
            self._free[end].append(copies[-1][0])
        return begin, out

    def _repetition(self) -> tuple[int, int | None]:
        times: tuple[int, int | None] = (1, 1)
        if self._take("*"):
            times = (0, None)
        elif self._take("+"):
            times = (1, None)
        elif self._take("?"):
            times = (0, 1)
        elif self._peek() == "{" and (bounds := self._bounds()) is not None:
            times = bounds
        else:
            return times
        self._take("?")  # lazy
        if self._peek() in ("*", "+", "?") and self._peek():
            raise _WrongError("a repetition of a repetition")
        return times

    def _bounds(self) -> tuple[int, int | None] | None:
        """``{m}``, ``{m,}``, ``{,n}``, ``{m,n}``; anything else in braces is literal."""
        close = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : close].partition(",") if close > 0 else ("", "", "")
        digits = (least, most) if comma else (least,)
        if not any(digits) or not all(part == "" or (part.isascii() and part.isdigit()) for part in digits):
            return None
        self._at = close + 1
        low = int(least or 0)
        high = (int(most) if most else None) if comma else low
        if low > CHARACTERS_MAX or (high is not None and not low <= high <= CHARACTERS_MAX):
            raise _WrongError("a repetition out of bounds")
        return low, high

    def _atom(self, depth: int) -> tuple[int, int]:
        character = self._peek()
        self._at += 1
        if character == "(":
            if self._take("?") and not self._take(":"):
                raise _WrongError("this kind of group is not supported")
            inside = self._alternatives(depth + 1)
            if not self._take(")"):
                raise _WrongError("a ( without its )")
            return inside
        if character in ("^", "$"):
            state, end = self._state(), self._state()
            (self._begins if character == "^" else self._ends).add(state)
            self._free[state].append(end)
            return state, end
        if character == ".":
            return self._one(lambda c: c != "\n")
        if character == "[":
            return self._one(self._class())
        if character == "\\":
            return self._one(self._escape())
        if character in ("*", "+", "?"):
            raise _WrongError("nothing to repeat")
        return self._one(character.__eq__)

    def _escape(self) -> Accepts:
        character = self._peek()
        self._at += 1
        if character in _CLASSES:
            return _CLASSES[character]
        if character in _CONTROLS:
            return _CONTROLS[character].__eq__
        if not character or (character.isascii() and character.isalnum()):
            raise _WrongError(f"the escape \\{character} is not supported")
        return character.__eq__

    def _class(self) -> Accepts:
        negated = self._take("^")
        members: list[Accepts] = []
        first = True
        while first or self._peek() != "]":
            if not self._peek():
                raise _WrongError("a [ without its ]")
            members.append(self._member())
            first = False
        self._at += 1
        return lambda c: any(member(c) for member in members) is not negated

    def _member(self) -> Accepts:
        low = self._peek()
        self._at += 1
        if low == "\\":
            return self._escape()
        high = self._text[self._at + 1 : self._at + 2]
        if self._peek() != "-" or high in ("", "]"):
            return low.__eq__
        self._at += 2
        if high == "\\" or high < low:
            raise _WrongError("a range that goes backwards")
        return lambda c: low <= c <= high
