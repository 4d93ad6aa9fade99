/* The host table's columns, and the one exact pass over all of them.
 *
 * Every row is a host or a free slot. A decision is two sweeps in blocks of BLOCK rows, so that a block's columns are in
 * the first-level cache when its second loop reads them:
 *
 *   1. filter: one branch-free loop makes a mask (0 or -1) of the rows that pass, then one loop a weighed column finds
 *      the largest value among them;
 *   2. weigh:  score = sum of multiplier * (value / largest), in double, in the order RAM, CPU, disk, I/O operations.
 *
 * Nova's four weighers fix their minimum at 0 (nova/weights.py, minval = 0), so the normalisation is value / largest,
 * 0 for all when the largest is 0. Rows that pass have no negative value, so Nova's clamp at the minimum changes nothing.
 *
 * All columns are int32, because gcc leaves loops over mixed widths scalar. Capacity is a multiple of BLOCK and unused
 * rows have no flag, so every loop runs over whole blocks.
 */
#ifndef NOVA_FAST_KERNEL_H
#define NOVA_FAST_KERNEL_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__FAST_MATH__)
#error "-ffast-math would let two machines choose two hosts: build without it"
#endif

/* PERF: AVX-512 and AVX2 speed from a baseline build; the loader picks the clone once (bench/bench_scheduler.py). */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__x86_64__) && defined(__GLIBC__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum { BLOCK = 1024, LANES = 8, WEIGHERS = 4, FILTERS = 8 };

enum { /* bits of the flags column */
    FLAG_HOST = 1,    /* the row is a host, not a free slot */
    FLAG_UP = 2,      /* its compute daemon reports, and nobody forced it down */
    FLAG_ENABLED = 4, /* its operator lets it take servers */
    FLAG_EXCLUDED = 8 /* the request at hand does not want it */
};

enum { /* the columns; the weighed ones come first, in the order of the weighers */
    RAM,          /* free MiB */
    VCPUS,        /* free */
    DISK,         /* free GiB */
    IO_OPS,       /* under way */
    SERVERS,      /* placed here */
    VCPUS_USED,   /* taken */
    ZONE,         /* id */
    ARCHITECTURE, /* id */
    FLAGS,
    MASK, /* scratch: 0 or -1, left by the last filter sweep */
    COLUMNS
};

enum { WEIGH_NORMALISED = 0, WEIGH_VCPUS_USED = 1 };

typedef struct {
    int32_t *column[COLUMNS];
    int64_t capacity; /* rows there is memory for; a multiple of BLOCK */
    int64_t rows;     /* rows ever used, free slots among them */
} host_columns;

typedef struct {
    int32_t ram, vcpus, disk;   /* wanted */
    int32_t zone, architecture; /* id, or negative = any */
    int32_t host;               /* the one row that will do, or negative = any */
    int32_t flags_seen, flags_wanted;
} host_query;

typedef struct {
    int64_t row;
    double score;
} host_rank;

/* Give every column room for `capacity` rows; 0, or -1 when there is no memory (what was there stays valid). */
static int columns_grow(host_columns *t, int64_t capacity) {
    for (int c = 0; c < COLUMNS; c++) {
        int32_t *grown = realloc(t->column[c], (size_t)capacity * sizeof(int32_t));
        if (grown == NULL) return -1;
        memset(grown + t->capacity, 0, (size_t)(capacity - t->capacity) * sizeof(int32_t));
        t->column[c] = grown;
    }
    t->capacity = capacity;
    return 0;
}

static void columns_free(host_columns *t) {
    for (int c = 0; c < COLUMNS; c++) {
        free(t->column[c]);
        t->column[c] = NULL;
    }
    t->capacity = t->rows = 0;
}

static int64_t whole_blocks(const host_columns *t) { return (t->rows + BLOCK - 1) / BLOCK * BLOCK; }

/* 1 when the row passes every filter of the query but the one for a single host. */
static int32_t row_fits(const host_columns *t, const host_query *q, int64_t i) {
    int32_t *const *c = t->column;
    return ((c[FLAGS][i] & q->flags_seen) == q->flags_wanted) & (c[RAM][i] >= q->ram) & (c[VCPUS][i] >= q->vcpus) &
           (c[DISK][i] >= q->disk) & ((q->zone < 0) | (c[ZONE][i] == q->zone)) &
           ((q->architecture < 0) | (c[ARCHITECTURE][i] == q->architecture));
}

/* One block of sweep 1: fills the mask, returns how many rows pass. */
INLINE int32_t filter_block(const host_columns *t, const host_query *q, int64_t a) {
    const int32_t *restrict ram = t->column[RAM] + a, *restrict vcpus = t->column[VCPUS] + a;
    const int32_t *restrict disk = t->column[DISK] + a, *restrict zone = t->column[ZONE] + a;
    const int32_t *restrict architecture = t->column[ARCHITECTURE] + a, *restrict flags = t->column[FLAGS] + a;
    int32_t *restrict mask = t->column[MASK] + a;
    const int32_t want_ram = q->ram, want_vcpus = q->vcpus, want_disk = q->disk, want_zone = q->zone;
    const int32_t want_architecture = q->architecture, seen = q->flags_seen, wanted = q->flags_wanted;
    const int32_t any_zone = want_zone < 0, any_architecture = want_architecture < 0;
    int32_t count = 0;
    for (int i = 0; i < BLOCK; i++) {
        int32_t fits = ((flags[i] & seen) == wanted) & (ram[i] >= want_ram) & (vcpus[i] >= want_vcpus) &
                       (disk[i] >= want_disk) & (any_zone | (zone[i] == want_zone)) &
                       (any_architecture | (architecture[i] == want_architecture));
        mask[i] = -fits;
        count += fits;
    }
    return count;
}

/* Sweep 1: the mask, the number of rows that pass, and each weighed column's largest value among them (0 if none). */
CLONES static int64_t kernel_filter(const host_columns *t, const host_query *q, int32_t *largest) {
    const int64_t end = whole_blocks(t);
    int64_t count = 0;
    for (int w = 0; w < WEIGHERS; w++) largest[w] = 0;
    for (int64_t a = 0; a < end; a += BLOCK) {
        int32_t found = filter_block(t, q, a);
        if (found == 0) continue;
        count += found;
        const int32_t *restrict mask = t->column[MASK] + a;
        for (int w = 0; w < WEIGHERS; w++) {
            const int32_t *restrict value = t->column[w] + a;
            int32_t high = largest[w];
            for (int i = 0; i < BLOCK; i++) {
                int32_t v = value[i] & mask[i];
                high = v > high ? v : high;
            }
            largest[w] = high;
        }
    }
    return count;
}

/* The largest score of a block.
 * PERF: a maximum a lane vectorises without -ffinite-math-only, which would let the compiler touch the sums as well. */
INLINE double block_best(const double *restrict s) {
    double high[LANES];
    for (int l = 0; l < LANES; l++) high[l] = -INFINITY;
    for (int i = 0; i < BLOCK; i += LANES)
        for (int l = 0; l < LANES; l++) high[l] = s[i + l] > high[l] ? s[i + l] : high[l];
    double best = high[0];
    for (int l = 1; l < LANES; l++) best = high[l] > best ? high[l] : best;
    return best;
}

/* One block of sweep 2: the scores (minus infinity where masked out), returns the best. */
INLINE double score_block(const host_columns *t, const double *range, const double *multiplier, int64_t a, double *restrict s) {
    const int32_t *restrict x0 = t->column[0] + a, *restrict x1 = t->column[1] + a;
    const int32_t *restrict x2 = t->column[2] + a, *restrict x3 = t->column[3] + a;
    const int32_t *restrict mask = t->column[MASK] + a;
    const double r0 = range[0], r1 = range[1], r2 = range[2], r3 = range[3];
    const double m0 = multiplier[0], m1 = multiplier[1], m2 = multiplier[2], m3 = multiplier[3];
    for (int i = 0; i < BLOCK; i++) {
        double score = 0.0;
        score += m0 * ((double)x0[i] / r0);
        score += m1 * ((double)x1[i] / r1);
        score += m2 * ((double)x2[i] / r2);
        score += m3 * ((double)x3[i] / r3);
        s[i] = mask[i] ? score : -INFINITY;
    }
    return block_best(s);
}

/* The same for the least loaded host: score = -(vCPUs taken), negated as an integer so that none taken is never -0.0. */
INLINE double score_block_used(const host_columns *t, int64_t a, double *restrict s) {
    const int32_t *restrict used = t->column[VCPUS_USED] + a, *restrict mask = t->column[MASK] + a;
    for (int i = 0; i < BLOCK; i++) s[i] = mask[i] ? (double)-used[i] : -INFINITY;
    return block_best(s);
}

/* Sweep 2 over the mask that sweep 1 left: the `wanted` best rows, best first, the lower row first among equals.
 * Returns how many there are. With `narrow`, the mask keeps only the rows whose score equals narrow[0].
 * `count` is what sweep 1 returned: a single candidate is not weighed and scores 0, as in Nova. */
CLONES static int64_t kernel_weigh(const host_columns *t, const int32_t *largest, const double *multipliers, int64_t count,
                                   int policy, host_rank *top, int64_t wanted, const double *narrow) {
    double range[WEIGHERS], multiplier[WEIGHERS], s[BLOCK];
    const int64_t end = whole_blocks(t);
    int64_t got = 0;
    for (int w = 0; w < WEIGHERS; w++) {
        range[w] = largest[w] > 0 ? (double)largest[w] : 1.0;
        multiplier[w] = (largest[w] > 0 && count > 1) ? multipliers[w] : 0.0;
    }
    for (int64_t a = 0; a < end; a += BLOCK) {
        double best = policy == WEIGH_VCPUS_USED ? score_block_used(t, a, s) : score_block(t, range, multiplier, a, s);
        if (narrow != NULL) {
            int32_t *mask = t->column[MASK] + a;
            for (int i = 0; i < BLOCK; i++) mask[i] = -(int32_t)(s[i] == *narrow);
            continue;
        }
        if (best == -INFINITY || (got == wanted && best <= top[wanted - 1].score)) continue;
        for (int i = 0; i < BLOCK; i++) {
            if (s[i] == -INFINITY || (got == wanted && s[i] <= top[wanted - 1].score)) continue;
            int64_t p = got < wanted ? got++ : wanted - 1;
            for (; p > 0 && top[p - 1].score < s[i]; p--) top[p] = top[p - 1];
            top[p].row = a + i;
            top[p].score = s[i];
        }
    }
    return got;
}

/* How many rows the mask has. */
CLONES static int64_t kernel_masked(const host_columns *t) {
    const int64_t end = whole_blocks(t);
    const int32_t *restrict mask = t->column[MASK];
    int64_t count = 0;
    for (int64_t a = 0; a < end; a += BLOCK) {
        int32_t found = 0;
        for (int i = 0; i < BLOCK; i++) found -= mask[a + i];
        count += found;
    }
    return count;
}

/* The row of the mask's `nth` candidate (from 0), or -1 when there are not so many. */
static int64_t kernel_nth(const host_columns *t, int64_t nth) {
    for (int64_t i = 0; i < t->rows; i++) {
        nth += t->column[MASK][i];
        if (nth < 0) return i;
    }
    return -1;
}

/* Why a query finds nothing: counts[0] = the hosts there are, counts[f + 1] = those left after filter f. Slow, exact. */
static void kernel_explain(const host_columns *t, const host_query *q, int64_t *counts) {
    int32_t *const *c = t->column;
    const int32_t service = FLAG_UP | FLAG_ENABLED;
    for (int f = 0; f <= FILTERS; f++) counts[f] = 0;
    for (int64_t i = 0; i < t->rows; i++) {
        if (!(c[FLAGS][i] & FLAG_HOST)) continue;
        const int passes[FILTERS] = {
            (c[FLAGS][i] & service) == service,
            q->zone < 0 || c[ZONE][i] == q->zone,
            q->architecture < 0 || c[ARCHITECTURE][i] == q->architecture,
            c[RAM][i] >= q->ram,
            c[VCPUS][i] >= q->vcpus,
            c[DISK][i] >= q->disk,
            !(c[FLAGS][i] & FLAG_EXCLUDED),
            q->host < 0 || i == q->host,
        };
        counts[0]++;
        for (int f = 0; f < FILTERS && passes[f]; f++) counts[f + 1]++;
    }
}

#endif
