# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The fleet's table, its classes of requests and their exact indexes: Python manners over the C of ``fleet_*.h``.

Argument checks, a free list, memory errors as exceptions; who is who and what a profile means are Python's. Every write
to a row is logged (``fleet_log``), and every class reads the log before it answers, so an index never is behind.

Nothing here gives the interpreter's lock away: a decision takes microseconds, and a table belongs to one thread.
"""

from cpython.array cimport array
from libc.math cimport isfinite
from libc.stdint cimport INT32_MAX, int32_t, int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fleet cimport *

HOST_UP = FLAG_UP
HOST_ENABLED = FLAG_ENABLED
globals().update(RAM_FREE=RAM_FREE, VCPUS_FREE=VCPUS_FREE, DISK_FREE=DISK_FREE, IO_OPS=IO_OPS, SERVERS=SERVERS)

cdef enum:
    FEW = 64  # rows that a ranking keeps by insertion; who wants more gets everything sorted
    CLASSES_MAX = 4096
    TERMS_EXTRA = 16
    TENDED_QUESTIONS = 4096  # a class that was not asked in the last so many is not tended
    SPREAD_MIN = 32  # changes that a class must be behind to be tended between two questions; in a smaller table
    SPREAD_MIN_SMALL = 96  # more, because there is less to look at when it is asked
    SPREAD_LOOKED = 8  # classes at most, to find such a one
    SPREAD_SMALL_SHIFT = 6  # of a class's blocks, up to 16,384 rows
    SPREAD_CHANGES = 256  # of which it hears at once
    SPREAD_SHIFT = 5  # and looks at 2 blocks of 64 rows, 4 of 128 or 8 of 256

INDEX_BYTES_MAX = 256 * 1024 * 1024
SPREAD_ROWS = 4096  # PERF: in a smaller table there is next to nothing to look at


cdef inline tuple plain(values):
    """PERF: a named tuple is no exact tuple; said to be one, it unpacks without an iterator."""
    if not isinstance(values, tuple):
        raise TypeError("a tuple is wanted")
    return <tuple>values


cdef inline double multiplier_of(value) except? -1.0:
    cdef double multiplier = value
    if not isfinite(multiplier) or abs(multiplier) > 1e100:
        raise ValueError("a weight multiplier must be a finite number of at most 1e100")
    return multiplier


cdef inline double finite(double value) except? -1.0:
    if not isfinite(value):
        raise ValueError("a term's values must be finite")
    return value


cdef int read_taken(values, taken *d) except -1:
    d.ram, d.vcpus, d.disk, d.io_ops, d.servers = plain(values)
    return 0


cdef list ranked(ranking *top, int64_t wanted):
    cdef int64_t i
    return [(top.at[i].row, top.at[i].score) for i in range(min(top.got, wanted))]


cdef class HostTable:
    """Hosts as rows; a row's number stays its own until it is removed."""

    cdef fleet table
    cdef list free_rows
    cdef dict classes
    cdef list turns  # the classes, as far as they were known when the last round began
    cdef int64_t turn
    cdef int64_t index_bytes_max, spread_rows, clock
    cdef double *scratch[TERMS_EXTRA]  # room for further terms; all 0 but after a term with a value for each row
    cdef bint is_used[TERMS_EXTRA]  # it was such a term
    cdef int64_t scratch_rows

    def __cinit__(self, int64_t index_bytes_max=INDEX_BYTES_MAX, int64_t spread_rows=SPREAD_ROWS):
        self.free_rows = []
        self.classes = {}
        self.turns = []
        self.index_bytes_max = index_bytes_max
        self.spread_rows = spread_rows

    def __dealloc__(self):
        fleet_free(&self.table)
        self.free_scratch()

    def __len__(self):
        return self.table.rows - len(self.free_rows)

    @property
    def profiles(self):
        """1 + the highest profile that a row ever had."""
        return self.table.profiles

    @property
    def rows(self):
        """Rows ever used; every row is below."""
        return self.table.rows

    @property
    def bytes(self):
        """The memory of the rows and of their log."""
        return fleet_bytes(&self.table)

    @property
    def index_bytes(self):
        """The memory of all classes' indexes."""
        cdef HostClass known
        cdef int64_t total = 0
        for known in self.classes.values():
            total += known.index.bytes
        return total

    def add(self):
        """Take a row for a new host and return its number; the host cannot be chosen before :meth:`put`."""
        cdef int64_t row
        if self.free_rows:
            row = self.free_rows.pop()
        else:
            row = self.table.rows
            if row == INT32_MAX - BLOCK:
                raise MemoryError("a table has no room for more hosts")
            if row == self.table.capacity and fleet_grow(&self.table, max(<int64_t>BLOCK, 2 * row)) != 0:
                raise MemoryError("no memory for more hosts")
            fleet_append(&self.table)
        self.table.column[RAM_FREE][row] = -1
        self.table.column[WHO][row] = flags_in_place(FLAG_HOST)
        return row

    def remove(self, int64_t row):
        """Give a row back."""
        self.check_row(row)
        cdef weights before = row_weights(&self.table, row)
        self.table.column[WHO][row] = 0
        fleet_log(&self.table, row, &before)
        self.free_rows.append(row)

    def put(self, int64_t row, values):
        """Write a host's row: a ``HostRow``. ValueError for another shape, OverflowError beyond 32 bits."""
        self.check_row(row)
        cdef int32_t ram_free, vcpus_free, disk_free, ram_weight, disk_weight, io_ops, servers, used, failed, pci, flags
        cdef int32_t profile
        cdef double cpu_total
        (ram_free, vcpus_free, disk_free, ram_weight, cpu_total, disk_weight, io_ops, servers, used, failed, pci, profile,
         flags) = plain(values)
        if io_ops < 0 or servers < 0 or used < 0 or failed < 0 or pci < 0 or profile < 0:
            raise ValueError("counts and ids of a host cannot be negative")
        if io_ops == INT32_MAX or servers == INT32_MAX or used == INT32_MAX:
            raise OverflowError("a count of a host is too large")
        if not isfinite(cpu_total) or abs(cpu_total) > 1e15:
            raise ValueError("a host's virtual CPUs must be a finite number of at most 1e15")
        if profile >= self.table.profiles:
            self.know_profile(profile)
        cdef int32_t **column = self.table.column
        cdef weights before = row_weights(&self.table, row)
        column[RAM_FREE][row] = ram_free
        column[VCPUS_FREE][row] = vcpus_free
        column[DISK_FREE][row] = disk_free
        column[RAM_WEIGHT][row] = ram_weight
        self.table.cpu_total[row] = cpu_total
        column[DISK_WEIGHT][row] = disk_weight
        column[IO_OPS][row] = io_ops
        column[SERVERS][row] = servers
        column[VCPUS_USED][row] = used
        column[FAILED_BUILDS][row] = failed
        column[PCI_WEIGHT][row] = pci
        column[VERSION][row] = self.table.versions[profile]
        column[WHO][row] = profile | flags_in_place(FLAG_HOST | (flags & (FLAG_UP | FLAG_ENABLED)))
        fleet_log(&self.table, row, &before)

    def get(self, int64_t row):
        """The row as a plain tuple in ``HostRow``'s order."""
        self.check_row(row)
        cdef int32_t **column = self.table.column
        return (
            column[RAM_FREE][row], column[VCPUS_FREE][row], column[DISK_FREE][row], column[RAM_WEIGHT][row],
            self.table.cpu_total[row], column[DISK_WEIGHT][row], column[IO_OPS][row], column[SERVERS][row],
            column[VCPUS_USED][row], column[FAILED_BUILDS][row], column[PCI_WEIGHT][row],
            column[WHO][row] & PROFILE_BITS, (column[WHO][row] >> FLAGS_SHIFT) & (FLAG_UP | FLAG_ENABLED),
        )

    def change(self, int64_t row, int64_t ram, int64_t vcpus, int64_t disk, int64_t io_ops=0, int64_t servers=0):
        """Take from a row (negative: give back). OverflowError, and nothing changed, when a column would leave its bounds."""
        self.check_row(row)
        cdef taken d = taken(ram, vcpus, disk, io_ops, servers)
        cdef weights before = row_weights(&self.table, row)
        if fleet_take(&self.table, row, &d) != 0:
            raise OverflowError("a host's count would be negative or beyond 32 bits")
        fleet_log(&self.table, row, &before)

    def set_version(self, int64_t profile, int32_t version):
        """Say what HypervisorVersionWeigher sees of the hosts of a profile (0 until said)."""
        cdef int64_t row
        cdef int32_t *who = self.table.column[WHO]
        cdef weights before
        if profile < 0:
            raise ValueError("a profile cannot be negative")
        if profile >= self.table.profiles:
            self.know_profile(profile)
        if self.table.versions[profile] == version:
            return
        self.table.versions[profile] = version
        for row in range(self.table.rows):
            if who[row] & PROFILE_BITS == profile and who[row] & flags_in_place(FLAG_HOST):
                before = row_weights(&self.table, row)
                self.table.column[VERSION][row] = version
                fleet_log(&self.table, row, &before)
        fleet_expect(&self.table, TERM_VERSION, version)

    def define(self, request):
        """The class of a ``RequestClass``: equal ones share it while it is remembered."""
        cdef HostClass known = self.classes.get(request)
        if known is None:
            known = HostClass(self, request)
            if len(self.classes) >= CLASSES_MAX:
                self.forget_half()
            self.classes[request] = known
        known.used_at = self.clock
        return known

    def tend(self, int64_t classes=1, int64_t changes=INT32_MAX, int64_t looks=INT32_MAX):
        """Spend an idle moment: bring the classes up to date that are furthest behind; returns how many were looked at.

        Nothing depends on it. A class that is seldom asked pays for all that happened meanwhile when it is; this pays before,
        for at most so many changes of each class in one call, and so many blocks to be looked at. Classes that would have to
        learn all hosts anew, and those that nobody asked for a long time, are left alone.
        """
        cdef HostClass known, furthest
        cdef int64_t done = 0, behind
        while done < classes:
            furthest, behind = None, 0
            for known in self.classes.values():
                if self.table.head - known.index.cursor > behind and self.may_tend(known):
                    furthest, behind = known, self.table.head - known.index.cursor
            if furthest is None:
                break
            class_tend(&self.table, &furthest.index, changes, looks)
            done += 1
        return done

    cdef int spread(self) except -1:
        """A decision was made: in a large table another class does a part of what it will have to.

        PERF: it is little more work in all, but a class that is seldom asked has less left when it is: p99 of a stream
        without a pause (bench/scheduler_index.py).
        """
        cdef HostClass known
        cdef int64_t behind
        cdef int looked
        if self.table.rows <= self.spread_rows:
            return 0
        for looked in range(SPREAD_LOOKED):  # those that are not to be tended cost nobody else's turn
            if self.turn >= len(self.turns):
                self.turn = 0
                if len(self.turns) != len(self.classes):
                    self.turns = list(self.classes.values())
            known = self.turns[self.turn]
            self.turn += 1
            behind = SPREAD_MIN_SMALL if known.index.shift == SPREAD_SMALL_SHIFT else SPREAD_MIN
            if self.table.head - known.index.cursor >= behind and self.may_tend(known):
                class_tend(&self.table, &known.index, SPREAD_CHANGES, 1 << (known.index.shift - SPREAD_SHIFT))
                break
        return 0

    cdef bint may_tend(self, HostClass known) noexcept:
        return (self.clock - known.used_at < TENDED_QUESTIONS and known.index.rules.evaluated >= self.table.profiles
                and not class_is_lost(&self.table, &known.index))

    def sieve(self):
        """All hosts, before any filter."""
        self.table.passes += 1
        sieve_hosts(&self.table)
        return new_sieve(self)

    cdef int64_t check_row(self, int64_t row) except -1:
        if row < 0 or row >= self.table.rows or not self.table.column[WHO][row] & flags_in_place(FLAG_HOST):
            raise IndexError("no host has this row")
        return row

    cdef void free_scratch(self) noexcept:
        cdef int i
        for i in range(TERMS_EXTRA):
            free(self.scratch[i])
            self.scratch[i] = NULL
            self.is_used[i] = False

    cdef double *scratch_of(self, int64_t number) except NULL:
        if self.scratch_rows != self.table.capacity:
            self.free_scratch()
            self.scratch_rows = self.table.capacity
        if number >= TERMS_EXTRA:
            raise ValueError("too many further terms")
        if self.scratch[number] is NULL:
            self.scratch[number] = <double *>calloc(self.scratch_rows + 1, sizeof(double))
        if self.scratch[number] is NULL:
            raise MemoryError("no memory for further terms")
        return self.scratch[number]

    cdef int know_profile(self, int64_t profile) except -1:
        if profile >= PROFILES_MAX:
            raise ValueError("a profile's number is too large")
        if fleet_profiles(&self.table, profile + 1) != 0:
            raise MemoryError("no memory for more profiles")
        return 0

    cdef int forget_half(self) except -1:
        cdef HostClass known
        for known in sorted(self.classes.values(), key=used_at)[:len(self.classes) // 2]:
            del self.classes[known.request]
            class_free(&known.index)
        return 0

    cdef int bound_memory(self, HostClass keep) except -1:
        """A class has just been built: take the indexes of the least used, as many as are too many."""
        cdef HostClass known
        cdef int64_t total = self.index_bytes
        if total <= self.index_bytes_max:
            return 0
        for known in sorted(self.classes.values(), key=used_at):
            if known is keep or not known.index.built:
                continue
            total -= known.index.bytes
            class_free(&known.index)
            if total <= self.index_bytes_max:
                break
        return 0


def used_at(HostClass known):
    """When a class was last asked."""
    return known.used_at


cdef class HostClass:
    """Requests that agree in everything the table sees."""

    cdef HostTable owner
    cdef readonly object request
    cdef class_index index
    cdef int64_t used_at

    def __cinit__(self, HostTable owner, request):
        cdef class_rules *rules = &self.index.rules
        cdef int32_t flags
        cdef int i
        _key, rules.ram, rules.vcpus, rules.disk, multipliers, flags = plain(request)
        for amount in (rules.ram, rules.vcpus, rules.disk):
            if amount < 0 and amount != -INT32_MAX:
                raise ValueError("a request cannot be negative")
        if len(multipliers) != TERMS:
            raise ValueError(f"there are {TERMS} weighers")
        for i in range(TERMS):
            rules.multiplier[i] = multiplier_of(multipliers[i])
        rules.flags = FLAG_HOST | (flags & (FLAG_UP | FLAG_ENABLED))
        self.owner = owner
        self.request = request
        self.judge()
        class_prepare(&self.index)

    def __dealloc__(self):
        class_free(&self.index)
        free(self.index.rules.io_limits)
        free(self.index.rules.server_limits)
        free(self.index.rules.multipliers)

    @property
    def evaluated(self):
        """How many profiles have a verdict."""
        return self.index.rules.evaluated

    @property
    def statistics(self):
        """Counters of the index, by name: for benchmarks and tests."""
        c = &self.index
        return {
            "questions": c.questions, "visits": c.visits, "lookups": c.lookups, "touches": c.touches,
            "builds": c.builds, "bytes": c.bytes, "terms": c.terms, "block_rows": 1 << c.shift,
        }

    def extend(self, io_limits, server_limits, multipliers=None):
        """Judge the next profiles: limits (a host passes while it has less) or -1 = does not pass; multipliers if they differ."""
        cdef class_rules *rules = &self.index.rules
        cdef int64_t count = len(io_limits), first = rules.evaluated, i
        if len(server_limits) != count or (multipliers is not None and len(multipliers) != count):
            raise ValueError("each new profile wants one limit of each kind")
        self.make_room(first + count)
        for i in range(count):
            rules.io_limits[first + i] = io_limits[i]
            rules.server_limits[first + i] = server_limits[i]
            if rules.io_limits[first + i] < 0 or rules.server_limits[first + i] < 0:
                rules.io_limits[first + i] = rules.server_limits[first + i] = -1
        base = self.request[4]
        for i in range(count):
            own = base if multipliers is None else multipliers[i]
            if rules.multipliers is NULL and tuple(own) != tuple(base):
                self.vary()
            if rules.multipliers is not NULL:
                self.write_multipliers(first + i, own)
        rules.evaluated = first + count
        self.judge()

    def best(self, int64_t wanted=1):
        """The ``wanted`` hosts of the highest score, through the index."""
        self.check_ready(wanted)
        if self.index.rules.multipliers is not NULL or wanted > FEW:
            return self.full((), wanted)
        self.catch_up()
        found = self.ask(wanted)
        self.owner.spread()
        return found

    def scan(self, int64_t wanted=1):
        """The same by a full pass over all hosts."""
        self.check_ready(wanted)
        return self.full((), wanted)

    def place(self, int64_t count, values):
        """Place equal servers one after the other, each on the fleet as the one before left it.

        Takes ``values`` (a ``Taken``) from each host chosen. The answer is shorter when there is no more room.
        """
        cdef taken d
        cdef ranking top
        cdef int64_t i
        self.check_ready(count)
        read_taken(values, &d)
        if self.index.rules.multipliers is not NULL:
            return self.place_by_passes(count, &d)
        top.at = <host_rank *>malloc(count * sizeof(host_rank))
        if top.at is NULL:
            raise MemoryError("no memory for so many servers")
        try:
            self.catch_up()
            top.got = class_place(&self.owner.table, &self.index, count, &d, top.at)
            return ranked(&top, count)
        finally:
            free(top.at)

    def place_among(self, int64_t count, values, int64_t shown):
        """Like :meth:`place`; of each server how many hosts passed, and the best ``shown`` of them, its own first."""
        cdef taken d
        cdef ranking top
        cdef int64_t passing
        cdef host_rank few[FEW]
        cdef host_rank scratch[FEW]
        self.check_ready(count)
        if not 1 <= shown <= FEW:
            raise ValueError("so many hosts are not shown")
        read_taken(values, &d)
        placed = []
        if self.index.rules.multipliers is not NULL:
            while len(placed) < count:
                passing = self.count()
                found = self.full((), shown)
                if not found or not self.take_row(found[0][0], &d):
                    break
                placed.append((passing, found))
            return placed
        self.catch_up()
        while len(placed) < count:
            top.at, top.got, top.wanted = few, 0, shown
            passing = self.index.total
            if not class_take(&self.owner.table, &self.index, &d, &top, scratch):
                break
            placed.append((passing, ranked(&top, shown)))
        class_placed(&self.owner.table, &self.index)
        return placed

    def masked(self, only=None, without=None, extra=(), int64_t wanted=1):
        """Like :meth:`best` among ``only`` these rows, ``without`` those, with further terms in the sum."""
        self.check_ready(wanted)
        if only is not None:
            return self.rank_rows(only, without, extra, wanted)
        hidden = [] if without is None else list(set(without))
        if self.index.rules.multipliers is NULL and not extra and wanted <= FEW and len(hidden) <= 64 + self.owner.table.rows // 16:
            self.catch_up()
            return self.ask_without(hidden, wanted)
        self.hide(hidden, True)
        try:
            return self.full(extra, wanted)
        finally:
            self.hide(hidden, False)

    def ties(self, only=None, without=None, extra=(), int64_t wanted=1):
        """:meth:`masked`, and all rows whose score equals the best."""
        cdef int64_t row
        cdef double best, score
        self.check_ready(wanted)
        table = self.owner
        if only is not None:
            ranking_of_all = self.rank_rows(only, without, extra, max(<int64_t>1, table.table.rows))
            table.table.passes += 1
            sieve_clear(&table.table)
            for row, score in ranking_of_all:
                if score == ranking_of_all[0][1]:
                    table.table.column[MASK][row] = -1
            return ranking_of_all[:wanted], new_sieve(table)
        hidden = [] if without is None else list(set(without))
        self.hide(hidden, True)
        try:
            found = self.full(extra, wanted, True)
        finally:
            self.hide(hidden, False)
        return found, new_sieve(table)

    def count(self):
        """How many hosts pass, through the index."""
        self.check_ready(1)
        self.catch_up()
        return self.index.total

    def nth(self, int64_t nth):
        """The row of the ``nth`` host that passes (from 0), through the index; IndexError beyond the last."""
        self.check_ready(1)
        self.catch_up()
        if nth < 0 or nth >= self.index.total:
            raise IndexError("fewer hosts pass")
        return class_nth(&self.index, nth)

    def least_used(self, only=None, without=None, int64_t wanted=1):
        """The hosts with the fewest vCPUs taken as (row, -vCPUs)."""
        cdef ranking top
        cdef int64_t found, row
        self.check_ready(wanted)
        sieve = self.sieve(only, without)
        found = sieve.count
        if wanted > FEW:
            used = self.owner.table.column[VCPUS_USED]
            pairs = sorted([(used[<int64_t>row], row) for row in sieve.some(found)])
            return [(row, <double>-vcpus) for vcpus, row in pairs[:wanted]]
        cdef host_rank few[FEW]
        top.at, top.got, top.wanted = few, 0, wanted
        fleet_least_used(&self.owner.table, &top)
        return ranked(&top, wanted)

    def sieve(self, only=None, without=None):
        """All hosts that pass."""
        self.check_ready(1)
        self.owner.table.passes += 1
        fleet_filter(&self.owner.table, &self.index.rules, NULL, 0)
        sieve = new_sieve(self.owner)
        if without is not None:
            sieve.without(without)
        if only is not None:
            sieve.only(only)
        return sieve

    def room(self, values, only=None, without=None):
        """How many more servers that take ``values`` fit on the hosts that pass, all told."""
        cdef taken d
        read_taken(values, &d)
        self.sieve(only, without)
        return fleet_room(&self.owner.table, &self.index.rules, &d)

    cdef int check_ready(self, int64_t wanted) except -1:
        # SAFETY: no loop asks whether a row's profile has a verdict.
        if self.index.rules.evaluated < self.owner.table.profiles:
            raise RuntimeError("a profile has no verdict: extend the class first")
        if wanted < 1:
            raise ValueError("at least one host must be wanted")
        self.owner.clock += 1
        self.used_at = self.owner.clock
        return 0

    cdef int catch_up(self) except -1:
        cdef int64_t builds = self.index.builds
        if class_catch_up(&self.owner.table, &self.index) != 0:
            raise MemoryError("no memory for an index")
        if self.index.builds != builds:
            self.owner.bound_memory(self)
        return 0

    cdef list ask(self, int64_t wanted):
        cdef host_rank few[FEW]
        cdef host_rank scratch[FEW]
        cdef ranking top
        top.at, top.got, top.wanted = few, 0, wanted
        class_best(&self.index, &top, scratch)
        return ranked(&top, wanted)

    cdef list ask_without(self, list hidden, int64_t wanted):
        cdef int64_t count = len(hidden), i
        cdef int64_t *rows
        if count == 0:
            return self.ask(wanted)
        rows = self.read_rows(hidden)
        try:
            class_hide(&self.owner.table, &self.index, rows, count, True)
            try:
                return self.ask(wanted)
            finally:
                class_hide(&self.owner.table, &self.index, rows, count, False)
        finally:
            free(rows)

    cdef int64_t *read_rows(self, list values) except NULL:
        cdef int64_t count = len(values), i
        cdef int64_t *rows = <int64_t *>malloc((count + 1) * sizeof(int64_t))
        if rows is NULL:
            raise MemoryError("no memory for so many rows")
        try:
            for i in range(count):
                rows[i] = self.owner.check_row(values[i])
        except:
            free(rows)
            raise
        return rows

    cdef int hide(self, list rows, bint hidden) except -1:
        """Hide rows from full passes."""
        cdef int64_t row
        cdef int32_t *who = self.owner.table.column[WHO]
        cdef int32_t flag = flags_in_place(FLAG_HIDDEN)
        for row in rows:
            self.owner.check_row(row)
        for row in rows:
            who[row] = who[row] | flag if hidden else who[row] & ~flag
        return 0

    cdef list full(self, extra, int64_t wanted, bint narrow=False):
        """A full pass; ``narrow`` leaves the mask of those that equal the best."""
        cdef fleet *t = &self.owner.table
        cdef host_rank few[FEW]
        cdef ranking top
        cdef int64_t found
        cdef int count
        cdef double best
        top.at, top.got, top.wanted = few, 0, min(wanted, <int64_t>FEW)
        steps = Steps(self, extra)
        try:
            t.passes += 1
            found = fleet_filter(t, &self.index.rules, steps.steps, steps.count)
            steps.tell(found)
            count = settle_steps(steps.steps, steps.count, found)
            if found == 0:
                return []
            if wanted > FEW:
                top.at = <host_rank *>malloc(found * sizeof(host_rank))
                if top.at is NULL:
                    raise MemoryError("no memory for so many hosts")
            if wanted > FEW:
                fleet_weigh_all(t, steps.steps, count, &top)
            else:
                fleet_weigh(t, steps.steps, count, &top, NULL)
            if narrow:
                best = top.at[0].score
                fleet_weigh(t, steps.steps, count, &top, &best)
            return ranked(&top, wanted)
        finally:
            steps.clear()
            if top.at is not few:
                free(top.at)

    cdef list rank_rows(self, only, without, extra, int64_t wanted):
        cdef ranking top
        cdef int64_t *rows
        chosen = list(set(only) if without is None else set(only).difference(without))
        if not chosen:
            return []
        rows = self.read_rows(chosen)
        steps = Steps(self, extra)
        top.at = <host_rank *>malloc(len(chosen) * sizeof(host_rank))
        try:
            if top.at is NULL:
                raise MemoryError("no memory for so many rows")
            fleet_rank_rows(&self.owner.table, &self.index.rules, steps.steps, steps.count, rows, len(chosen), &top)
            return ranked(&top, wanted)
        finally:
            steps.clear()
            free(rows)
            free(top.at)

    cdef list place_by_passes(self, int64_t count, taken *d):
        placed = []
        while len(placed) < count:
            found = self.full((), 1)
            if not found or not self.take_row(found[0][0], d):
                break
            placed.append(found[0])
        return placed

    cdef bint take_row(self, int64_t row, taken *d) noexcept:
        """Take from a row, unless a column would leave its bounds."""
        cdef weights before = row_weights(&self.owner.table, row)
        if fleet_take(&self.owner.table, row, d) != 0:
            return False
        fleet_log(&self.owner.table, row, &before)
        return True

    cdef int make_room(self, int64_t profiles) except -1:
        if rules_grow(&self.index.rules, profiles) != 0:
            raise MemoryError("no memory for more profiles")
        return 0

    cdef int vary(self) except -1:
        """Multipliers differ by profile: from here on every question is a full pass, and the index only counts."""
        cdef class_rules *rules = &self.index.rules
        cdef int64_t profile
        rules.multipliers = <double *>malloc(rules.room * TERMS * sizeof(double))
        if rules.multipliers is NULL:
            raise MemoryError("no memory for more profiles")
        for profile in range(rules.room):
            self.write_multipliers(profile, self.request[4])
        class_free(&self.index)
        class_prepare(&self.index)
        return 0

    cdef int write_multipliers(self, int64_t profile, values) except -1:
        cdef int i
        if len(values) != TERMS:
            raise ValueError(f"there are {TERMS} weighers")
        for i in range(TERMS):
            self.index.rules.multipliers[profile * TERMS + i] = multiplier_of(values[i])
        return 0

    cdef int judge(self) except -1:
        """See what the loops need not look up by profile."""
        cdef class_rules *rules = &self.index.rules
        cdef int64_t i
        cdef bint all_pass = True, same = True, first = True
        rules.io_limit = rules.server_limit = INT32_MAX
        rules.profile_bits[0] = rules.profile_bits[1] = 0
        for i in range(rules.evaluated):
            if rules.io_limits[i] < 0:
                all_pass = False
                continue
            if i < 64:
                rules.profile_bits[i // 32] |= <unsigned int>1 << (i % 32)
            if first:
                rules.io_limit, rules.server_limit = rules.io_limits[i], rules.server_limits[i]
                first = False
            same = same and rules.io_limits[i] == rules.io_limit and rules.server_limits[i] == rules.server_limit
        if same and all_pass:
            rules.verdict = VERDICT_ONE
        else:
            rules.verdict = VERDICT_BITS if same and rules.evaluated <= 64 else VERDICT_BOTH
        return 0


cdef class Steps:
    """The terms of one full pass, in the order of the sum, with the memory of those that are no columns."""

    cdef HostTable owner
    cdef weigh_step *steps
    cdef int count
    cdef list written  # by the number of the scratch: its rows, or None
    cdef list kept

    def __cinit__(self, HostClass asked, extra):
        cdef int term
        cdef fleet *t = &asked.owner.table
        cdef class_rules *rules = &asked.index.rules
        self.owner = asked.owner
        self.written = []
        self.kept = []
        self.steps = <weigh_step *>calloc(TERMS + len(extra), sizeof(weigh_step))
        if self.steps is NULL:
            raise MemoryError("no memory for so many terms")
        for term in range(TERMS + 1):
            for after, values, multipliers in extra:
                if after == term:
                    self.add_further(values, multipliers)
            if term < TERMS and self.counts(asked, term):
                self.steps[self.count] = column_step(t, term)
                self.steps[self.count].multiplier = rules.multiplier[term]
                if rules.multipliers is not NULL:
                    self.steps[self.count].by_profile = rules.multipliers + term
                    self.steps[self.count].stride = TERMS
                self.count += 1
        if [after for after, _, _ in extra if not 0 <= after <= TERMS]:
            raise ValueError("a term comes after 0 to 8 column weighers")

    def __dealloc__(self):
        free(self.steps)

    cdef int clear(self) except -1:
        """Leave the scratch as it was."""
        cdef int64_t number, i
        cdef double *cell
        cdef array rows
        for number, values in enumerate(self.written):
            if values is None:
                continue
            cell, rows = self.owner.scratch[number], values
            for i in range(len(rows)):
                cell[rows.data.as_longlongs[i]] = 0.0
        self.written.clear()
        return 0

    cdef int tell(self, int64_t found) except -1:
        """A pass has filtered: say what the terms of few rows range over."""
        cdef int64_t number = 0
        cdef int k
        cdef array rows
        for k in range(self.count):
            if self.steps[k].kind == STEP_DENSE:
                if self.steps[k].told:
                    rows = self.written[number]
                    tell_sparse(&self.owner.table, &self.steps[k], <const int64_t *>rows.data.as_longlongs, len(rows), found)
                number += 1
        return 0

    cdef bint counts(self, HostClass asked, int term):
        """Whether a column can change the order: it has a multiplier, and not the same value everywhere."""
        if term >= FIXED_TERMS and asked.owner.table.unusual[term] == 0:
            return False
        return asked.index.rules.multipliers is not NULL or asked.index.rules.multiplier[term] != 0.0

    cdef int add_sparse(self, weigh_step *step, double *cell, values) except -1:
        """PERF: what few rows have needs no pass to know what it ranges over."""
        cdef int64_t row, number = len(self.written)
        cdef array rows = array("q")
        if self.owner.is_used[number]:
            memset(cell, 0, self.owner.scratch_rows * sizeof(double))
            self.owner.is_used[number] = False
        self.written.append(rows)
        for row, value in values.items():
            cell[self.owner.check_row(row)] = finite(value)
            rows.append(row)
        step.told = len(rows) <= self.owner.table.rows // 16
        return 0

    cdef int add_further(self, values, multipliers) except -1:
        cdef weigh_step *step = &self.steps[self.count]
        cdef double *cell = self.owner.scratch_of(len(self.written))
        cdef int64_t rows = self.owner.table.rows
        step.kind = STEP_DENSE
        step.values = cell
        step.low, step.high = float("inf"), float("-inf")
        self.count += 1
        try:
            if hasattr(values, "items"):
                self.add_sparse(step, cell, values)
            else:
                self.written.append(None)
                self.owner.is_used[len(self.written) - 1] = True
                if len(values) < rows:
                    raise ValueError("a dense term wants a value for each row")
                dense = values if isinstance(values, array) and values.typecode == "d" else array("d", values)
                if not copy_finite(cell, (<array>dense).data.as_doubles, rows):
                    raise ValueError("a term's values must be finite")
            if isinstance(multipliers, (int, float)):
                step.multiplier = multiplier_of(multipliers)
            else:
                if len(multipliers) < self.owner.table.profiles:
                    raise ValueError("a term wants one multiplier, or one for each profile")
                by_profile = array("d", [multiplier_of(m) for m in multipliers])
                self.kept.append(by_profile)
                step.by_profile = (<array>by_profile).data.as_doubles
                step.stride = 1
        except:
            self.clear()
            raise
        return 0


cdef class Sieve:
    """A set of rows, narrowed filter by filter: the table's mask, until the table is written or asked something else."""

    cdef HostTable owner
    cdef int64_t passes, head

    @property
    def count(self):
        """How many rows are left."""
        return sieve_count(self.mine())

    def nth(self, int64_t nth):
        """The ``nth`` row (from 0); IndexError beyond the last."""
        cdef int64_t row = sieve_nth(self.mine(), nth) if nth >= 0 else -1
        if row < 0:
            raise IndexError("fewer rows are left")
        return row

    def some(self, int64_t limit):
        """The first rows, at most so many."""
        cdef fleet *t = self.mine()
        cdef int64_t row
        found = []
        for row in range(t.rows):
            if t.column[MASK][row]:
                if len(found) >= limit:
                    break
                found.append(row)
        return found

    def flags(self, int32_t wanted):
        """Keep the rows that have all these flags."""
        sieve_flags(self.mine(), wanted)
        return self.count

    def profiles(self, passes):
        """Keep the rows whose profile passes."""
        self.look_up(passes, -1)
        return self.count

    def at_least(self, int column, int32_t amount):
        """Keep the rows with at least so much in a column."""
        self.check_column(column)
        sieve_at_least(self.mine(), column, amount)
        return self.count

    def below(self, int column, limits):
        """Keep the rows with less in a column than their profile's limit."""
        self.check_column(column)
        self.look_up(limits, column)
        return self.count

    def only(self, rows):
        """Keep these rows, those that are left of them."""
        cdef fleet *t = self.mine()
        cdef int64_t row
        kept = [row for row in set(rows) if t.column[MASK][self.owner.check_row(row)]]
        sieve_clear(t)
        for row in kept:
            t.column[MASK][row] = -1
        return len(kept)

    def without(self, rows):
        """Drop these rows."""
        cdef fleet *t = self.mine()
        for row in rows:
            t.column[MASK][self.owner.check_row(row)] = 0
        return self.count

    def count_at_least(self, int column, int32_t amount):
        """How many rows :meth:`at_least` would leave."""
        self.check_column(column)
        return sieve_count_at_least(self.mine(), column, amount)

    def by_profile(self):
        """How many rows each profile has."""
        cdef fleet *t = self.mine()
        cdef int64_t i
        cdef int32_t *counts = <int32_t *>calloc(t.profiles + 1, sizeof(int32_t))
        if counts is NULL:
            raise MemoryError("no memory for so many profiles")
        sieve_by_profile(t, counts)
        found = [counts[i] for i in range(t.profiles)]
        free(counts)
        return found

    cdef fleet *mine(self) except NULL:
        cdef fleet *t = &self.owner.table
        if t.passes != self.passes or t.head != self.head:
            raise RuntimeError("the table was written or asked something else: this sieve is gone")
        return t

    cdef int check_column(self, int column) except -1:
        if column not in (RAM_FREE, VCPUS_FREE, DISK_FREE, IO_OPS, SERVERS):
            raise ValueError("a sieve does not compare this column")
        return 0

    cdef int look_up(self, values, int column) except -1:
        """Narrow by a list over the profiles: of verdicts (column < 0) or of limits."""
        cdef fleet *t = self.mine()
        cdef int64_t i
        cdef int32_t *by_profile
        if len(values) < t.profiles:
            raise ValueError("each profile wants a value")
        by_profile = <int32_t *>malloc((t.profiles + 1) * sizeof(int32_t))
        if by_profile is NULL:
            raise MemoryError("no memory for so many profiles")
        try:
            for i in range(t.profiles):
                by_profile[i] = values[i] if column >= 0 else (-1 if values[i] else 0)
            if column >= 0:
                sieve_below(t, column, by_profile)
            else:
                sieve_profiles(t, by_profile)
        finally:
            free(by_profile)
        return 0


cdef Sieve new_sieve(HostTable owner):
    cdef Sieve sieve = Sieve.__new__(Sieve)
    sieve.owner = owner
    sieve.passes = owner.table.passes
    sieve.head = owner.table.head
    return sieve
