# What the fleet's headers have, as Cython sees it.

from libc.stdint cimport int32_t, int64_t

cdef extern from "fleet_search.h" nogil:
    enum:
        BLOCK
        TERMS
        FLAG_HOST
        FLAG_UP
        FLAG_ENABLED
        FLAG_HIDDEN
        RAM_FREE
        VCPUS_FREE
        DISK_FREE
        IO_OPS
        SERVERS
        WHO
        FLAGS_SHIFT
        PROFILE_BITS
        RAM_WEIGHT
        DISK_WEIGHT
        VCPUS_USED
        FAILED_BUILDS
        PCI_WEIGHT
        VERSION
        MASK
        PROFILES_MAX
        TERM_VERSION
        FIXED_TERMS
        VERDICT_ONE
        VERDICT_BITS
        VERDICT_BOTH
        STEP_DENSE

    ctypedef struct fleet:
        int32_t *column[14]
        double *cpu_total
        int64_t capacity
        int64_t rows
        int32_t *versions
        int64_t profiles
        int64_t log_size
        int64_t head
        int64_t seen
        int64_t passes "pass"
        int64_t unusual[8]

    ctypedef struct weights:
        double of[8]

    ctypedef struct taken:
        int64_t ram
        int64_t vcpus
        int64_t disk
        int64_t io_ops
        int64_t servers

    ctypedef struct class_rules:
        int32_t ram
        int32_t vcpus
        int32_t disk
        int32_t flags
        int32_t io_limit
        int32_t server_limit
        int32_t *io_limits
        int32_t *server_limits
        double *multipliers
        double multiplier[8]
        int64_t evaluated
        int64_t room
        int verdict
        unsigned int profile_bits[2]

    ctypedef struct weigh_step:
        int kind
        int32_t floor
        const double *values
        double low
        double high
        double multiplier
        const double *by_profile
        int64_t stride
        int told

    ctypedef struct host_rank:
        int64_t row
        double score

    ctypedef struct ranking:
        host_rank *at
        int64_t got
        int64_t wanted

    ctypedef struct class_index:
        class_rules rules
        int built
        int shift
        int terms
        int64_t cursor
        int64_t total
        int64_t bytes
        int64_t questions
        int64_t visits
        int64_t lookups
        int64_t touches
        int64_t builds

    int64_t fleet_bytes(const fleet *t)
    int fleet_grow(fleet *t, int64_t capacity)
    int fleet_profiles(fleet *t, int64_t profiles)
    void fleet_free(fleet *t)
    int64_t fleet_append(fleet *t)
    void fleet_expect(fleet *t, int term, int32_t usual)
    weights row_weights(const fleet *t, int64_t row)
    void fleet_log(fleet *t, int64_t row, const weights *before)
    int32_t flags_in_place(int32_t flags)
    int fleet_take(fleet *t, int64_t row, const taken *d)
    int rules_grow(class_rules *r, int64_t profiles)
    int copy_finite(double *to, const double *values, int64_t n)
    weigh_step column_step(const fleet *t, int term)
    int64_t fleet_filter(const fleet *t, const class_rules *r, weigh_step *steps, int count)
    void tell_sparse(const fleet *t, weigh_step *s, const int64_t *rows, int64_t n, int64_t found)
    int settle_steps(weigh_step *steps, int count, int64_t candidates)
    void fleet_weigh(const fleet *t, const weigh_step *steps, int count, ranking *top, const double *narrow)
    void fleet_weigh_all(const fleet *t, const weigh_step *steps, int count, ranking *top)
    void fleet_rank_rows(const fleet *t, const class_rules *r, weigh_step *steps, int count, const int64_t *rows,
                         int64_t n, ranking *top)
    void fleet_least_used(const fleet *t, ranking *top)
    int64_t fleet_room(const fleet *t, const class_rules *r, const taken *d)

    void class_prepare(class_index *c)
    void class_free(class_index *c)
    bint class_is_lost(const fleet *t, const class_index *c)
    void class_tend(fleet *t, class_index *c, int64_t changes, int64_t looks)
    int class_catch_up(fleet *t, class_index *c)
    int64_t class_nth(const class_index *c, int64_t n)
    void class_best(class_index *c, ranking *top, host_rank *scratch)
    bint class_take(fleet *t, class_index *c, const taken *d, ranking *top, host_rank *scratch)
    void class_placed(fleet *t, class_index *c)
    int64_t class_place(fleet *t, class_index *c, int64_t count, const taken *d, host_rank *placed)
    void class_hide(const fleet *t, class_index *c, const int64_t *rows, int64_t count, int hide)

cdef extern from "fleet_sieve.h" nogil:
    int64_t sieve_count(const fleet *t)
    void sieve_clear(const fleet *t)
    void sieve_hosts(const fleet *t)
    void sieve_flags(const fleet *t, int32_t wanted)
    void sieve_at_least(const fleet *t, int column, int32_t amount)
    int64_t sieve_count_at_least(const fleet *t, int column, int32_t amount)
    void sieve_below(const fleet *t, int column, const int32_t *limits)
    void sieve_profiles(const fleet *t, const int32_t *passes)
    void sieve_by_profile(const fleet *t, int32_t *counts)
    int64_t sieve_nth(const fleet *t, int64_t nth)
