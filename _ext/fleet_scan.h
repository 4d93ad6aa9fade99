/* Filters and weighers as loops over blocks of the fleet's columns, and the exact pass over all of them.
 *
 *   1. filter: a branch-free loop makes a mask (0 or -1) of the rows that pass; a block's columns are then in the
 *      first-level cache for the loops that find each weigher's least and largest value among them;
 *   2. weigh: score = sum of multiplier * ((value - low) / (high - low)), in double, in the order of the steps.
 *
 * This is nova/weights.py: RAM, CPU, disk and I/O fix their minimum at 0 and clamp there, the others take what they find;
 * where high equals low the weigher says 0 for all, and since a sum that starts at +0.0 never is -0.0, leaving such a
 * term out changes no bit. Neither does leaving out a multiplier of 0.
 */
#ifndef NOVA_FAST_FLEET_SCAN_H
#define NOVA_FAST_FLEET_SCAN_H

#include "fleet_columns.h"

enum { VERDICT_ONE, VERDICT_BITS, VERDICT_BOTH }; /* what must be looked up by profile: nothing, a bit, both limits */

typedef struct { /* what a class wants of a host */
    int32_t ram, vcpus, disk, flags;
    int32_t io_limit, server_limit;     /* the one limit of all profiles that pass */
    int32_t *io_limits, *server_limits; /* by profile; -1 = does not pass */
    double *multipliers;                /* by profile and term, or NULL: `multiplier` for all */
    double multiplier[TERMS];
    uint32_t profile_bits[2];           /* with one limit for all that pass and at most 64 profiles: which pass */
    int64_t evaluated, room;
    int verdict;
} class_rules;

/* Room for so many profiles; 0, or -1 when there is no memory (what was there stays valid). */
static int rules_grow(class_rules *r, int64_t profiles) {
    const int64_t room = 2 * profiles;
    if (profiles <= r->room) return 0;
    int32_t **limits[2] = {&r->io_limits, &r->server_limits};
    for (int k = 0; k < 2; k++) {
        int32_t *grown = realloc(*limits[k], (size_t)room * sizeof(int32_t));
        if (grown == NULL) return -1;
        *limits[k] = grown;
    }
    if (r->multipliers != NULL) {
        double *grown = realloc(r->multipliers, (size_t)room * TERMS * sizeof(double));
        if (grown == NULL) return -1;
        r->multipliers = grown;
    }
    r->room = room;
    return 0;
}

#define SLACK 2e-14 /* about 180 units of rounding, of which a bound needs 50 */

enum { STEP_COLUMN, STEP_CPU, STEP_DENSE };
typedef struct { /* one term of the sum */
    int kind;
    int32_t floor;         /* values below are clamped to it */
    const int32_t *column; /* of the term; for the CPU what is used */
    const double *values;  /* of a dense term; for the CPU the total */
    double low, high, range, multiplier;
    const double *by_profile; /* multipliers that differ, `stride` doubles a profile, or NULL */
    int64_t stride;
    int told; /* low and high are found in another way than by a pass */
} weigh_step;

typedef struct {
    int64_t row;
    double score;
} host_rank;

/* The best few so far, best first, the lower row first among equals. */
typedef struct {
    host_rank *at;
    int64_t got, wanted;
} ranking;

INLINE double rank_floor(const ranking *r) { return r->got < r->wanted ? -INFINITY : r->at[r->wanted - 1].score; }

static inline void rank_add(ranking *r, int64_t row, double score) {
    int64_t p = r->got;
    if (p == r->wanted) {
        const host_rank *last = &r->at[p - 1];
        if (score < last->score || (score == last->score && row > last->row)) return;
        p--;
    } else {
        r->got++;
    }
    for (; p > 0 && (r->at[p - 1].score < score || (r->at[p - 1].score == score && r->at[p - 1].row > row)); p--)
        r->at[p] = r->at[p - 1];
    r->at[p].row = row;
    r->at[p].score = score;
}

INLINE int32_t flags_in_place(int32_t flags) { return flags << FLAGS_SHIFT; }

/* SAFETY: a row's profile is below fleet.profiles, and nobody asks while fleet.profiles is above rules.evaluated. */
static inline int32_t record_passes(const change_record *row, const class_rules *r) {
    const int32_t profile = row->who & PROFILE_BITS;
    return ((row->who & flags_in_place(r->flags | FLAG_HIDDEN)) == flags_in_place(r->flags)) & (row->ram_free >= r->ram) &
           (row->vcpus_free >= r->vcpus) & (row->disk_free >= r->disk) & (row->now.of[TERM_IO_OPS] < r->io_limits[profile]) &
           (row->now.of[TERM_SERVERS] < r->server_limits[profile]);
}

static inline int32_t row_passes(const fleet *t, const class_rules *r, int64_t i) {
    int32_t *const *c = t->column;
    const int32_t profile = c[WHO][i] & PROFILE_BITS;
    return ((c[WHO][i] & flags_in_place(r->flags | FLAG_HIDDEN)) == flags_in_place(r->flags)) & (c[RAM_FREE][i] >= r->ram) &
           (c[VCPUS_FREE][i] >= r->vcpus) & (c[DISK_FREE][i] >= r->disk) & (c[IO_OPS][i] < r->io_limits[profile]) &
           (c[SERVERS][i] < r->server_limits[profile]);
}

/* The mask of one block, and how many rows pass. */
INLINE int32_t filter_block(const fleet *t, const class_rules *r, int64_t a, int verdict, int32_t *restrict mask) {
    const int32_t *restrict ram = t->column[RAM_FREE] + a, *restrict vcpus = t->column[VCPUS_FREE] + a;
    const int32_t *restrict disk = t->column[DISK_FREE] + a, *restrict io_ops = t->column[IO_OPS] + a;
    const int32_t *restrict servers = t->column[SERVERS] + a, *restrict who = t->column[WHO] + a;
    const int32_t *restrict io_limits = r->io_limits, *restrict server_limits = r->server_limits;
    const int32_t want_ram = r->ram, want_vcpus = r->vcpus, want_disk = r->disk, wanted = flags_in_place(r->flags);
    const int32_t seen = flags_in_place(r->flags | FLAG_HIDDEN), io_limit = r->io_limit, server_limit = r->server_limit;
    const uint32_t first = r->profile_bits[0], second = r->profile_bits[1];
    int32_t count = 0;
    for (int i = 0; i < BLOCK; i++) {
        const int32_t io_max = verdict == VERDICT_BOTH ? io_limits[who[i] & PROFILE_BITS] : io_limit;
        const int32_t servers_max = verdict == VERDICT_BOTH ? server_limits[who[i] & PROFILE_BITS] : server_limit;
        int32_t fits = ((who[i] & seen) == wanted) & (ram[i] >= want_ram) & (vcpus[i] >= want_vcpus) &
                       (disk[i] >= want_disk) & (io_ops[i] < io_max) & (servers[i] < servers_max);
        if (verdict == VERDICT_BITS) fits &= (int32_t)((who[i] & 32 ? second : first) >> (who[i] & 31));
        mask[i] = -fits;
        count += fits;
    }
    return count;
}

/* PERF: a block of a column is a page, behind which no processor looks ahead by itself. */
INLINE void prefetch_block(const fleet *t, int64_t a) {
    if (a >= t->capacity) return;
    for (int c = 0; c <= WHO; c++) __builtin_prefetch(t->column[c] + a), __builtin_prefetch(t->column[c] + a + 16);
    __builtin_prefetch(t->column[RAM_WEIGHT] + a);
    __builtin_prefetch(t->column[DISK_WEIGHT] + a);
    __builtin_prefetch(t->column[VCPUS_USED] + a);
    __builtin_prefetch(t->cpu_total + a);
}

INLINE int32_t filter_block_of(const fleet *t, const class_rules *r, int64_t a, int32_t *restrict mask) {
    prefetch_block(t, a + BLOCK);
    if (r->verdict == VERDICT_ONE) return filter_block(t, r, a, VERDICT_ONE, mask);
    if (r->verdict == VERDICT_BITS) return filter_block(t, r, a, VERDICT_BITS, mask);
    return filter_block(t, r, a, VERDICT_BOTH, mask);
}

/* Widen low..high by the masked values of n rows (a multiple of LANES) of one term. */
INLINE void widen_column(const int32_t *restrict x, const int32_t *restrict mask, int32_t floor, int n, double *low, double *high) {
    int32_t least = INT32_MAX, most = INT32_MIN;
    for (int i = 0; i < n; i++) {
        const int32_t v = x[i] < floor ? floor : x[i], m = mask[i];
        const int32_t p = (v & m) | (INT32_MAX & ~m), q = (v & m) | (INT32_MIN & ~m);
        least = p < least ? p : least;
        most = q > most ? q : most;
    }
    if (least > most) return; /* nobody */
    if (least < *low) *low = least;
    if (most > *high) *high = most;
}

typedef double doubles __attribute__((vector_size(32)));
typedef int64_t choices __attribute__((vector_size(32))); /* 0 or -1 */
typedef int32_t integers __attribute__((vector_size(16)));
typedef int32_t counts __attribute__((vector_size(32)));
enum { WIDE = 4 };

/* Macros: a function would give vectors back in another way with each instruction set. */
#define CHOSEN(which, one, other) ((doubles)(((choices)(one) & (which)) | ((choices)(other) & ~(which))))
#define LESSER(one, other) CHOSEN((one) < (other), one, other)
#define GREATER(one, other) CHOSEN((one) > (other), one, other)
/* PERF: by element, which the compiler knows as one instruction, for integers only. */
#define LESSER_COUNTS(into, one, other) for (int e_ = 0; e_ < LANES; e_++) (into)[e_] = (one)[e_] < (other)[e_] ? (one)[e_] : (other)[e_]
#define GREATER_COUNTS(into, one, other) for (int e_ = 0; e_ < LANES; e_++) (into)[e_] = (one)[e_] > (other)[e_] ? (one)[e_] : (other)[e_]

/* The same with a floor of 0, and, if `next` is not NULL, of the values but for one that is the largest a bound from above,
 * which one of them attains if there are others. PERF: what is not negative needs no blend, and no lane can look behind. */
INLINE void widen_counts(const int32_t *restrict x, const int32_t *restrict mask, int n, double *low, double *high, double *next) {
    const counts none = {0}, top = none + INT32_MAX;
    counts least = top, most = none, others = none;
    for (int i = 0; i < n; i += LANES) {
        counts v, m;
        memcpy(&v, x + i, sizeof v);
        memcpy(&m, mask + i, sizeof m);
        GREATER_COUNTS(v, v, none);
        const counts p = v | (top & ~m), q = v & m;
        LESSER_COUNTS(least, p, least);
        if (next != NULL) {
            counts lesser;
            LESSER_COUNTS(lesser, q, most);
            GREATER_COUNTS(others, lesser, others);
        }
        GREATER_COUNTS(most, q, most);
    }
    int32_t l = INT32_MAX, h = 0, o = 0;
    for (int k = 0; k < LANES; k++) {
        l = least[k] < l ? least[k] : l;
        const int32_t lesser = most[k] < h ? most[k] : h;
        o = lesser > o ? lesser : o;
        o = others[k] > o ? others[k] : o;
        h = most[k] > h ? most[k] : h;
    }
    if (l > h) return; /* nobody */
    if (l < *low) *low = l;
    if (h > *high) *high = h;
    if (next != NULL) *next = o;
}

/* The same of doubles, without a floor; less what is used, if that is told, and then with a floor of 0.
 * PERF: said in vectors, because left to itself the compiler loads them one by one: a quarter of a class's first pass. */
INLINE void widen_double(const double *restrict x, const int32_t *restrict used, const int32_t *restrict mask, int n, double *low, double *high,
                         double *next) {
    const doubles none = {0.0, 0.0, 0.0, 0.0}, top = none + INFINITY, bottom = none - INFINITY;
    doubles least = top, most = bottom, others = bottom;
    for (int i = 0; i < n; i += WIDE) {
        doubles v;
        integers taken_here, passes;
        memcpy(&v, x + i, sizeof v);
        memcpy(&passes, mask + i, sizeof passes);
        if (used != NULL) {
            memcpy(&taken_here, used + i, sizeof taken_here);
            v = v - __builtin_convertvector(taken_here, doubles);
            v = GREATER(v, none);
        }
        const choices which = __builtin_convertvector(passes, choices);
        const doubles p = CHOSEN(which, v, top), q = CHOSEN(which, v, bottom);
        least = LESSER(p, least);
        if (next != NULL) {
            const doubles lesser = LESSER(q, most);
            others = GREATER(lesser, others);
        }
        most = GREATER(q, most);
    }
    double h = -INFINITY, o = -INFINITY;
    for (int l = 0; l < WIDE; l++) {
        if (least[l] < *low) *low = least[l];
        const double lesser = most[l] < h ? most[l] : h;
        o = lesser > o ? lesser : o;
        o = others[l] > o ? others[l] : o;
        h = most[l] > h ? most[l] : h;
    }
    if (h > *high) *high = h;
    if (next != NULL) *next = o;
}

/* The same for any term and the n rows from `a`, whose masks begin at `mask`. */
INLINE void widen_step(const weigh_step *s, const int32_t *mask, int64_t a, int n, double *low, double *high) {
    if (s->kind == STEP_COLUMN && s->floor == 0)
        widen_counts(s->column + a, mask, n, low, high, NULL);
    else if (s->kind == STEP_COLUMN)
        widen_column(s->column + a, mask, s->floor, n, low, high);
    else if (s->kind == STEP_CPU)
        widen_double(s->values + a, s->column + a, mask, n, low, high, NULL);
    else
        widen_double(s->values + a, NULL, mask, n, low, high, NULL);
}

/* The same for a term with a floor of 0, and the bound of all values but one that is the largest (0 or less: nobody else). */
INLINE void widen_next(const weigh_step *s, const int32_t *mask, int64_t a, int n, double *low, double *high, double *next) {
    if (s->kind == STEP_CPU)
        widen_double(s->values + a, s->column + a, mask, n, low, high, next);
    else
        widen_counts(s->column + a, mask, n, low, high, next);
}

static inline double step_value(const weigh_step *s, int64_t i) {
    if (s->kind == STEP_DENSE) return s->values[i];
    if (s->kind == STEP_COLUMN) return s->column[i] < s->floor ? s->floor : s->column[i];
    const double v = s->values[i] - (double)s->column[i];
    return v > 0.0 ? v : 0.0;
}

static weigh_step column_step(const fleet *t, int term) {
    weigh_step s;
    memset(&s, 0, sizeof s);
    s.kind = term == TERM_CPU ? STEP_CPU : STEP_COLUMN;
    s.floor = term < FIXED_TERMS ? 0 : INT32_MIN;
    s.column = t->column[TERM_COLUMN[term]];
    s.values = t->cpu_total;
    s.low = INFINITY;
    s.high = -INFINITY;
    return s;
}

/* A step's share of the scores of n rows from `a`. */
INLINE void weigh_block(const weigh_step *s, const int32_t *who, int64_t a, int n, double *restrict score) {
    const double low = s->low, range = s->range, multiplier = s->multiplier;
    const int32_t floor = s->floor;
    const int32_t *restrict x = s->column + a;
    const double *restrict y = s->values + a;
    if (s->by_profile != NULL) {
        for (int i = 0; i < n; i++)
            score[i] += s->by_profile[(who[a + i] & PROFILE_BITS) * s->stride] * ((step_value(s, a + i) - low) / range);
    } else if (s->kind == STEP_COLUMN) {
        for (int i = 0; i < n; i++) {
            const int32_t v = x[i] < floor ? floor : x[i];
            score[i] += multiplier * (((double)v - low) / range);
        }
    } else if (s->kind == STEP_CPU) {
        for (int i = 0; i < n; i++) {
            double v = y[i] - (double)x[i];
            v = v > 0.0 ? v : 0.0;
            score[i] += multiplier * ((v - low) / range);
        }
    } else {
        for (int i = 0; i < n; i++) score[i] += multiplier * ((y[i] - low) / range);
    }
}

/* About the same without a division, in single precision.
 * PERF: four terms take 2.7 ns a host with their divisions, 0.8 without, and half of that in single precision. */
INLINE void estimate_block(const weigh_step *s, int64_t a, int n, float *restrict score) {
    const float low = (float)s->low, slope = (float)(s->multiplier / s->range);
    const int32_t floor = s->floor;
    const int32_t *restrict x = s->column + a;
    const double *restrict y = s->values + a;
    if (s->kind == STEP_COLUMN) {
        for (int i = 0; i < n; i++) {
            const int32_t v = x[i] < floor ? floor : x[i];
            score[i] += slope * ((float)v - low);
        }
    } else if (s->kind == STEP_CPU) {
        for (int i = 0; i < n; i++) {
            const float v = (float)(y[i] - (double)x[i]);
            score[i] += slope * ((v > 0.0f ? v : 0.0f) - low);
        }
    } else {
        for (int i = 0; i < n; i++) score[i] += slope * ((float)y[i] - low);
    }
}

/* How far an estimate of a row that passes can be from its score; infinity if there are none.
 *
 * With u = 2^-24 a term's difference is off by 2u of its largest value and 2u of itself, the product by 2u more, and each
 * of the sums by u of all terms: below, twice of that. What single precision cannot hold has no estimate. */
static double estimate_error(const weigh_step *steps, int count) {
    double size = 0.0;
    for (int k = 0; k < count; k++) {
        const weigh_step *s = &steps[k];
        const double most = fmax(fabs(s->low), fabs(s->high)), slope = fabs(s->multiplier / s->range);
        if (s->by_profile != NULL || !(most < 1e30) || !(slope < 1e30) || (slope < 1e-30 && slope != 0.0)) return INFINITY;
        size += fabs(s->multiplier) * (2.0 * most / s->range + 4.0 + count);
    }
    return (2.0 / (1 << 24) + SLACK) * size;
}

static inline double weigh_row(const weigh_step *steps, int count, const int32_t *who, int64_t i) {
    double score = 0.0;
    for (int k = 0; k < count; k++) {
        const weigh_step *s = &steps[k];
        const double m = s->by_profile != NULL ? s->by_profile[(who[i] & PROFILE_BITS) * s->stride] : s->multiplier;
        score += m * ((step_value(s, i) - s->low) / s->range);
    }
    return score;
}

/* PERF: by halves, which vectorises without -ffinite-math-only (that would let the compiler touch the sums as well). */
INLINE double largest_of(const double *restrict s, int n) {
    double half[BLOCK / 2];
    int width = n / 2;
    for (int i = 0; i < width; i++) half[i] = s[i] > s[i + width] ? s[i] : s[i + width];
    while (width > LANES) {
        width /= 2;
        for (int i = 0; i < width; i++) half[i] = half[i] > half[i + width] ? half[i] : half[i + width];
    }
    double best = -INFINITY;
    for (int i = 0; i < width; i++) best = half[i] > best ? half[i] : best;
    return best;
}

INLINE float largest_estimate(const float *restrict s) {
    float half[BLOCK / 2];
    int width = BLOCK / 2;
    for (int i = 0; i < width; i++) half[i] = s[i] > s[i + width] ? s[i] : s[i + width];
    while (width > 2 * LANES) {
        width /= 2;
        for (int i = 0; i < width; i++) half[i] = half[i] > half[i + width] ? half[i] : half[i + width];
    }
    float best = -INFINITY;
    for (int i = 0; i < width; i++) best = half[i] > best ? half[i] : best;
    return best;
}

/* Copy so many values; 1 when every one is a finite number. */
CLONES static int copy_finite(double *restrict to, const double *restrict values, int64_t n) {
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bad |= (int64_t)((bits & 0x7ff0000000000000) == 0x7ff0000000000000);
        to[i] = values[i];
    }
    return bad == 0;
}

/* Sweep 1: the mask, how many pass, and low..high of every step. */
CLONES static int64_t fleet_filter(const fleet *t, const class_rules *r, weigh_step *steps, int count) {
    const int64_t end = whole_blocks(t);
    int64_t found = 0;
    for (int64_t a = 0; a < end; a += BLOCK) {
        const int32_t here = filter_block_of(t, r, a, t->column[MASK] + a);
        if (here == 0) continue;
        found += here;
        for (int k = 0; k < count; k++)
            if (!steps[k].told) widen_step(&steps[k], t->column[MASK] + a, a, BLOCK, &steps[k].low, &steps[k].high);
    }
    return found;
}

/* Fix the normalisation: drops the steps that say nothing and returns how many are left. */
static int settle_steps(weigh_step *steps, int count, int64_t candidates) {
    int left = 0;
    for (int k = 0; k < count; k++) {
        weigh_step s = steps[k];
        if (s.floor == 0 && s.kind != STEP_DENSE) s.low = 0.0;
        s.range = s.high - s.low;
        if (candidates > 1 && s.range > 0.0 && (s.multiplier != 0.0 || s.by_profile != NULL)) steps[left++] = s;
    }
    return left;
}

/* Whether no row of the block from `a` can have a score above `floor` (or equal to it, if that counts). */
INLINE int block_is_below(const fleet *t, const weigh_step *steps, int count, int64_t a, double floor, int equal, double error) {
    float s[BLOCK];
    const int32_t *restrict mask = t->column[MASK] + a;
    for (int i = 0; i < BLOCK; i++) s[i] = 0.0f;
    for (int k = 0; k < count; k++) estimate_block(&steps[k], a, BLOCK, s);
    for (int i = 0; i < BLOCK; i++) s[i] = mask[i] ? s[i] : -INFINITY;
    const double most = (double)largest_estimate(s) + error;
    return equal ? most < floor : most <= floor;
}

/* The least and largest value of a term that is 0 but in some rows, after sweep 1, which found so many that pass. */
static void tell_sparse(const fleet *t, weigh_step *s, const int64_t *rows, int64_t n, int64_t found) {
    for (int64_t k = 0; k < n; k++) {
        if (!t->column[MASK][rows[k]]) continue;
        found--;
        if (s->values[rows[k]] < s->low) s->low = s->values[rows[k]];
        if (s->values[rows[k]] > s->high) s->high = s->values[rows[k]];
    }
    if (found == 0) return;
    if (0.0 < s->low) s->low = 0.0;
    if (0.0 > s->high) s->high = 0.0;
}

/* Sweep 2 over the mask: the best rows. With `narrow` the mask keeps only the rows whose score equals narrow[0]. */
CLONES static void fleet_weigh(const fleet *t, const weigh_step *steps, int count, ranking *top, const double *narrow) {
    double s[BLOCK];
    const int64_t end = whole_blocks(t);
    const double error = estimate_error(steps, count);
    for (int64_t a = 0; a < end; a += BLOCK) {
        int32_t *restrict mask = t->column[MASK] + a;
        const double wanted = narrow != NULL ? *narrow : rank_floor(top);
        if (wanted > -INFINITY && error < INFINITY && block_is_below(t, steps, count, a, wanted, narrow != NULL, error)) {
            if (narrow != NULL) memset(mask, 0, BLOCK * sizeof(int32_t));
            continue;
        }
        for (int i = 0; i < BLOCK; i++) s[i] = 0.0;
        for (int k = 0; k < count; k++) weigh_block(&steps[k], t->column[WHO], a, BLOCK, s);
        if (narrow != NULL) {
            for (int i = 0; i < BLOCK; i++) mask[i] &= -(int32_t)(s[i] == *narrow);
            continue;
        }
        for (int i = 0; i < BLOCK; i++) s[i] = mask[i] ? s[i] : -INFINITY;
        if (largest_of(s, BLOCK) == -INFINITY) continue;
        for (int i = 0; i < BLOCK; i++)
            if (s[i] != -INFINITY && (top->got < top->wanted || s[i] > top->at[top->wanted - 1].score)) rank_add(top, a + i, s[i]);
    }
}

static int by_rank(const void *x, const void *y) {
    const host_rank *a = x, *b = y;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Sweep 2 when many are wanted: every row of the mask into `top`, which has room for them, best first. */
static void fleet_weigh_all(const fleet *t, const weigh_step *steps, int count, ranking *top) {
    top->got = 0;
    for (int64_t i = 0; i < t->rows; i++) {
        if (!t->column[MASK][i]) continue;
        top->at[top->got].row = i;
        top->at[top->got++].score = weigh_row(steps, count, t->column[WHO], i);
    }
    qsort(top->at, (size_t)top->got, sizeof(host_rank), by_rank);
}

/* Filter and weigh only some rows, all different: leaves those that pass in `top`, which has room for `n`, best first. */
static void fleet_rank_rows(const fleet *t, const class_rules *r, weigh_step *steps, int count, const int64_t *rows, int64_t n, ranking *top) {
    top->got = 0;
    for (int64_t k = 0; k < n; k++) {
        if (!row_passes(t, r, rows[k])) continue;
        top->at[top->got++].row = rows[k];
        for (int s = 0; s < count; s++) {
            const double x = step_value(&steps[s], rows[k]);
            if (x < steps[s].low) steps[s].low = x;
            if (x > steps[s].high) steps[s].high = x;
        }
    }
    count = settle_steps(steps, count, top->got);
    for (int64_t k = 0; k < top->got; k++) top->at[k].score = weigh_row(steps, count, t->column[WHO], top->at[k].row);
    qsort(top->at, (size_t)top->got, sizeof(host_rank), by_rank);
}

/* Sweep 2 for the least loaded host: score = -(vCPUs taken), negated as an integer so that none taken is never -0.0. */
CLONES static void fleet_least_used(const fleet *t, ranking *top) {
    double s[BLOCK];
    const int64_t end = whole_blocks(t);
    for (int64_t a = 0; a < end; a += BLOCK) {
        const int32_t *restrict mask = t->column[MASK] + a, *restrict used = t->column[VCPUS_USED] + a;
        for (int i = 0; i < BLOCK; i++) s[i] = mask[i] ? (double)-used[i] : -INFINITY;
        const double best = largest_of(s, BLOCK), floor = rank_floor(top);
        if (best == -INFINITY || (top->got == top->wanted && best <= floor)) continue;
        for (int i = 0; i < BLOCK; i++)
            if (s[i] != -INFINITY && (top->got < top->wanted || s[i] > top->at[top->wanted - 1].score)) rank_add(top, a + i, s[i]);
    }
}

/* How often what is taken still fits on the rows of the mask, all told. */
static int64_t fleet_room(const fleet *t, const class_rules *r, const taken *d) {
    int32_t *const *c = t->column;
    int64_t total = 0;
    for (int64_t i = 0; i < t->rows; i++) {
        if (!c[MASK][i]) continue;
        int64_t more = INT32_MAX;
        const int64_t spare[5][2] = {
            {(int64_t)c[RAM_FREE][i] - r->ram, d->ram},
            {(int64_t)c[VCPUS_FREE][i] - r->vcpus, d->vcpus},
            {(int64_t)c[DISK_FREE][i] - r->disk, d->disk},
            {(int64_t)r->io_limits[c[WHO][i] & PROFILE_BITS] - 1 - c[IO_OPS][i], d->io_ops},
            {(int64_t)r->server_limits[c[WHO][i] & PROFILE_BITS] - 1 - c[SERVERS][i], d->servers},
        };
        for (int k = 0; k < 5; k++)
            if (spare[k][1] > 0 && spare[k][0] / spare[k][1] < more) more = spare[k][0] / spare[k][1];
        total += 1 + more;
    }
    return total;
}

#endif
