# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The host table: every host in contiguous columns, and the exact full scan over them.

The columns and the loops are C (``kernel.h``); this file gives them Python manners: argument checks, a free list, memory
errors as exceptions. Names, zones and claims are Python's (``nova_fast.scheduler.hosts``). Every write to a column goes
through :meth:`HostTable.put` or :meth:`HostTable.exclude`, so an index over blocks of rows has one place to listen.

A scan leaves a mask behind, which :meth:`HostTable.nth` reads; it is valid until the next scan.
"""

from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from kernel cimport *

HOST_UP = FLAG_UP
HOST_ENABLED = FLAG_ENABLED
HOST_EXCLUDED = FLAG_EXCLUDED


cdef inline tuple plain(values):
    """PERF: a named tuple is no exact tuple; said to be one, it unpacks without an iterator."""
    if not isinstance(values, tuple):
        raise TypeError("a tuple is wanted")
    return <tuple>values


cdef class HostTable:
    """Hosts as rows; a row's number stays its own until it is removed."""

    cdef host_columns table
    cdef double multipliers[4]
    cdef list free_rows
    cdef bint scanning

    def __cinit__(self):
        self.free_rows = []
        self.multipliers[:] = [1.0, 1.0, 1.0, -1.0]

    def __dealloc__(self):
        columns_free(&self.table)

    def __len__(self):
        return self.table.rows - len(self.free_rows)

    def set_multipliers(self, double ram, double vcpus, double disk, double io_ops):
        """Set the weighers' multipliers; ValueError unless each is finite and at most 1e100 in size."""
        for value in (ram, vcpus, disk, io_ops):
            if not isfinite(value) or abs(value) > 1e100:
                raise ValueError("a weight multiplier must be a finite number of at most 1e100")
        self.multipliers[:] = [ram, vcpus, disk, io_ops]

    def add(self):
        """Take a row for a new host and return its number; the host cannot be chosen before :meth:`put`."""
        self.check_idle()
        cdef int64_t row
        if self.free_rows:
            row = self.free_rows.pop()
        else:
            row = self.table.rows
            if row == self.table.capacity and columns_grow(&self.table, max(<int64_t>BLOCK, 2 * row)) != 0:
                raise MemoryError("no memory for more hosts")
            self.table.rows = row + 1
        self.table.column[FLAGS][row] = FLAG_HOST
        return row

    def remove(self, int64_t row):
        """Give a row back."""
        self.check_idle()
        self.check_row(row)
        self.table.column[FLAGS][row] = 0
        self.free_rows.append(row)

    def put(self, int64_t row, values):
        """Write a host's row: a ``HostRow``. ValueError for another shape, OverflowError beyond 32 bits."""
        self.check_idle()
        self.check_row(row)
        cdef int32_t ram, vcpus, disk, io_ops, servers, vcpus_used, zone, architecture, flags
        ram, vcpus, disk, io_ops, servers, vcpus_used, zone, architecture, flags = plain(values)
        if io_ops < 0 or servers < 0 or vcpus_used < 0 or zone < 0 or architecture < 0:
            raise ValueError("counts and ids of a host cannot be negative")
        cdef int32_t **column = self.table.column
        column[RAM][row] = ram
        column[VCPUS][row] = vcpus
        column[DISK][row] = disk
        column[IO_OPS][row] = io_ops
        column[SERVERS][row] = servers
        column[VCPUS_USED][row] = vcpus_used
        column[ZONE][row] = zone
        column[ARCHITECTURE][row] = architecture
        column[FLAGS][row] = FLAG_HOST | (flags & (FLAG_UP | FLAG_ENABLED)) | (column[FLAGS][row] & FLAG_EXCLUDED)

    def get(self, int64_t row):
        """The row as a plain tuple in ``HostRow``'s order (the flags without the bit that says it is a host)."""
        self.check_row(row)
        cdef int32_t **column = self.table.column
        return (
            column[RAM][row], column[VCPUS][row], column[DISK][row], column[IO_OPS][row], column[SERVERS][row],
            column[VCPUS_USED][row], column[ZONE][row], column[ARCHITECTURE][row], column[FLAGS][row] & ~FLAG_HOST,
        )

    def exclude(self, rows, bint excluded):
        """Hide rows from the scans that follow, or show them again."""
        self.check_idle()
        for row in rows:
            self.check_row(row)
            if excluded:
                self.table.column[FLAGS][<int64_t>row] |= FLAG_EXCLUDED
            else:
                self.table.column[FLAGS][<int64_t>row] &= ~FLAG_EXCLUDED

    def feasible(self, query):
        """How many hosts pass all filters of a ``HostQuery``; leaves their mask."""
        cdef host_query q
        cdef int32_t largest[WEIGHERS]
        self.read_query(query, &q)
        return self.filter_into_mask(&q, largest)

    def nth(self, int64_t nth):
        """The row of the ``nth`` host (from 0) of the last scan's mask; IndexError beyond its end."""
        self.check_idle()
        cdef int64_t row = kernel_nth(&self.table, nth) if nth >= 0 else -1
        if row < 0:
            raise IndexError("the mask has fewer hosts")
        return row

    def best(self, query, int64_t wanted):
        """The ``wanted`` hosts of the highest score as (row, score), best first, the lower row first among equals."""
        return self.rank(query, wanted, WEIGH_NORMALISED, False)

    def least_used(self, query, int64_t wanted):
        """The ``wanted`` hosts with the fewest vCPUs taken as (row, -vCPUs), the lower row first among equals."""
        return self.rank(query, wanted, WEIGH_VCPUS_USED, False)

    def best_and_ties(self, query, int64_t wanted):
        """Like :meth:`best`; leaves the mask of all hosts whose score equals the best, and returns their number too."""
        return self.rank(query, wanted, WEIGH_NORMALISED, True), kernel_masked(&self.table)

    def explain(self, query):
        """The hosts there are, then those left after each filter in turn: a tuple of 1 + the number of filters."""
        self.check_idle()
        cdef host_query q
        cdef int64_t counts[FILTERS + 1]
        self.read_query(query, &q)
        self.scanning = True
        with nogil:
            kernel_explain(&self.table, &q, counts)
        self.scanning = False
        return tuple([counts[i] for i in range(FILTERS + 1)])

    cdef int check_idle(self) except -1:
        # SAFETY: a scan runs without the interpreter's lock; another thread that came in now could move the columns.
        if self.scanning:
            raise RuntimeError("a host table belongs to one thread")
        return 0

    cdef int64_t check_row(self, int64_t row) except -1:
        if row < 0 or row >= self.table.rows or not self.table.column[FLAGS][row] & FLAG_HOST:
            raise IndexError("no host has this row")
        return row

    cdef int read_query(self, query, host_query *q) except -1:
        cdef int32_t ignored
        q.ram, q.vcpus, q.disk, q.zone, q.architecture, q.host, ignored = plain(query)
        if q.ram < 0 or q.vcpus < 0 or q.disk < 0:
            raise ValueError("a request cannot be negative")
        if q.host >= 0:
            self.check_row(q.host)
        q.flags_wanted = FLAG_HOST | ((FLAG_UP | FLAG_ENABLED) & ~ignored)
        q.flags_seen = q.flags_wanted | (FLAG_EXCLUDED & ~ignored)
        return 0

    cdef int64_t filter_into_mask(self, host_query *q, int32_t *largest) except -1:
        cdef int64_t count
        cdef int fits
        self.check_idle()
        self.scanning = True
        with nogil:
            if q.host >= 0:
                # One host asked for is that host or nothing: hide what the query would find beside it.
                fits = row_fits(&self.table, q, q.host)
                q.flags_seen = -1
                q.flags_wanted = -1
                kernel_filter(&self.table, q, largest)
                self.table.column[9][q.host] = -fits
                count = fits
            else:
                count = kernel_filter(&self.table, q, largest)
        self.scanning = False
        return count

    cdef list rank(self, query, int64_t wanted, int policy, bint ties):
        cdef host_query q
        cdef int32_t largest[WEIGHERS]
        cdef int64_t count, got, i
        cdef host_rank few[16]
        cdef host_rank *top = few
        cdef double best
        if wanted < 1:
            raise ValueError("at least one host must be wanted")
        self.read_query(query, &q)
        count = self.filter_into_mask(&q, largest)
        if count == 0:
            return []
        wanted = min(wanted, count)
        if wanted > 16:
            top = <host_rank *>malloc(wanted * sizeof(host_rank))
            if top is NULL:
                raise MemoryError("no memory for so many alternates")
        try:
            self.scanning = True
            with nogil:
                got = kernel_weigh(&self.table, largest, self.multipliers, count, policy, top, wanted, NULL)
                if ties:
                    best = top[0].score
                    kernel_weigh(&self.table, largest, self.multipliers, count, policy, top, 0, &best)
            self.scanning = False
            assert got == wanted
            return [(top[i].row, top[i].score) for i in range(got)]
        finally:
            if top is not few:
                free(top)
