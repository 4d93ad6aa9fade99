/* The exact index of a class of requests: what it knows of every block of rows, and the best row from few looks.
 *
 * For each block of 64 to 256 rows a class keeps: which rows pass (a bit each), how many, the box (least and largest
 * value of each weigher among them), an upper bound of their scores, the leader, which has the best score, if known, and a
 * bound of all the others (`second`).
 * 64 blocks are a group with a box and a bound of its own, so a million hosts are about 60 groups.
 *
 * A question first catches up with the log. A row that changed costs a few comparisons: it widens the box, may raise
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
#define RATIO_MAX 2.0

typedef struct { /* a normalisation; by term, all 0 where the term says nothing */
    double low[TERMS], high[TERMS], range[TERMS], multiplier[TERMS], slope[TERMS];
    uint64_t stamp; /* 0 = none yet */
} coefficients;

typedef struct {
    class_rules rules;
    int active, terms, live;          /* how many terms have a multiplier; of these vary; of these count today */
    int active_term[TERMS], term[TERMS];
    weigh_step step[TERMS];           /* by term: where the values are */
    weigh_step live_step[TERMS];      /* in the order of the sum */
    double constant[TERMS];           /* by term: the one value of a term that does not vary */
    int64_t sure[2][TERMS];           /* a block that is likely to attain the extreme */
    coefficients now;
    uint64_t stamps;

    int built, shift;
    int64_t cursor, capacity, blocks, groups, total, bytes;
    void *memory;
    uint64_t *passing;                /* by row, a bit */
    double *edge[2][TERMS];           /* by side (0 low, 1 high), term and block */
    double *next[TERMS];              /* by term and block: of all values but one at the high edge */
    double *bound;                    /* by block */
    double *second;                   /* by block: of the rows that are not the leader; if there is a leader */
    int32_t *leader;                  /* by block: a row, or -1 = not known */
    uint8_t *exact;                   /* by block: the leader attains the bound, and no lower row does */
    int32_t *count;                   /* by block: rows that pass */
    uint16_t *loose;                  /* by block: bit 2 * term + side */
    double *group_edge[2][TERMS], *group_bound, *group_today, *group_left;
    uint64_t *group_today_stamp;
    coefficients *group_at;           /* what the bounds of the group and its blocks are about */

    int64_t looks_left; /* how many more blocks whoever asks now may look at */
    int64_t questions, visits, lookups, touches, builds;
} class_index;

static int block_shift(int64_t capacity) { return capacity <= 16384 ? 6 : capacity <= 262144 ? 7 : 8; }

static void class_free(class_index *c) {
    free(c->memory);
    c->memory = NULL;
    c->built = 0;
    c->bytes = 0;
}

/* Room for a class over the table's capacity; 0, or -1 when there is no memory. */
static int class_allocate(class_index *c, int64_t capacity) {
    const int shift = block_shift(capacity);
    const int64_t groups = ((capacity >> shift) + GROUP - 1) / GROUP, blocks = groups * GROUP;
    size_t at = 0, place[12 + 5 * TERMS];
    int n = 0;
#define RESERVE(count, size) (place[n++] = at, at += ((size_t)(count) * (size) + 63) / 64 * 64)
    RESERVE(blocks << (shift - 6), sizeof(uint64_t));
    for (int k = 0; k < 3 * c->active; k++) RESERVE(blocks, sizeof(double));
    RESERVE(blocks, sizeof(double));
    RESERVE(blocks, sizeof(double));
    RESERVE(blocks, sizeof(int32_t));
    RESERVE(blocks, sizeof(uint8_t));
    RESERVE(blocks, sizeof(int32_t));
    RESERVE(blocks, sizeof(uint16_t));
    for (int k = 0; k < 2 * c->active + 4; k++) RESERVE(groups, sizeof(double));
    RESERVE(groups, sizeof(coefficients));
#undef RESERVE
    class_free(c);
    char *memory = NULL;
    if (posix_memalign((void **)&memory, 64, at) != 0) return -1;
    c->memory = memory;
    c->bytes = (int64_t)at;
    c->shift = shift;
    c->capacity = capacity;
    c->groups = groups;
    c->blocks = blocks;
    n = 0;
#define TAKE(pointer) (*(void **)&(pointer) = memory + place[n++])
    TAKE(c->passing);
    for (int k = 0; k < c->active; k++) {
        TAKE(c->edge[0][c->active_term[k]]);
        TAKE(c->edge[1][c->active_term[k]]);
        TAKE(c->next[c->active_term[k]]);
    }
    TAKE(c->bound);
    TAKE(c->second);
    TAKE(c->leader);
    TAKE(c->exact);
    TAKE(c->count);
    TAKE(c->loose);
    for (int k = 0; k < c->active; k++) TAKE(c->group_edge[0][c->active_term[k]]), TAKE(c->group_edge[1][c->active_term[k]]);
    TAKE(c->group_bound);
    TAKE(c->group_today);
    TAKE(c->group_left);
    TAKE(c->group_today_stamp);
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

INLINE void widest(const double *restrict low, const double *restrict high, double *low_out, double *high_out) {
    double l[LANES], h[LANES];
    for (int k = 0; k < LANES; k++) l[k] = INFINITY, h[k] = -INFINITY;
    for (int i = 0; i < GROUP; i += LANES)
        for (int k = 0; k < LANES; k++) {
            l[k] = low[i + k] < l[k] ? low[i + k] : l[k];
            h[k] = high[i + k] > h[k] ? high[i + k] : h[k];
        }
    for (int k = 1; k < LANES; k++) {
        l[0] = l[k] < l[0] ? l[k] : l[0];
        h[0] = h[k] > h[0] ? h[k] : h[0];
    }
    *low_out = l[0];
    *high_out = h[0];
}

/* A group's box is the box of its blocks' boxes, at all times. */
CLONES static void group_box(class_index *c, int64_t g, int term) {
    widest(c->edge[0][term] + g * GROUP, c->edge[1][term] + g * GROUP, &c->group_edge[0][term][g], &c->group_edge[1][term][g]);
}

static void block_empty(class_index *c, int64_t b) {
    c->bound[b] = c->second[b] = -INFINITY;
    c->leader[b] = -1;
    c->exact[b] = 0;
    c->loose[b] = 0;
    for (int k = 0; k < c->active; k++) {
        const int term = c->active_term[k];
        c->edge[0][term][b] = INFINITY;
        c->edge[1][term][b] = c->next[term][b] = -INFINITY;
    }
}

/* Whether a term whose value all hosts share says something: with a minimum fixed at 0 every other value does. */
static inline int term_counts(int term, double value) { return term < FIXED_TERMS && value != 0.0; }

/* Whether a term with a free minimum has the same value in all rows: then it need not be looked at. */
static inline int same_everywhere(const fleet *t, int term) { return term >= FIXED_TERMS && t->unusual[term] == 0; }

/* 32 masks as bits. */
INLINE uint32_t fold(const int32_t *restrict mask) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++) bits |= (uint32_t)mask[i] & ((uint32_t)1 << i);
    return bits;
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
            c->count[b] += here;
            c->total += here;
        }
        for (int r = 0; r < BLOCK; r += rows)
            for (int k = 0; k < c->active; k++) {
                const int term = c->active_term[k];
                if (same_everywhere(t, term)) continue;
                const int64_t b = (a + r) >> c->shift;
                widen_step(&c->step[term], mask + r, a + r, rows, &c->edge[0][term][b], &c->edge[1][term][b]);
                c->next[term][b] = c->edge[1][term][b]; /* sound, and looked up when it matters */
            }
    }
}

/* Learn the whole table; 0, or -1 when there is no memory. */
static int class_build(const fleet *t, class_index *c) {
    if ((c->memory == NULL || c->capacity != t->capacity) && class_allocate(c, t->capacity) != 0) return -1;
    memset(c->passing, 0, (size_t)(c->blocks << (c->shift - 6)) * sizeof(uint64_t));
    memset(c->count, 0, (size_t)c->blocks * sizeof(int32_t));
    memset(c->group_today_stamp, 0, (size_t)c->groups * sizeof(uint64_t));
    for (int64_t b = 0; b < c->blocks; b++) block_empty(c, b);
    for (int k = 0; k < c->active; k++) c->step[c->active_term[k]] = column_step(t, c->active_term[k]);
    c->total = 0;
    class_survey(t, c);
    c->terms = 0;
    for (int k = 0; k < c->active; k++) {
        const int term = c->active_term[k];
        double low = INFINITY, high = -INFINITY;
        c->sure[0][term] = c->sure[1][term] = 0;
        if (same_everywhere(t, term)) {
            c->constant[term] = c->total > 0 ? t->usual[term] : INFINITY;
            continue;
        }
        for (int64_t g = 0; g < c->groups; g++) {
            group_box(c, g, term);
            if (c->group_edge[0][term][g] < low) low = c->group_edge[0][term][g];
            if (c->group_edge[1][term][g] > high) high = c->group_edge[1][term][g];
        }
        c->constant[term] = low; /* infinity = nobody passes yet */
        if (low < high || (low == high && term_counts(term, low))) c->term[c->terms++] = term;
    }
    for (int64_t g = 0; g < c->groups; g++) {
        memset(&c->group_at[g], 0, sizeof(coefficients));
        c->group_bound[g] = -INFINITY;
        for (int i = 0; i < GROUP; i++)
            if (c->bound[g * GROUP + i] > c->group_bound[g]) c->group_bound[g] = c->bound[g * GROUP + i];
    }
    memset(&c->now, 0, sizeof c->now);
    c->built = 1;
    c->builds++;
    return 0;
}

/* A term that was the same everywhere begins to vary: give every block its box. */
static void class_revive(class_index *c, int term) {
    const double value = c->constant[term];
    for (int64_t b = 0; b < c->blocks; b++) {
        c->edge[0][term][b] = c->count[b] ? value : INFINITY;
        c->edge[1][term][b] = c->next[term][b] = c->count[b] ? value : -INFINITY;
    }
    int at = c->terms++;
    for (; at > 0 && c->term[at - 1] > term; at--) c->term[at] = c->term[at - 1];
    c->term[at] = term;
    for (int64_t g = 0; g < c->groups; g++) {
        group_box(c, g, term);
        c->group_today_stamp[g] = 0;
    }
}

/* The edges of block b's box that a row attained before may be loose now. */
static void touch_loosen(class_index *c, int64_t b, const double *before) {
    uint16_t loose = c->loose[b];
    for (int k = 0; k < c->terms; k++) {
        const int term = c->term[k];
        loose |= (uint16_t)((c->edge[0][term][b] == before[term]) << (2 * term));
        if (c->edge[1][term][b] != before[term]) continue;
        loose |= (uint16_t)(2u << (2 * term));
        if (c->next[term][b] == before[term]) continue;
        c->edge[1][term][b] = c->next[term][b];
        if (c->group_edge[1][term][b / GROUP] == before[term]) group_box(c, b / GROUP, term);
    }
    c->loose[b] = loose;
}

static void touch_leaves(class_index *c, int64_t row, int64_t b) {
    c->total--;
    if (c->leader[b] == row) {
        c->bound[b] = c->second[b];
        c->leader[b] = -1;
        c->exact[b] = 0;
    }
    if (--c->count[b] > 0) return;
    block_empty(c, b);
    for (int k = 0; k < c->terms; k++) group_box(c, b / GROUP, c->term[k]);
}

/* Widen the box of block b by a row's values; an edge that the row attains is not loose. */
static void touch_box(class_index *c, int64_t b, const double *value) {
    const int64_t g = b / GROUP;
    uint16_t loose = c->loose[b];
    for (int k = 0; k < c->terms; k++) {
        const int term = c->term[k];
        const double x = value[term];
        if (x <= c->edge[0][term][b]) {
            c->edge[0][term][b] = x;
            loose &= (uint16_t)~(1u << (2 * term));
            if (x < c->group_edge[0][term][g]) c->group_edge[0][term][g] = x, c->group_today_stamp[g] = 0;
        }
        if (x >= c->edge[1][term][b]) {
            c->next[term][b] = c->edge[1][term][b];
            c->edge[1][term][b] = x;
            loose &= (uint16_t)~(2u << (2 * term));
            if (x > c->group_edge[1][term][g]) c->group_edge[1][term][g] = x, c->group_today_stamp[g] = 0;
        } else if (x > c->next[term][b]) {
            c->next[term][b] = x;
        }
    }
    c->loose[b] = loose;
}

/* A row of block b passes and has these values: keep the bound a bound, and the leader the leader. */
static void touch_bound(class_index *c, int64_t b, int64_t row, const double *value) {
    const int64_t g = b / GROUP;
    const coefficients *at = &c->group_at[g];
    double score = INFINITY;
    if (at->stamp != 0) {
        score = 0.0;
        for (int k = 0; k < c->terms; k++) {
            const int term = c->term[k];
            if (at->range[term] > 0.0) score += at->multiplier[term] * ((value[term] - at->low[term]) / at->range[term]);
        }
    }
    const int32_t leader = c->leader[b];
    if (leader == row) {
        /* As good as another bound may mean that a lower row is as good. */
        c->exact[b] = score > c->second[b];
        c->bound[b] = c->exact[b] ? score : c->second[b];
        if (score < c->second[b]) c->leader[b] = -1;
    } else if (score > c->bound[b]) {
        c->second[b] = c->bound[b];
        c->bound[b] = score;
        c->exact[b] = score < INFINITY;
        c->leader[b] = c->exact[b] ? (int32_t)row : -1;
    } else if (leader >= 0) {
        if (score == c->bound[b] && c->exact[b] && row < leader) c->leader[b] = (int32_t)row;
        if (score > c->second[b]) c->second[b] = score;
    }
    if (c->bound[b] > c->group_bound[g]) c->group_bound[g] = c->bound[b], c->group_today_stamp[g] = 0;
}

static inline void spread_weights(const weights *w, double *value) {
    for (int k = 0; k < TERMS; k++) value[k] = (double)w->of[k];
    value[TERM_CPU] = w->cpu;
}

/* A row passes with these values: terms that said nothing so far may begin to vary. */
static void touch_constants(class_index *c, const double *value) {
    for (int k = 0, next = 0; k < c->active; k++) {
        const int term = c->active_term[k];
        if (next < c->terms && c->term[next] == term) {
            next++;
        } else if (value[term] != c->constant[term]) {
            if (c->constant[term] == INFINITY && !term_counts(term, value[term])) {
                c->constant[term] = value[term];
            } else {
                class_revive(c, term);
                next++;
            }
        }
    }
}

/* Take a change in. */
static void class_touch(class_index *c, const change_record *record) {
    const int64_t row = record->row, b = row >> c->shift;
    uint64_t *word = &c->passing[row >> 6];
    const uint64_t bit = (uint64_t)1 << (row & 63);
    const int was = (*word & bit) != 0, passes = record_passes(record, &c->rules);
    double before[TERMS], value[TERMS];
    c->touches++;
    if (!was && !passes) return;
    spread_weights(&record->before, before);
    spread_weights(&record->now, value);
    if (passes && c->terms < c->active) touch_constants(c, value); /* first, so that what was is told of these terms, too */
    if (was) touch_loosen(c, b, before);
    if (!passes) {
        *word &= ~bit;
        touch_leaves(c, row, b);
        return;
    }
    if (!was) {
        *word |= bit;
        c->count[b]++;
        c->total++;
    }
    touch_box(c, b, value);
    touch_bound(c, b, row, value);
}

/* PERF: what a change touches lies in a dozen arrays; asked for some changes ahead, it is there in time. */
static inline void class_prefetch(const class_index *c, int64_t row) {
    const int64_t b = row >> c->shift;
    __builtin_prefetch(&c->passing[row >> 6], 1);
    __builtin_prefetch(&c->bound[b], 1);
    __builtin_prefetch(&c->second[b], 1);
    __builtin_prefetch(&c->leader[b], 1);
    __builtin_prefetch(&c->loose[b], 1);
    for (int k = 0; k < c->terms; k++) {
        const int term = c->term[k];
        __builtin_prefetch(&c->edge[0][term][b], 1);
        __builtin_prefetch(&c->edge[1][term][b], 1);
        __builtin_prefetch(&c->next[term][b], 1);
    }
}

/* Whether the log no longer tells all that a class does not know, or a pass over all hosts costs less than to hear it. */
static inline int class_is_lost(const fleet *t, const class_index *c) {
    const int64_t behind = t->head - c->cursor;
    return !c->built || c->capacity != t->capacity || behind > t->log_size || behind > 64 + t->rows / 8;
}

/* Take in what the log tells next, at most so much. The class is not lost. */
static void class_follow(fleet *t, class_index *c, int64_t most) {
    const int64_t end = t->head - c->cursor > most ? c->cursor + most : t->head;
    for (; c->cursor < end; c->cursor++) {
        if (c->cursor + AHEAD < end) class_prefetch(c, t->log[(c->cursor + AHEAD) & (t->log_size - 1)].row);
        class_touch(c, &t->log[c->cursor & (t->log_size - 1)]);
    }
    if (c->cursor > t->seen) t->seen = c->cursor;
}

/* Make the class know what the log tells; 0, or -1 when there is no memory. */
static int class_catch_up(fleet *t, class_index *c) {
    if (!class_is_lost(t, c)) {
        class_follow(t, c, t->log_size);
        return 0;
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
    double value[BLOCK_ROWS_MAX];
    const int rows = 1 << c->shift;
    const int64_t a = b << c->shift;
    double low = INFINITY, high = -INFINITY;
    const weigh_step *s = &c->step[term];
    const int32_t *restrict x = s->column + a;
    const double *restrict total = s->values + a;
    unfold(c->passing + (b << (c->shift - 6)), rows, mask);
    widen_step(s, mask, a, rows, &low, &high);
    if (s->kind == STEP_CPU)
        for (int i = 0; i < rows; i++) value[i] = total[i] - (double)x[i];
    else
        for (int i = 0; i < rows; i++) value[i] = (double)x[i];
    for (int i = 0; i < rows; i++) value[i] = !mask[i] ? -INFINITY : s->floor == 0 && !(value[i] > 0.0) ? 0.0 : value[i];
    int i = 0;
    while (value[i] != high) i++;
    value[i] = -INFINITY;
    c->edge[0][term][b] = low;
    c->edge[1][term][b] = high;
    c->next[term][b] = largest_of(value, rows);
    c->loose[b] &= (uint16_t)~(3u << (2 * term));
    c->lookups++;
}

/* Whether whoever asks may look at one more block. */
static inline int may_look(class_index *c) { return c->looks_left > 0 && c->looks_left-- > 0; }

/* The fleet's least (side 0) or largest (side 1) value of a term among the rows that pass: attained, not only a bound.
 * NAN if it takes more looks than are left. */
static double class_extreme(class_index *c, int term, int side) {
    const uint16_t bit = (uint16_t)(1u << (2 * term + side));
    const double *edge = c->edge[side][term];
    for (;;) {
        double extreme = side ? -INFINITY : INFINITY;
        for (int64_t g = 0; g < c->groups; g++) {
            const double x = c->group_edge[side][term][g];
            if (side ? x > extreme : x < extreme) extreme = x;
        }
        int64_t doubtful = -1;
        const int64_t sure = c->sure[side][term];
        if (edge[sure] == extreme && !(c->loose[sure] & bit)) return extreme;
        for (int64_t g = 0; g < c->groups; g++) {
            if (c->group_edge[side][term][g] != extreme) continue;
            for (int64_t b = g * GROUP; b < (g + 1) * GROUP; b++) {
                if (edge[b] != extreme) continue;
                if (!(c->loose[b] & bit)) {
                    c->sure[side][term] = b;
                    return extreme;
                }
                if (doubtful < 0) doubtful = b;
            }
        }
        if (!may_look(c)) return NAN;
        block_edges(c, doubtful, term);
        group_box(c, doubtful / GROUP, term);
    }
}

/* Today's normalisation. More than one row passes. Whether the looks that are left were enough to know it. */
static int class_settle(class_index *c) {
    coefficients next;
    memset(&next, 0, sizeof next);
    c->live = 0;
    for (int k = 0; k < c->terms; k++) {
        const int term = c->term[k];
        const double high = class_extreme(c, term, 1), low = term < FIXED_TERMS ? 0.0 : class_extreme(c, term, 0);
        if (isnan(high) || isnan(low)) return 0;
        if (!(high > low)) continue;
        next.low[term] = low;
        next.high[term] = high;
        next.range[term] = high - low;
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
