# What kernel.h has, as Cython sees it.

from libc.stdint cimport int32_t, int64_t

cdef extern from "kernel.h" nogil:
    enum:
        BLOCK
        WEIGHERS
        FILTERS
        FLAG_HOST
        FLAG_UP
        FLAG_ENABLED
        FLAG_EXCLUDED
        RAM
        VCPUS
        DISK
        IO_OPS
        SERVERS
        VCPUS_USED
        ZONE
        ARCHITECTURE
        FLAGS
        WEIGH_NORMALISED
        WEIGH_VCPUS_USED

    ctypedef struct host_columns:
        int32_t *column[10]
        int64_t capacity
        int64_t rows

    ctypedef struct host_query:
        int32_t ram
        int32_t vcpus
        int32_t disk
        int32_t zone
        int32_t architecture
        int32_t host
        int32_t flags_seen
        int32_t flags_wanted

    ctypedef struct host_rank:
        int64_t row
        double score

    int columns_grow(host_columns *table, int64_t capacity)
    void columns_free(host_columns *table)
    int row_fits(const host_columns *table, const host_query *query, int64_t row)
    int64_t kernel_filter(const host_columns *table, const host_query *query, int32_t *largest)
    int64_t kernel_weigh(const host_columns *table, const int32_t *largest, const double *multipliers, int64_t count,
                         int policy, host_rank *top, int64_t wanted, const double *narrow)
    int64_t kernel_masked(const host_columns *table)
    int64_t kernel_nth(const host_columns *table, int64_t nth)
    void kernel_explain(const host_columns *table, const host_query *query, int64_t *counts)
