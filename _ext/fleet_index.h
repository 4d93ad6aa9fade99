/* The exact index of a class of requests: what it knows of every block of rows, and the best row from few looks.
 *
 * For each block of 64 to 256 rows a class keeps: which rows pass (a bit each), how many, the box (least and largest
 * value of each weigher among them), an upper bound of their scores, the leader, which has the best score, if known, and a
 * bound of all the others (`second`).
 * 64 blocks are a group with a box and a bound of its own, so a million hosts are about 60 groups.
 *
 * A question first catches up with the log, where several changes of one row are heard as one. A row that changed costs a
 * few comparisons and touches two cache lines of its block: it widens the box, may raise
 * the bound, and may leave either *loose* (an upper bound that perhaps nobody attains any more). The normalisation wants
 * exact extremes; so a loose edge is looked up again, but only in a block that seems to hold the fleet's extreme. When the
 * largest value of a block goes, its edge falls to a bound of the others (`next`), so that this seldom happens.
 *
 * When an extreme moves, all scores change. Bounds belong to the coefficients (the normalisation) of their group and are
 * carried over to today's before use. With the gap g = corner of the box - bound, every row lies at least g below the
 * corner, hence under new coefficients at least rho * g below the new corner, where rho is the least ratio by which the
 * slope of a term that varies in the box has changed. Rounding is covered by `slack`. Where all terms that moved sit at the
 * normalisation's minimum in the whole box (I/O of an idle block), they add 0 before and after, and all stays exact.
 *
 * A block is passed over only if its bound, or its corner computed with the very operations of a score, is below the best
 * so far, or equal to it with higher rows. IEEE subtraction, division by a positive, multiplication by a constant and
 * addition are monotone under rounding, so that corner is a bound without any slack: what keeps giant ties exact and cheap.
 */
#ifndef NOVA_FAST_FLEET_INDEX_H
#define NOVA_FAST_FLEET_INDEX_H

#include "fleet_scan.h"

enum { GROUP = 64, BLOCK_ROWS_MAX = 256, AHEAD = 6 };
enum { PLANE = 4, PLANES = TERMS / PLANE }; /* the terms are worked out four at a time, the second four if they vary */
_Static_assert((int)PLANE == (int)FIXED_TERMS, "the edges of the first plane have a floor of 0 (widen_next)");
#define RATIO_MAX 2.0

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" /* nothing of this is called from outside */
#endif

/* PERF: four values in one instruction where the machine has it, in two where not; `lane_mask` is 0 or -1. */
typedef double lanes __attribute__((vector_size(PLANE * sizeof(double))));
typedef int64_t lane_mask __attribute__((vector_size(PLANE * sizeof(double))));

INLINE lanes lanes_at(const double *values) {
    lanes v;
    memcpy(&v, values, sizeof v);
    return v;
}
INLINE void lanes_put(double *values, lanes v) { memcpy(values, &v, sizeof v); }
INLINE lanes lanes_of(double x) { return (lanes){x, x, x, x}; }
INLINE lane_mask mask_of(int all) { return (lane_mask){-(int64_t)all, -(int64_t)all, -(int64_t)all, -(int64_t)all}; }
INLINE lanes pick(lane_mask which, lanes yes, lanes no) { return (lanes)((which & (lane_mask)yes) | (~which & (lane_mask)no)); }
INLINE int64_t any_lane(lane_mask m) { return (m[0] | m[1]) | (m[2] | m[3]); }
INLINE int64_t all_lanes(lane_mask m) { return (m[0] & m[1]) & (m[2] & m[3]); }
INLINE lanes size_of(lanes v) { return pick(v < 0.0, -v, v); }
INLINE double sum_of(lanes v) { return (v[0] + v[1]) + (v[2] + v[3]); }

typedef struct { /* a normalisation; by term. A term that says nothing has range 0, and a divisor that does no harm */
    double low[TERMS], range[TERMS], divisor[TERMS], multiplier[TERMS], slope[TERMS];
    uint64_t stamp; /* 0 = none yet */
} coefficients;

typedef struct { /* the least and the largest value of each term of a plane */
    double low[PLANE], high[PLANE];
} box;

typedef struct {     /* PERF: what a change of a row touches, in two cache lines */
    box edge;
    double next[PLANE]; /* of all values but one at the high edge */
    double second;      /* of the scores of the rows that are not the leader; if there is a leader */
    int32_t leader;     /* a row, or -1 = not known */
    int32_t count;      /* rows that pass */
    uint8_t loose[PLANES]; /* bit 2 * lane + side */
    uint8_t exact;      /* the leader attains the bound, and no lower row does */
} __attribute__((aligned(64))) block;

typedef struct {
    class_rules rules;
    int active, terms, live, planes;  /* how many terms have a multiplier; of these vary; of these count today */
    int active_term[TERMS], term[TERMS];
    weigh_step step[TERMS];           /* by term: where the values are */
    weigh_step live_step[TERMS];      /* in the order of the sum */
    double constant[TERMS];           /* by term: the one value of a term that does not vary */
    int64_t sure[2][TERMS];           /* a block that is likely to attain the extreme, by side (0 low, 1 high) */
    coefficients now;
    uint64_t stamps;

    int built, shift;
    int64_t cursor, capacity, blocks, groups, total, bytes;
    void *memory;
    uint64_t *passing;                /* by row, a bit */
    block *block;
    box *further;                     /* by block: of the second plane */
    double *bound;                    /* by block */
    box *group_box[PLANES];
    double *group_bound, *group_today, *group_left;
    uint64_t *group_today_stamp;
    uint8_t *group_wide;              /* by plane, a bit: the group's box may be wider than those of its blocks */
    coefficients *group_at;           /* what the bounds of the group and its blocks are about */

    int64_t looks_left; /* how many more blocks whoever asks now may look at */
    int64_t questions, visits, lookups, touches, builds;
} class_index;

INLINE int plane_of(int term) { return term / PLANE; }
INLINE int lane_of(int term) { return term % PLANE; }
INLINE box *block_box(const class_index *c, int64_t b, int plane) { return plane == 0 ? &c->block[b].edge : &c->further[b]; }
INLINE double edge_of(const box *x, int lane, int side) { return side ? x->high[lane] : x->low[lane]; }

static int block_shift(int64_t capacity) { return capacity <= 16384 ? 6 : capacity <= 262144 ? 7 : 8; }

static void class_free(class_index *c) {
    free(c->memory);
    c->memory = NULL;
    c->built = 0;
    c->bytes = 0;
}

/* Room for a class over the table's capacity; 0, or -1 when there is no memory. */
static int class_allocate(class_index *c, int64_t capacity, int planes) {
    const int shift = block_shift(capacity);
    const int64_t groups = ((capacity >> shift) + GROUP - 1) / GROUP, blocks = groups * GROUP;
    size_t at = 0, place[16];
    int n = 0;
#define RESERVE(count, size) (place[n++] = at, at += ((size_t)(count) * (size) + 63) / 64 * 64)
    RESERVE(blocks << (shift - 6), sizeof(uint64_t));
    RESERVE(blocks, sizeof(block));
    RESERVE(planes > 1 ? blocks : 0, sizeof(box));
    RESERVE(blocks, sizeof(double));
    for (int p = 0; p < PLANES; p++) RESERVE(p < planes ? groups : 0, sizeof(box));
    for (int k = 0; k < 4; k++) RESERVE(groups, sizeof(double));
    RESERVE(groups, sizeof(uint8_t));
    RESERVE(groups, sizeof(coefficients));
#undef RESERVE
    class_free(c);
    char *memory = NULL;
    if (posix_memalign((void **)&memory, 64, at) != 0) return -1;
    c->memory = memory;
    c->bytes = (int64_t)at;
    c->shift = shift;
    c->capacity = capacity;
    c->planes = planes;
    c->groups = groups;
    c->blocks = blocks;
    n = 0;
#define TAKE(pointer) (*(void **)&(pointer) = memory + place[n++])
    TAKE(c->passing);
    TAKE(c->block);
    TAKE(c->further);
    TAKE(c->bound);
    for (int p = 0; p < PLANES; p++) TAKE(c->group_box[p]);
    TAKE(c->group_bound);
    TAKE(c->group_today);
    TAKE(c->group_left);
    TAKE(c->group_today_stamp);
    TAKE(c->group_wide);
    TAKE(c->group_at);
#undef TAKE
    return 0;
}

/* What a class has never asked of the table: which terms it weighs by. */
static void class_prepare(class_index *c) {
    c->active = 0;
    if (c->rules.multipliers != NULL) return; /* they differ by profile: the index only counts */
    for (int term = 0; term < TERMS; term++)
        if (c->rules.multiplier[term] != 0.0) c->active_term[c->active++] = term;
}

/* Make a group's box that of its blocks' boxes, which it is or holds at all times. */
CLONES static void group_enclose(class_index *c, int64_t g, int plane) {
    lanes low = lanes_of(INFINITY), high = lanes_of(-INFINITY);
    for (int64_t b = g * GROUP; b < (g + 1) * GROUP; b++) {
        const box *of = block_box(c, b, plane);
        const lanes l = lanes_at(of->low), h = lanes_at(of->high);
        low = pick(l < low, l, low);
        high = pick(h > high, h, high);
    }
    lanes_put(c->group_box[plane][g].low, low);
    lanes_put(c->group_box[plane][g].high, high);
    c->group_wide[g] &= (uint8_t)~(1 << plane);
}

static void box_empty(box *x) {
    for (int k = 0; k < PLANE; k++) x->low[k] = INFINITY, x->high[k] = -INFINITY;
}

static void block_empty(class_index *c, int64_t b) {
    block *at = &c->block[b];
    memset(at, 0, sizeof *at);
    for (int p = 0; p < c->planes; p++) box_empty(block_box(c, b, p));
    for (int k = 0; k < PLANE; k++) at->next[k] = -INFINITY;
    c->bound[b] = at->second = -INFINITY;
    at->leader = -1;
}

/* Whether a term whose value all hosts share says something: with a minimum fixed at 0 every other value does. */
static inline int term_counts(int term, double value) { return term < FIXED_TERMS && value != 0.0; }

/* Whether a term with a free minimum has the same value in all rows: then it need not be looked at. */
static inline int same_everywhere(const fleet *t, int term) { return term >= FIXED_TERMS && t->unusual[term] == 0; }

/* How many planes are looked at: all, when a term of the second has several values, or will have. */
static int planes_wanted(const fleet *t, const class_index *c) {
    int planes = c->active > 0;
    for (int k = 0; k < c->active; k++) {
        const int term = c->active_term[k];
        if (plane_of(term) > 0 && (term == TERM_SERVERS || !same_everywhere(t, term))) planes = PLANES;
    }
    return planes;
}

/* 32 masks as bits. */
INLINE uint32_t fold(const int32_t *restrict mask) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++) bits |= (uint32_t)mask[i] & ((uint32_t)1 << i);
    return bits;
}

/* The edges of a block's box for one term, which was empty: and what is below the high one, in the first plane. */
INLINE void survey_edges(class_index *c, int64_t b, int term, const int32_t *mask, int64_t a, int rows) {
    box *of = block_box(c, b, plane_of(term));
    double *low = &of->low[lane_of(term)], *high = &of->high[lane_of(term)];
    if (plane_of(term) == 0)
        widen_next(&c->step[term], mask, a, rows, low, high, &c->block[b].next[term]);
    else
        widen_step(&c->step[term], mask, a, rows, low, high);
}

/* The pass that makes a class: who passes, and every block's box. */
CLONES static void class_survey(const fleet *t, class_index *c) {
    const int rows = 1 << c->shift;
    const int64_t end = whole_blocks(t);
    int32_t mask[BLOCK]; /* PERF: not the fleet's, which would go through memory */
    for (int64_t a = 0; a < end; a += BLOCK) {
        if (filter_block_of(t, &c->rules, a, mask) == 0) continue;
        for (int w = 0; w < BLOCK / 64; w++) {
            const uint64_t word = fold(mask + 64 * w) | (uint64_t)fold(mask + 64 * w + 32) << 32;
            c->passing[a / 64 + w] = word;
            const int64_t b = (a + 64 * w) >> c->shift;
            const int here = __builtin_popcountll(word);
            if (here == 0) continue;
            c->bound[b] = INFINITY;
            c->block[b].count += here;
            c->total += here;
        }
        for (int r = 0; r < BLOCK; r += rows)
            for (int term = 0; term < PLANE * c->planes; term++) survey_edges(c, (a + r) >> c->shift, term, mask + r, a + r, rows);
    }
}

/* Learn the whole table; 0, or -1 when there is no memory. */
static int class_build(const fleet *t, class_index *c) {
    const int planes = planes_wanted(t, c);
    if ((c->memory == NULL || c->capacity != t->capacity || c->planes != planes) && class_allocate(c, t->capacity, planes) != 0)
        return -1;
    memset(c->passing, 0, (size_t)(c->blocks << (c->shift - 6)) * sizeof(uint64_t));
    memset(c->group_today_stamp, 0, (size_t)c->groups * sizeof(uint64_t));
    memset(c->group_at, 0, (size_t)c->groups * sizeof(coefficients));
    for (int64_t b = 0; b < c->blocks; b++) block_empty(c, b);
    for (int term = 0; term < TERMS; term++) c->step[term] = column_step(t, term);
    c->total = 0;
    class_survey(t, c);
    for (int64_t g = 0; g < c->groups; g++) {
        for (int p = 0; p < planes; p++) group_enclose(c, g, p);
        c->group_bound[g] = -INFINITY;
        for (int i = 0; i < GROUP; i++)
            if (c->bound[g * GROUP + i] > c->group_bound[g]) c->group_bound[g] = c->bound[g * GROUP + i];
    }
    c->terms = 0;
    for (int k = 0; k < c->active; k++) {
        const int term = c->active_term[k], p = plane_of(term);
        double low = INFINITY, high = -INFINITY;
        c->sure[0][term] = c->sure[1][term] = 0;
        if (p >= planes) {
            c->constant[term] = c->total > 0 ? t->usual[term] : INFINITY;
            continue;
        }
        for (int64_t g = 0; g < c->groups; g++) {
            const box *of = &c->group_box[p][g];
            low = of->low[lane_of(term)] < low ? of->low[lane_of(term)] : low;
            high = of->high[lane_of(term)] > high ? of->high[lane_of(term)] : high;
        }
        c->constant[term] = low; /* infinity = nobody passes yet */
        if (low < high || (low == high && term_counts(term, low))) c->term[c->terms++] = term;
    }
    memset(&c->now, 0, sizeof c->now);
    c->built = 1;
    c->builds++;
    return 0;
}

/* A term that was the same everywhere begins to vary. Its boxes are known; else the class must learn the table anew. */
static void class_revive(class_index *c, int term) {
    if (plane_of(term) >= c->planes) {
        c->built = 0;
        return;
    }
    int at = c->terms++;
    for (; at > 0 && c->term[at - 1] > term; at--) c->term[at] = c->term[at - 1];
    c->term[at] = term;
    memset(c->group_today_stamp, 0, (size_t)c->groups * sizeof(uint64_t));
}

static void touch_leaves(class_index *c, int64_t row, int64_t b) {
    block *at = &c->block[b];
    c->total--;
    if (at->leader == row) {
        c->bound[b] = at->second;
        at->leader = -1;
        at->exact = 0;
    }
    if (--at->count > 0) return;
    block_empty(c, b);
    c->group_wide[b / GROUP] = (1 << PLANES) - 1;
}

/* Bits of what has happened to a box: by edge, an edge that may be loose and one that is not; then for the whole box. */
static const lane_mask LOW_BIT = {1, 4, 16, 64}, HIGH_BIT = {2, 8, 32, 128};
enum { FAST = 8, GREW = 1 << 16, SHRANK = 1 << 17 };

/* A row of block b has these values if it passes, and had those `before` if it did: keep the box a box.
 * An edge that it left may be loose: the low one stays, the high one falls to the bound of the others. One that it attains is
 * not. PERF: none of this can be predicted, so it is worked out without a branch. */
INLINE void touch_box(class_index *c, int64_t b, int was, int passes, const double *before, const double *value) {
    const int64_t g = b / GROUP;
    block *at = &c->block[b];
    for (int p = 0; p < c->planes; p++) {
        box *edge = block_box(c, b, p), *whole = &c->group_box[p][g];
        const lanes low = lanes_at(edge->low), high = lanes_at(edge->high), old = lanes_at(before + p * PLANE);
        const lanes next = p == 0 ? lanes_at(at->next) : high, x = lanes_at(value + p * PLANE);
        const lanes x_low = pick(mask_of(passes), x, lanes_of(INFINITY)), x_high = pick(mask_of(passes), x, lanes_of(-INFINITY));
        const lane_mask from_low = (old == low) & mask_of(was), from_high = (old == high) & mask_of(was);
        const lanes fallen = pick(from_high, next, high);
        const lane_mask to_low = x_low <= low, to_high = x_high >= fallen;
        const lanes new_low = pick(to_low, x_low, low), new_high = pick(to_high, x_high, fallen);
        lanes_put(edge->low, new_low);
        lanes_put(edge->high, new_high);
        if (p == 0) lanes_put(at->next, pick(to_high, fallen, pick(x_high > next, x_high, next)));
        const lanes whole_low = lanes_at(whole->low), whole_high = lanes_at(whole->high);
        const lane_mask grew = (new_low < whole_low) | (new_high > whole_high);
        const lane_mask shrank = (high == whole_high) & (new_high < high);
        const int64_t bits = any_lane((from_low & LOW_BIT) | (from_high & HIGH_BIT) | (to_low & (LOW_BIT << FAST)) |
                                      (to_high & (HIGH_BIT << FAST)) | (grew & GREW) | (shrank & SHRANK));
        at->loose[p] = (uint8_t)((at->loose[p] | bits) & ~(bits >> FAST));
        if (bits & GREW) {
            lanes_put(whole->low, pick(new_low < whole_low, new_low, whole_low));
            lanes_put(whole->high, pick(new_high > whole_high, new_high, whole_high));
            c->group_today_stamp[g] = 0;
        }
        if (bits & SHRANK) c->group_wide[g] |= (uint8_t)(1 << p);
    }
}

/* A score by these coefficients, in the order of the sum. A term that says nothing adds 0, which changes no bit. */
INLINE double score_of(const coefficients *at, int planes, const lanes *value) {
    double score = 0.0;
    for (int p = 0; p < planes; p++) {
        const lanes low = lanes_at(at->low + p * PLANE), divisor = lanes_at(at->divisor + p * PLANE);
        const lanes share = lanes_at(at->multiplier + p * PLANE) * ((value[p] - low) / divisor);
        for (int k = 0; k < PLANE; k++) score += share[k];
    }
    return score;
}

/* A row of block b passes and has these values: keep the bound a bound, and the leader the leader. */
INLINE void touch_bound(class_index *c, int64_t b, int64_t row, const double *value) {
    const int64_t g = b / GROUP;
    block *at = &c->block[b];
    double score = INFINITY;
    if (c->group_at[g].stamp != 0) {
        const lanes all[PLANES] = {lanes_at(value), lanes_at(value + PLANE)};
        score = score_of(&c->group_at[g], c->planes, all);
    }
    const int32_t leader = at->leader;
    if (leader == row) {
        /* As good as another bound may mean that a lower row is as good. */
        at->exact = score > at->second;
        c->bound[b] = at->exact ? score : at->second;
        if (score < at->second) at->leader = -1;
    } else if (score > c->bound[b]) {
        at->second = c->bound[b];
        c->bound[b] = score;
        at->exact = score < INFINITY;
        at->leader = at->exact ? (int32_t)row : -1;
    } else if (leader >= 0) {
        if (score == c->bound[b] && at->exact && row < leader) at->leader = (int32_t)row;
        if (score > at->second) at->second = score;
    }
    if (c->bound[b] > c->group_bound[g]) c->group_bound[g] = c->bound[b], c->group_today_stamp[g] = 0;
}

/* A row passes with these values: terms that said nothing so far may begin to vary. */
INLINE void touch_constants(class_index *c, const double *value) {
    for (int k = 0, next = 0; k < c->active; k++) {
        const int term = c->active_term[k];
        if (next < c->terms && c->term[next] == term) {
            next++;
        } else if (value[term] != c->constant[term]) {
            if (c->constant[term] == INFINITY && !term_counts(term, value[term])) {
                c->constant[term] = value[term];
            } else {
                class_revive(c, term);
                next += c->built;
            }
        }
    }
}

/* Take a change in: of a row that the class knows as it was `before`. */
INLINE void class_touch(class_index *c, const change_record *record, const weights *before) {
    const int64_t row = record->row, b = row >> c->shift;
    uint64_t *word = &c->passing[row >> 6];
    const uint64_t bit = (uint64_t)1 << (row & 63);
    const int was = (*word & bit) != 0, passes = record_passes(record, &c->rules);
    c->touches++;
    if (!was && !passes) return;
    if (passes && c->terms < c->active) touch_constants(c, record->now.of);
    touch_box(c, b, was, passes, before->of, record->now.of);
    if (!passes) {
        *word &= ~bit;
        touch_leaves(c, row, b);
        return;
    }
    if (!was) {
        *word |= bit;
        c->block[b].count++;
        c->total++;
    }
    touch_bound(c, b, row, record->now.of);
}

/* PERF: asked for some changes ahead, what a change touches is there in time. */
INLINE void class_prefetch(const class_index *c, int64_t row) {
    const int64_t b = row >> c->shift;
    __builtin_prefetch(&c->passing[row >> 6], 1);
    __builtin_prefetch(&c->bound[b], 1);
    __builtin_prefetch(&c->block[b], 1);
    __builtin_prefetch((const char *)&c->block[b] + 64, 1);
    if (c->planes > 1) __builtin_prefetch(&c->further[b], 1);
}

/* Whether the log no longer tells all that a class does not know, or a pass over all hosts costs less than to hear it. */
static inline int class_is_lost(const fleet *t, const class_index *c) {
    const int64_t behind = t->head - c->cursor;
    return !c->built || c->capacity != t->capacity || behind > t->log_size || behind > 64 + t->rows / 8;
}

/* Take in what the log tells next, at most so much. Several changes of a row are one. The class is not lost. */
CLONES static void class_follow(fleet *t, class_index *c, int64_t most) {
    const int64_t begin = c->cursor, end = t->head - begin > most ? begin + most : t->head;
    for (int64_t at = begin; at < end; at++) {
        if (at + AHEAD < end) class_prefetch(c, log_at(t, at + AHEAD)->row);
        const change_record *record = log_at(t, at);
        if (record->later > 0 && at + record->later < end) continue;
        class_touch(c, record, seen_before(t, at, begin));
    }
    c->cursor = end;
    if (end > t->seen) t->seen = end;
}

/* The same for one change that is not in the log. */
CLONES static void class_hear(class_index *c, const change_record *record) { class_touch(c, record, &record->before); }

/* Make the class know what the log tells; 0, or -1 when there is no memory. */
static int class_catch_up(fleet *t, class_index *c) {
    if (!class_is_lost(t, c)) {
        class_follow(t, c, t->log_size);
        if (c->built) return 0;
    }
    if (class_build(t, c) != 0) return -1;
    c->cursor = t->head;
    t->seen = t->head;
    return 0;
}

INLINE void unfold(const uint64_t *passing, int rows, int32_t *restrict mask) {
    for (int w = 0; w < rows / 64; w++)
        for (int i = 0; i < 64; i++) mask[64 * w + i] = -(int32_t)((passing[w] >> i) & 1);
}

/* The true edges of a block's box for one term. Somebody passes. */
CLONES static void block_edges(class_index *c, int64_t b, int term) {
    int32_t mask[BLOCK_ROWS_MAX];
    const int rows = 1 << c->shift;
    box *of = block_box(c, b, plane_of(term));
    of->low[lane_of(term)] = INFINITY;
    of->high[lane_of(term)] = -INFINITY;
    unfold(c->passing + (b << (c->shift - 6)), rows, mask);
    survey_edges(c, b, term, mask, b << c->shift, rows);
    c->block[b].loose[plane_of(term)] &= (uint8_t)~(3u << (2 * lane_of(term)));
    c->lookups++;
}

/* Whether whoever asks may look at one more block. */
static inline int may_look(class_index *c) { return c->looks_left > 0 && c->looks_left-- > 0; }

/* The fleet's least (side 0) or largest (side 1) value of a term among the rows that pass: attained, not only a bound.
 * NAN if it takes more looks than are left. */
static double class_extreme(class_index *c, int term, int side) {
    const int plane = plane_of(term), lane = lane_of(term);
    const uint8_t bit = (uint8_t)(1u << (2 * lane + side));
    const box *group = c->group_box[plane];
    for (;;) {
        double extreme = side ? -INFINITY : INFINITY;
        for (int64_t g = 0; g < c->groups; g++) {
            const double x = edge_of(&group[g], lane, side);
            if (side ? x > extreme : x < extreme) extreme = x;
        }
        int64_t doubtful = -1;
        const int64_t sure = c->sure[side][term];
        if (edge_of(block_box(c, sure, plane), lane, side) == extreme && !(c->block[sure].loose[plane] & bit)) return extreme;
        for (int64_t g = 0; g < c->groups; g++) {
            if (edge_of(&group[g], lane, side) != extreme) continue;
            if (c->group_wide[g] >> plane & 1) group_enclose(c, g, plane);
            if (edge_of(&group[g], lane, side) != extreme) continue;
            for (int64_t b = g * GROUP; b < (g + 1) * GROUP; b++) {
                if (edge_of(block_box(c, b, plane), lane, side) != extreme) continue;
                if (!(c->block[b].loose[plane] & bit)) {
                    c->sure[side][term] = b;
                    return extreme;
                }
                if (doubtful < 0) doubtful = b;
            }
        }
        if (doubtful < 0) continue; /* a group was wider than its blocks */
        if (!may_look(c)) return NAN;
        block_edges(c, doubtful, term);
        group_enclose(c, doubtful / GROUP, plane);
    }
}

/* Today's normalisation. More than one row passes. Whether the looks that are left were enough to know it. */
static int class_settle(class_index *c) {
    coefficients next;
    memset(&next, 0, sizeof next);
    for (int term = 0; term < TERMS; term++) next.divisor[term] = 1.0;
    c->live = 0;
    for (int k = 0; k < c->terms; k++) {
        const int term = c->term[k];
        const double high = class_extreme(c, term, 1), low = term < FIXED_TERMS ? 0.0 : class_extreme(c, term, 0);
        if (isnan(high) || isnan(low)) return 0;
        if (!(high > low)) continue;
        next.low[term] = low;
        next.range[term] = next.divisor[term] = high - low;
        next.multiplier[term] = c->rules.multiplier[term];
        next.slope[term] = next.multiplier[term] / next.range[term];
        weigh_step *step = &c->live_step[c->live++];
        *step = c->step[term];
        step->low = low;
        step->range = next.range[term];
        step->multiplier = next.multiplier[term];
    }
    next.stamp = c->now.stamp;
    if (next.stamp != 0 && memcmp(&next, &c->now, sizeof next) == 0) return 1;
    next.stamp = ++c->stamps;
    c->now = next;
    return 1;
}

#endif
