/* Finding the best rows of a class through its index (fleet_index.h says why the answer is exact). */
#ifndef NOVA_FAST_FLEET_SEARCH_H
#define NOVA_FAST_FLEET_SEARCH_H

#include "fleet_index.h"

typedef struct { /* how one term's coefficients changed between the bounds' time and today */
    const double *low, *high; /* the boxes */
    double old_low, new_low, old_slope, new_slope, ratio;
    int positive, moved;
} term_move;

/* What must be known to carry the bounds of a group over to today. Returns the slack. */
static double plan_moves(const class_index *c, int64_t g, term_move *moves) {
    const coefficients *old = &c->group_at[g], *new = &c->now;
    double size = 0.0;
    for (int k = 0; k < c->terms; k++) {
        const int term = c->term[k];
        term_move *m = &moves[k];
        /* A term that said nothing had no minimum; take the other's, so that it counts as one that did not move. */
        m->old_low = old->range[term] > 0.0 ? old->low[term] : new->low[term];
        m->new_low = new->range[term] > 0.0 ? new->low[term] : old->low[term];
        m->old_slope = old->slope[term];
        m->new_slope = new->slope[term];
        m->positive = c->rules.multiplier[term] >= 0.0;
        m->moved = m->old_low != m->new_low || old->range[term] != new->range[term];
        const double ratio = m->old_slope == 0.0 ? RATIO_MAX : m->new_slope / m->old_slope;
        m->ratio = ratio < RATIO_MAX ? ratio : RATIO_MAX;
        const double low = c->group_edge[0][term][g], high = c->group_edge[1][term][g];
        if (!(low <= high)) continue; /* nobody */
        const double reach_old = fmax(fabs(low - m->old_low), fabs(high - m->old_low));
        const double reach_new = fmax(fabs(low - m->new_low), fabs(high - m->new_low));
        size += fabs(m->old_slope) * reach_old + fabs(m->new_slope) * reach_new;
    }
    return SLACK * size;
}

INLINE double carried(double bound, double old_corner, double new_corner, double ratio, double slack) {
    double gap = old_corner - bound;
    gap = gap > 0.0 ? gap : 0.0;
    return bound == -INFINITY ? bound : new_corner - ratio * gap + slack;
}

/* Carry n bounds, and those of the others, over to today's coefficients. Those that stay exact are marked in `kept`. */
INLINE void carry(const term_move *moves, int terms, double slack, int n, double *restrict bound, double *restrict second,
                  int64_t *restrict kept) {
    double old_corner[GROUP], new_corner[GROUP], ratio[GROUP];
    for (int i = 0; i < n; i++) old_corner[i] = 0.0, new_corner[i] = 0.0, ratio[i] = RATIO_MAX, kept[i] = 1;
    for (int k = 0; k < terms; k++) {
        const term_move m = moves[k];
        const double *restrict low = m.low, *restrict high = m.high, *restrict corner = m.positive ? m.high : m.low;
        for (int i = 0; i < n; i++) {
            old_corner[i] += m.old_slope * (corner[i] - m.old_low);
            new_corner[i] += m.new_slope * (corner[i] - m.new_low);
            const double r = low[i] < high[i] ? m.ratio : RATIO_MAX;
            ratio[i] = r < ratio[i] ? r : ratio[i];
        }
        if (m.moved)
            for (int i = 0; i < n; i++)
                kept[i] &= (low[i] == high[i]) & (low[i] == m.old_low) & (m.old_low == m.new_low);
    }
    for (int i = 0; i < n; i++) {
        const double b = carried(bound[i], old_corner[i], new_corner[i], ratio[i], slack);
        const double o = carried(second[i], old_corner[i], new_corner[i], ratio[i], slack);
        bound[i] = kept[i] ? bound[i] : b;
        second[i] = kept[i] ? second[i] : o;
    }
}

/* A group's bound under today's coefficients. */
static double group_bound_today(class_index *c, int64_t g) {
    if (c->group_at[g].stamp == c->now.stamp || c->group_bound[g] == -INFINITY) return c->group_bound[g];
    if (c->group_today_stamp[g] == c->now.stamp) return c->group_today[g];
    term_move moves[TERMS];
    int64_t kept[1];
    double bound[1] = {c->group_bound[g]}, second[1] = {-INFINITY};
    const double slack = plan_moves(c, g, moves);
    for (int k = 0; k < c->terms; k++) {
        moves[k].low = c->group_edge[0][c->term[k]] + g;
        moves[k].high = c->group_edge[1][c->term[k]] + g;
    }
    carry(moves, c->terms, slack, 1, bound, second, kept);
    c->group_today[g] = bound[0];
    c->group_today_stamp[g] = c->now.stamp;
    return bound[0];
}

CLONES static void carry_blocks(class_index *c, int64_t g) {
    term_move moves[TERMS];
    int64_t kept[GROUP];
    const double slack = plan_moves(c, g, moves);
    for (int k = 0; k < c->terms; k++) {
        moves[k].low = c->edge[0][c->term[k]] + g * GROUP;
        moves[k].high = c->edge[1][c->term[k]] + g * GROUP;
    }
    carry(moves, c->terms, slack, GROUP, c->bound + g * GROUP, c->second + g * GROUP, kept);
    for (int i = 0; i < GROUP; i++)
        c->exact[g * GROUP + i] &= (uint8_t)kept[i];
    c->group_at[g] = c->now;
}

/* The score of the corner of a box, by the operations of a score in their order: no row in the box scores more. */
static double corner_score(const class_index *c, double *const (*edge)[TERMS], int64_t at) {
    double score = 0.0;
    for (int k = 0; k < c->terms; k++) {
        const int term = c->term[k];
        if (!(c->now.range[term] > 0.0)) continue;
        const double x = edge[c->now.multiplier[term] >= 0.0][term][at];
        score += c->now.multiplier[term] * ((x - c->now.low[term]) / c->now.range[term]);
    }
    return score;
}

/* The scores of a block's rows, minus infinity where they do not pass. */
INLINE void block_scores(const class_index *c, int64_t b, double *restrict s) {
    const int rows = 1 << c->shift;
    const int64_t a = b << c->shift;
    const uint64_t *passing = c->passing + (b << (c->shift - 6));
    for (int i = 0; i < rows; i++) s[i] = 0.0;
    for (int k = 0; k < c->live; k++) weigh_block(&c->live_step[k], NULL, a, rows, s);
    for (int w = 0; w < rows / 64; w++)
        for (int i = 0; i < 64; i++) s[64 * w + i] = (passing[w] >> i) & 1 ? s[64 * w + i] : -INFINITY;
}

/* Look at every row of a block: its bound and its leader are exact then. */
CLONES static void block_visit(class_index *c, int64_t b) {
    double s[BLOCK_ROWS_MAX];
    const int rows = 1 << c->shift;
    block_scores(c, b, s);
    const double best = largest_of(s, rows);
    int i = 0;
    while (s[i] != best) i++;
    c->bound[b] = best;
    c->leader[b] = (int32_t)((b << c->shift) + i);
    c->exact[b] = 1;
    s[i] = -INFINITY;
    c->second[b] = largest_of(s, rows);
    c->visits++;
}

/* Add the rows of a block but for its leader. */
CLONES static void block_rank(const class_index *c, int64_t b, ranking *top) {
    double s[BLOCK_ROWS_MAX];
    block_scores(c, b, s);
    s[c->leader[b] - (b << c->shift)] = -INFINITY;
    for (int i = 0; i < 1 << c->shift; i++)
        if (s[i] > -INFINITY && s[i] >= rank_floor(top)) rank_add(top, (b << c->shift) + i, s[i]);
}

/* Whether rows from `row` on, none above `bound`, can be left out of the ranking. */
INLINE int beaten(const ranking *top, double bound, int64_t row) {
    if (bound == -INFINITY) return 1;
    if (top->got < top->wanted) return 0;
    const host_rank *last = &top->at[top->wanted - 1];
    return bound < last->score || (bound == last->score && row > last->row);
}

CLONES static int64_t largest_at(const double *restrict s, int64_t n) {
    int64_t at = 0;
    double best = s[0];
    for (int64_t i = 1; i < n; i++)
        if (s[i] > best) best = s[i], at = i;
    return at;
}

CLONES static int largest_of_group(const double *restrict s) {
    const double best = largest_of(s, GROUP);
    int i = 0;
    while (s[i] != best) i++;
    return i;
}

/* Learn what can be learnt of a block without looking at its rows: whether its leader still leads, else a tighter bound. */
static void block_confirm(class_index *c, int64_t b) {
    if (c->leader[b] >= 0) {
        const double score = weigh_row(c->live_step, c->live, NULL, c->leader[b]);
        c->exact[b] = score > c->second[b];
        const double bound = c->exact[b] ? score : c->second[b];
        if (c->exact[b] || bound < c->bound[b]) c->bound[b] = bound;
        if (c->exact[b]) return;
        if (score < c->second[b]) c->leader[b] = -1;
    }
    const double corner = corner_score(c, c->edge, b);
    if (corner < c->bound[b]) c->bound[b] = corner;
}

/* Add the leaders of a group's blocks that can matter; some of them if the looks that are left are not enough. */
static void group_search(class_index *c, int64_t g, ranking *top) {
    double left[GROUP];
    if (c->group_at[g].stamp != c->now.stamp) carry_blocks(c, g);
    memcpy(left, c->bound + g * GROUP, sizeof left);
    for (;;) {
        const int i = largest_of_group(left);
        const int64_t b = g * GROUP + i, row = b << c->shift;
        if (beaten(top, left[i], row)) break;
        left[i] = -INFINITY;
        if (!c->exact[b]) {
            block_confirm(c, b);
            if (beaten(top, c->bound[b], row)) continue;
            if (!c->exact[b]) {
                if (!may_look(c)) break;
                block_visit(c, b);
            }
        }
        rank_add(top, c->leader[b], c->bound[b]);
    }
    c->group_bound[g] = c->bound[g * GROUP + largest_of_group(c->bound + g * GROUP)];
}

/* The best leaders of blocks; a block whose leader is not among them has no row among the best. */
static void class_leaders(class_index *c, ranking *top) {
    for (int64_t g = 0; g < c->groups; g++) c->group_left[g] = group_bound_today(c, g);
    for (;;) {
        const int64_t g = largest_at(c->group_left, c->groups), row = (g * GROUP) << c->shift;
        if (beaten(top, c->group_left[g], row)) break;
        c->group_left[g] = -INFINITY;
        if (beaten(top, corner_score(c, c->group_edge, g), row)) continue;
        group_search(c, g, top);
        if (c->looks_left == 0) break;
    }
}

/* The nth row that passes, from 0; there are more than n. */
static int64_t class_nth(const class_index *c, int64_t n) {
    int64_t b = 0;
    while (n >= c->count[b]) n -= c->count[b++];
    int64_t w = b << (c->shift - 6);
    while (n >= __builtin_popcountll(c->passing[w])) n -= __builtin_popcountll(c->passing[w++]);
    uint64_t word = c->passing[w];
    while (n-- > 0) word &= word - 1;
    return 64 * w + __builtin_ctzll(word);
}

/* The best rows. The class has caught up. SAFETY: `top` and `scratch` have room for what is wanted. */
static void class_best(class_index *c, ranking *top, host_rank *scratch) {
    top->got = 0;
    c->questions++;
    if (c->total == 0) return;
    if (c->total == 1) { /* a single candidate is not weighed */
        rank_add(top, class_nth(c, 0), 0.0);
        return;
    }
    c->looks_left = INT64_MAX;
    (void)class_settle(c);
    class_leaders(c, top);
    if (top->wanted == 1) return;
    const int64_t leaders = top->got;
    memcpy(scratch, top->at, (size_t)leaders * sizeof(host_rank));
    for (int64_t k = 0; k < leaders; k++) { /* PERF: most of these blocks have nobody else that is good enough */
        const int64_t b = scratch[k].row >> c->shift;
        if (!beaten(top, c->second[b], b << c->shift)) block_rank(c, b, top);
    }
}

/* Do a part of what the next question would have to: hear some of the log, and, at its end, look at some blocks. */
static void class_tend(fleet *t, class_index *c, int64_t changes, int64_t looks) {
    host_rank best;
    ranking top = {&best, 0, 1};
    class_follow(t, c, changes);
    if (c->cursor < t->head || c->total < 2) return;
    c->looks_left = looks;
    if (class_settle(c)) class_leaders(c, &top);
}

/* Place one server on the best of the rows, which are left in `top`; whether it fitted. A taking that would leave a
 * column's bounds does not. The class has caught up, and has heard of this one, too: see class_placed.
 * SAFETY: as with class_best. */
static int class_take(fleet *t, class_index *c, const taken *d, ranking *top, host_rank *scratch) {
    class_best(c, top, scratch);
    if (top->got == 0) return 0;
    const int64_t row = top->at[0].row;
    const weights before = row_weights(t, row);
    if (fleet_take(t, row, d) != 0) return 0;
    const change_record record = row_record(t, row, &before);
    class_touch(c, &record);
    fleet_log(t, row, &before);
    return 1;
}

/* The class has heard of all that it placed. */
static void class_placed(fleet *t, class_index *c) {
    c->cursor = t->head;
    t->seen = t->head;
}

/* Place so many equal servers one after the other, each on the fleet as the one before left it; returns how many fitted. */
static int64_t class_place(fleet *t, class_index *c, int64_t count, const taken *d, host_rank *placed) {
    int64_t done = 0;
    for (; done < count; done++) {
        ranking top = {&placed[done], 0, 1};
        if (!class_take(t, c, d, &top, NULL)) break;
    }
    class_placed(t, c);
    return done;
}

/* Hide rows from one class, or show them again. */
static void class_hide(const fleet *t, class_index *c, const int64_t *rows, int64_t count, int hide) {
    for (int64_t k = 0; k < count; k++) {
        const weights same = row_weights(t, rows[k]);
        change_record record = row_record(t, rows[k], &same);
        if (hide) record.who |= flags_in_place(FLAG_HIDDEN);
        class_touch(c, &record);
    }
}

#endif
