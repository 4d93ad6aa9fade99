from collections.abc import Iterable, Sequence

from nova_fast._ext.rows import ExtraTerm, HostRow, Multipliers, Ranking, RequestClass, Taken

HOST_UP: int
HOST_ENABLED: int

# Columns that a Sieve compares.
RAM_FREE: int
VCPUS_FREE: int
DISK_FREE: int
IO_OPS: int
SERVERS: int

class HostTable:
    # From how many rows on a class that was not asked hears of changes with the questions of others.
    def __init__(self, index_bytes_max: int = ..., spread_rows: int = ...) -> None: ...
    @property
    def profiles(self) -> int: ...  # 1 + the highest profile that a row ever had
    @property
    def rows(self) -> int: ...  # rows ever used: every row is below
    @property
    def bytes(self) -> int: ...  # what the rows and their log take
    @property
    def index_bytes(self) -> int: ...  # what the classes' indexes take
    def __len__(self) -> int: ...
    def add(self) -> int: ...
    def remove(self, row: int) -> None: ...
    def put(self, row: int, values: HostRow) -> None: ...
    def get(self, row: int) -> tuple[int, int, int, int, float, int, int, int, int, int, int, int, int]: ...
    def change(self, row: int, ram: int, vcpus: int, disk: int, io_ops: int = 0, servers: int = 0) -> None: ...
    def set_version(self, profile: int, version: int) -> None: ...
    def define(self, request: RequestClass) -> HostClass: ...
    # For idle moments: let the classes furthest behind hear of so many changes each; how many classes did.
    def tend(self, classes: int = 1, changes: int = ..., looks: int = ...) -> int: ...
    def sieve(self) -> Sieve: ...  # all hosts, before any filter

class HostClass:
    """Requests that agree in all the table sees. Every question raises RuntimeError while a profile has no verdict."""

    @property
    def evaluated(self) -> int: ...  # profiles with a verdict; below HostTable.profiles: extend it
    @property
    def statistics(self) -> dict[str, int]: ...  # counters of the index, for benchmarks and tests
    def extend(
        self, io_limits: Sequence[int], server_limits: Sequence[int], multipliers: Sequence[Multipliers] | None = None
    ) -> None: ...
    def best(self, wanted: int = 1) -> Ranking: ...
    def place(self, count: int, taken: Taken) -> Ranking: ...  # fewer when there is no more room
    def place_among(self, count: int, taken: Taken, shown: int) -> list[tuple[int, Ranking]]: ...
    # and for each how many passed, and the best, its own first
    def masked(
        self,
        only: Iterable[int] | None = None,
        without: Iterable[int] | None = None,
        extra: Sequence[ExtraTerm] = (),
        wanted: int = 1,
    ) -> Ranking: ...
    def scan(self, wanted: int = 1) -> Ranking: ...  # best() without the index: for tests and benchmarks
    def ties(
        self,
        only: Iterable[int] | None = None,
        without: Iterable[int] | None = None,
        extra: Sequence[ExtraTerm] = (),
        wanted: int = 1,
    ) -> tuple[Ranking, Sieve]: ...  # masked(), and all rows whose score equals the best
    def count(self) -> int: ...  # how many pass, through the index
    def nth(self, nth: int) -> int: ...  # the nth that passes by row (from 0), through the index
    def least_used(
        self, only: Iterable[int] | None = None, without: Iterable[int] | None = None, wanted: int = 1
    ) -> Ranking: ...  # score: -(vCPUs taken)
    def sieve(self, only: Iterable[int] | None = None, without: Iterable[int] | None = None) -> Sieve: ...  # who passes
    def room(self, taken: Taken, only: Iterable[int] | None = None, without: Iterable[int] | None = None) -> int: ...
    # how many more servers that take so much fit on the hosts that pass, without placing them

class Sieve:
    """A set of rows, narrowed filter by filter.

    One at a time: the next sieve, full pass or write of the table ends it (RuntimeError).
    Each narrowing returns how many rows are left.
    """

    @property
    def count(self) -> int: ...
    def nth(self, nth: int) -> int: ...
    def some(self, limit: int) -> list[int]: ...  # the first so many
    def flags(self, wanted: int) -> int: ...
    def profiles(self, passes: Sequence[bool] | bytes) -> int: ...  # one for each profile
    def at_least(self, column: int, amount: int) -> int: ...
    def below(self, column: int, limits: Sequence[int]) -> int: ...  # one for each profile, or NEVER
    def only(self, rows: Iterable[int]) -> int: ...
    def without(self, rows: Iterable[int]) -> int: ...
    def count_at_least(self, column: int, amount: int) -> int: ...  # what at_least would leave, without narrowing
    def by_profile(self) -> list[int]: ...  # how many rows each profile has
