/* The fleet's table: every host a row of contiguous columns, and a log of the rows that changed.
 *
 * 60 bytes a host: twelve 32-bit columns, one double, and a mask that a full pass leaves behind; the log adds one byte.
 * All else is a class's (fleet_index.h). A row's profile is below `profiles` always, free rows included: that is what lets
 * the loops look a profile up without asking. Capacity is a multiple of BLOCK and unused rows have no flag, so loops run
 * over whole blocks.
 *
 * A record of the log tells the whole row, so that a class that reads it touches none of the fleet's scattered columns,
 * and what the weighers saw before, so that it knows whether an extreme has gone.
 */
#ifndef NOVA_FAST_FLEET_COLUMNS_H
#define NOVA_FAST_FLEET_COLUMNS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__FAST_MATH__)
#error "-ffast-math would let two machines choose two hosts: build without it"
#endif

/* PERF: AVX-512 and AVX2 speed from a baseline build; the loader picks the clone once (bench/bench_scheduler.py). */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__x86_64__) && defined(__GLIBC__) && !defined(NO_CLONES)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum { BLOCK = 1024, LANES = 8 };
enum { FLAG_HOST = 1, FLAG_UP = 2, FLAG_ENABLED = 4, FLAG_HIDDEN = 8 };

enum { /* the columns */
    RAM_FREE,
    VCPUS_FREE,
    DISK_FREE,
    IO_OPS,
    SERVERS,
    WHO, /* the profile, and the flags in the highest byte */
    RAM_WEIGHT,
    DISK_WEIGHT,
    VCPUS_USED,
    FAILED_BUILDS,
    PCI_WEIGHT,
    VERSION, /* of the hypervisor: the profile's */
    MASK,    /* scratch: 0 or -1, left by the last full pass */
    COLUMNS
};
enum { FLAGS_SHIFT = 24, PROFILES_MAX = 1 << FLAGS_SHIFT, PROFILE_BITS = PROFILES_MAX - 1 };

/* The column weighers, in the order of Nova's sum. The first four fix their minimum at 0 and clamp there. */
enum { TERM_RAM, TERM_CPU, TERM_DISK, TERM_IO_OPS, TERM_PCI, TERM_BUILD_FAILURE, TERM_VERSION, TERM_SERVERS, TERMS };
enum { FIXED_TERMS = 4 };
static const int TERM_COLUMN[TERMS] = {RAM_WEIGHT, VCPUS_USED, DISK_WEIGHT, IO_OPS, PCI_WEIGHT, FAILED_BUILDS, VERSION, SERVERS};

typedef struct { /* what the weighers see of a row, by term, clamped */
    double of[TERMS];
} weights;

typedef struct { /* a row that changed */
    weights before, now;
    int32_t row, ram_free, vcpus_free, disk_free, who;
    int32_t earlier, later; /* how many records before and behind this is another of the row; 0 = none is known */
} change_record;

enum { LOG_MIN = 4096, HOSTS_A_RECORD = 256 };

typedef struct {
    int32_t *column[COLUMNS];
    double *cpu_total; /* vCPUs x allocation ratio; the columns lie behind it */
    int64_t capacity;  /* rows there is memory for; a multiple of BLOCK */
    int64_t rows;      /* rows ever used, free ones among them */
    int32_t *versions; /* by profile */
    int64_t profiles, profiles_room;
    change_record *log; /* a ring */
    int64_t log_size, head;
    int64_t *latest; /* by row modulo the log's size: behind the last record of such a row */
    int64_t seen; /* the furthest position of the log that a class has read */
    int64_t pass; /* counts what overwrites the mask */
    int32_t usual[TERMS];  /* what most rows are expected to have where the minimum is not fixed */
    int64_t unusual[TERMS]; /* how many rows have something else: 0 = the term says nothing, whoever passes */
} fleet;

typedef struct {
    int64_t ram, vcpus, disk, io_ops, servers;
} taken;

/* Memory for what is read from end to end, or NULL.
 * PERF: in pages of 2 MiB a pass over a million hosts takes 10 to 20 % less, because an address is seldom translated. */
static void *large_memory(size_t size) {
    const size_t page = (size_t)2 << 20;
    void *memory = NULL;
    if (posix_memalign(&memory, size < page ? 64 : page, size) != 0) return NULL;
#ifdef MADV_HUGEPAGE
    if (size >= page) (void)madvise(memory, size, MADV_HUGEPAGE); /* where there are none it works without */
#endif
    return memory;
}

/* 0, or -1 when there is no memory (what was there stays valid). A new log starts behind everything that was read. */
static int fleet_grow(fleet *t, int64_t capacity) {
    const size_t narrow = (size_t)capacity * sizeof(int32_t), wide = (size_t)capacity * sizeof(double);
    int64_t size = t->log_size ? t->log_size : LOG_MIN;
    while (size < capacity / HOSTS_A_RECORD) size *= 2;
    change_record *log = t->log;
    int64_t *latest = t->latest;
    if (size > t->log_size) {
        log = malloc((size_t)size * sizeof(change_record));
        latest = calloc((size_t)size, sizeof(int64_t));
    }
    char *memory = log == NULL || latest == NULL ? NULL : large_memory(wide + COLUMNS * narrow);
    if (memory == NULL) {
        if (log != t->log) free(log);
        if (latest != t->latest) free(latest);
        return -1;
    }
    memset(memory, 0, wide + COLUMNS * narrow);
    if (t->capacity > 0) memcpy(memory, t->cpu_total, (size_t)t->capacity * sizeof(double));
    for (int c = 0; c < COLUMNS; c++) {
        int32_t *column = (int32_t *)(memory + wide + (size_t)c * narrow);
        if (t->capacity > 0) memcpy(column, t->column[c], (size_t)t->capacity * sizeof(int32_t));
        t->column[c] = column;
    }
    free(t->cpu_total);
    t->cpu_total = (double *)memory;
    if (log != t->log) {
        free(t->log);
        free(t->latest);
        t->log = log;
        t->latest = latest;
        t->log_size = size;
        t->head += 2 * size;
        t->seen = t->head;
    }
    t->capacity = capacity;
    return 0;
}

static int64_t fleet_bytes(const fleet *t) {
    return t->capacity * (int64_t)(COLUMNS * sizeof(int32_t) + sizeof(double)) + t->log_size * (int64_t)(sizeof(change_record) + sizeof(int64_t));
}

/* Know the profiles below `profiles`; 0, or -1 when there is no memory. */
static int fleet_profiles(fleet *t, int64_t profiles) {
    if (profiles > t->profiles_room) {
        int64_t room = 2 * profiles;
        int32_t *versions = realloc(t->versions, (size_t)room * sizeof(int32_t));
        if (versions == NULL) return -1;
        memset(versions + t->profiles_room, 0, (size_t)(room - t->profiles_room) * sizeof(int32_t));
        t->versions = versions;
        t->profiles_room = room;
    }
    if (profiles > t->profiles) t->profiles = profiles;
    return 0;
}

static void fleet_free(fleet *t) {
    free(t->cpu_total);
    free(t->versions);
    free(t->log);
    free(t->latest);
    memset(t, 0, sizeof *t);
}

static weights row_weights(const fleet *t, int64_t row) {
    weights w;
    for (int k = 0; k < TERMS; k++) w.of[k] = (double)t->column[TERM_COLUMN[k]][row];
    w.of[TERM_CPU] = t->cpu_total[row] - w.of[TERM_CPU];
    for (int k = 0; k < FIXED_TERMS; k++) w.of[k] = w.of[k] > 0.0 ? w.of[k] : 0.0;
    return w;
}

static change_record row_record(const fleet *t, int64_t row, const weights *before) {
    int32_t *const *c = t->column;
    return (change_record){*before, row_weights(t, row), (int32_t)row, c[RAM_FREE][row], c[VCPUS_FREE][row], c[DISK_FREE][row], c[WHO][row], 0, 0};
}

static inline change_record *log_at(const fleet *t, int64_t position) { return &t->log[position & (t->log_size - 1)]; }

/* A row has changed: every class will look at it again. Changes of one row that nobody has read in between are one. */
static void fleet_log(fleet *t, int64_t row, const weights *before) {
    for (int k = FIXED_TERMS; k < TERMS; k++)
        t->unusual[k] += (t->column[TERM_COLUMN[k]][row] != t->usual[k]) - (before->of[k] != t->usual[k]);
    if (t->head > t->seen) {
        change_record *last = log_at(t, t->head - 1);
        if (last->row == row) {
            const weights first = last->before;
            const int32_t earlier = last->earlier;
            *last = row_record(t, row, &first);
            last->earlier = earlier;
            return;
        }
    }
    const int64_t at = t->head++;
    change_record *record = log_at(t, at);
    *record = row_record(t, row, before);
    int64_t *latest = &t->latest[row & (t->log_size - 1)];
    const int64_t back = at + 1 - *latest;
    if (*latest > 0 && back < t->log_size && log_at(t, at - back)->row == row)
        record->earlier = log_at(t, at - back)->later = (int32_t)back;
    *latest = at + 1;
}

/* What the weighers saw of the row of a record before its first change at or behind `begin`. */
static inline const weights *seen_before(const fleet *t, int64_t at, int64_t begin) {
    const change_record *record = log_at(t, at);
    while (record->earlier > 0 && at - record->earlier >= begin) {
        at -= record->earlier;
        record = log_at(t, at);
    }
    return &record->before;
}

/* A new row at the end, with nothing unusual in it. There is memory for it. */
static int64_t fleet_append(fleet *t) {
    if (t->rows == 0) t->usual[TERM_PCI] = 100;
    for (int k = FIXED_TERMS; k < TERMS; k++) t->column[TERM_COLUMN[k]][t->rows] = t->usual[k];
    return t->rows++;
}

/* Expect this of most rows from now on. */
static void fleet_expect(fleet *t, int term, int32_t usual) {
    t->usual[term] = usual;
    t->unusual[term] = 0;
    for (int64_t i = 0; i < t->rows; i++) t->unusual[term] += t->column[TERM_COLUMN[term]][i] != usual;
}

static int64_t whole_blocks(const fleet *t) { return (t->rows + BLOCK - 1) / BLOCK * BLOCK; }

/* Take from a row; 0, or -1 when a column would leave its bounds (then nothing is changed). The row is not logged. */
static int fleet_take(fleet *t, int64_t row, const taken *d) {
    const int64_t limit = (int64_t)1 << 33;
    int32_t **c = t->column;
    if (d->ram > limit || d->ram < -limit || d->vcpus > limit || d->vcpus < -limit || d->disk > limit || d->disk < -limit ||
        d->io_ops > limit || d->io_ops < -limit || d->servers > limit || d->servers < -limit)
        return -1;
    const int64_t ram = c[RAM_FREE][row] - d->ram, ram_weight = c[RAM_WEIGHT][row] - d->ram;
    const int64_t vcpus = c[VCPUS_FREE][row] - d->vcpus, used = c[VCPUS_USED][row] + d->vcpus;
    const int64_t disk = c[DISK_FREE][row] - d->disk, disk_weight = c[DISK_WEIGHT][row] - d->disk;
    const int64_t io_ops = c[IO_OPS][row] + d->io_ops, servers = c[SERVERS][row] + d->servers;
    if (ram != (int32_t)ram || ram_weight != (int32_t)ram_weight || vcpus != (int32_t)vcpus || disk != (int32_t)disk ||
        disk_weight != (int32_t)disk_weight || used < 0 || used >= INT32_MAX || io_ops < 0 || io_ops >= INT32_MAX ||
        servers < 0 || servers >= INT32_MAX)
        return -1;
    c[RAM_FREE][row] = (int32_t)ram;
    c[RAM_WEIGHT][row] = (int32_t)ram_weight;
    c[VCPUS_FREE][row] = (int32_t)vcpus;
    c[VCPUS_USED][row] = (int32_t)used;
    c[DISK_FREE][row] = (int32_t)disk;
    c[DISK_WEIGHT][row] = (int32_t)disk_weight;
    c[IO_OPS][row] = (int32_t)io_ops;
    c[SERVERS][row] = (int32_t)servers;
    return 0;
}

#endif
