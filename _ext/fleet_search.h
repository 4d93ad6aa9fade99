/* Finding the best rows of a class through its index (fleet_index.h says why the answer is exact). */
#ifndef NOVA_FAST_FLEET_SEARCH_H
#define NOVA_FAST_FLEET_SEARCH_H

#include "fleet_index.h"

typedef struct { /* how the coefficients of a plane's terms changed between the bounds' time and today */
    lanes old_low, new_low, old_slope, new_slope, ratio;
    lane_mask positive, moved;
} plane_move;

/* What must be known to carry the bounds of a group over to today. Returns the slack. */
INLINE double plan_moves(const class_index *c, int64_t g, plane_move *moves) {
    const coefficients *was = &c->group_at[g], *now = &c->now;
    double size = 0.0;
    for (int p = 0; p < c->planes; p++) {
        const int first = p * PLANE;
        plane_move *m = &moves[p];
        const lanes old_low = lanes_at(was->low + first), old_range = lanes_at(was->range + first);
        const lanes new_low = lanes_at(now->low + first), new_range = lanes_at(now->range + first);
        /* A term that said nothing had no minimum; take the other's, so that it counts as one that did not move. */
        m->old_low = pick(old_range > 0.0, old_low, new_low);
        m->new_low = pick(new_range > 0.0, new_low, old_low);
        m->old_slope = lanes_at(was->slope + first);
        m->new_slope = lanes_at(now->slope + first);
        m->positive = lanes_at(c->rules.multiplier + first) >= 0.0;
        m->moved = (m->old_low != m->new_low) | (old_range != new_range);
        const lane_mask none = m->old_slope == 0.0;
        const lanes ratio = m->new_slope / pick(none, lanes_of(1.0), m->old_slope);
        m->ratio = pick(~none & (ratio < RATIO_MAX), ratio, lanes_of(RATIO_MAX));
        const lanes low = lanes_at(c->group_box[p][g].low), high = lanes_at(c->group_box[p][g].high);
        const lanes old_a = size_of(low - m->old_low), old_b = size_of(high - m->old_low);
        const lanes new_a = size_of(low - m->new_low), new_b = size_of(high - m->new_low);
        const lanes sizes = size_of(m->old_slope) * pick(old_a > old_b, old_a, old_b) +
                            size_of(m->new_slope) * pick(new_a > new_b, new_a, new_b);
        size += sum_of(pick(low <= high, sizes, lanes_of(0.0))); /* else nobody is there */
    }
    return SLACK * size;
}

INLINE double carried(double bound, double old_corner, double new_corner, double ratio, double slack) {
    double gap = old_corner - bound;
    gap = gap > 0.0 ? gap : 0.0;
    return bound == -INFINITY ? bound : new_corner - ratio * gap + slack;
}

/* Carry the bound of a box, and that of the others, over to today's coefficients; whether they stay exact. */
INLINE int carry(const class_index *c, const plane_move *moves, const box *const *of, double slack, double *bound, double *second) {
    lanes old_corner = lanes_of(0.0), new_corner = lanes_of(0.0), ratio = lanes_of(RATIO_MAX);
    lane_mask kept = mask_of(1);
    for (int p = 0; p < c->planes; p++) {
        const plane_move *m = &moves[p];
        const lanes low = lanes_at(of[p]->low), high = lanes_at(of[p]->high), corner = pick(m->positive, high, low);
        old_corner += m->old_slope * (corner - m->old_low);
        new_corner += m->new_slope * (corner - m->new_low);
        const lanes r = pick(low < high, m->ratio, lanes_of(RATIO_MAX));
        ratio = pick(r < ratio, r, ratio);
        kept &= ~m->moved | ((low == high) & (low == m->old_low) & (m->old_low == m->new_low));
    }
    if (all_lanes(kept)) return 1;
    double least = ratio[0];
    for (int k = 1; k < PLANE; k++) least = ratio[k] < least ? ratio[k] : least;
    *bound = carried(*bound, sum_of(old_corner), sum_of(new_corner), least, slack);
    *second = carried(*second, sum_of(old_corner), sum_of(new_corner), least, slack);
    return 0;
}

/* A group's bound under today's coefficients. */
CLONES static double group_carry(class_index *c, int64_t g) {
    plane_move moves[PLANES];
    const box *const of[PLANES] = {&c->group_box[0][g], &c->group_box[1][g]};
    double bound = c->group_bound[g], second = -INFINITY;
    const double slack = plan_moves(c, g, moves);
    (void)carry(c, moves, of, slack, &bound, &second);
    c->group_today[g] = bound;
    c->group_today_stamp[g] = c->now.stamp;
    return bound;
}

INLINE double group_bound_today(class_index *c, int64_t g) {
    if (c->group_at[g].stamp == c->now.stamp || c->group_bound[g] == -INFINITY) return c->group_bound[g];
    if (c->group_today_stamp[g] == c->now.stamp) return c->group_today[g];
    return group_carry(c, g);
}

CLONES static void carry_blocks(class_index *c, int64_t g) {
    plane_move moves[PLANES];
    const double slack = plan_moves(c, g, moves);
    for (int64_t b = g * GROUP; b < (g + 1) * GROUP; b++) {
        const box *const of[PLANES] = {&c->block[b].edge, &c->further[b]};
        c->block[b].exact &= (uint8_t)carry(c, moves, of, slack, &c->bound[b], &c->block[b].second);
    }
    c->group_at[g] = c->now;
}

/* The score of the corner of a box, by the operations of a score in their order: no row in the box scores more. */
CLONES static double corner_score(const class_index *c, const box *near, const box *further) {
    const box *const of[PLANES] = {near, further};
    lanes corner[PLANES];
    for (int p = 0; p < c->planes; p++)
        corner[p] = pick(lanes_at(c->now.multiplier + p * PLANE) >= 0.0, lanes_at(of[p]->high), lanes_at(of[p]->low));
    return score_of(&c->now, c->planes, corner);
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
    c->block[b].leader = (int32_t)((b << c->shift) + i);
    c->block[b].exact = 1;
    s[i] = -INFINITY;
    c->block[b].second = largest_of(s, rows);
    c->visits++;
}

/* Add the rows of a block but for its leader. */
CLONES static void block_rank(const class_index *c, int64_t b, ranking *top) {
    double s[BLOCK_ROWS_MAX];
    block_scores(c, b, s);
    s[c->block[b].leader - (b << c->shift)] = -INFINITY;
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
    block *at = &c->block[b];
    if (at->leader >= 0) {
        const double score = weigh_row(c->live_step, c->live, NULL, at->leader);
        at->exact = score > at->second;
        const double bound = at->exact ? score : at->second;
        if (at->exact || bound < c->bound[b]) c->bound[b] = bound;
        if (at->exact) return;
        if (score < at->second) at->leader = -1;
    }
    const double corner = corner_score(c, &at->edge, &c->further[b]);
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
        if (!c->block[b].exact) {
            block_confirm(c, b);
            if (beaten(top, c->bound[b], row)) continue;
            if (!c->block[b].exact) {
                if (!may_look(c)) break;
                block_visit(c, b);
            }
        }
        rank_add(top, c->block[b].leader, c->bound[b]);
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
        if (beaten(top, corner_score(c, &c->group_box[0][g], &c->group_box[1][g]), row)) continue;
        group_search(c, g, top);
        if (c->looks_left == 0) break;
    }
}

/* The nth row that passes, from 0; there are more than n. */
static int64_t class_nth(const class_index *c, int64_t n) {
    int64_t b = 0;
    while (n >= c->block[b].count) n -= c->block[b++].count;
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
        if (!beaten(top, c->block[b].second, b << c->shift)) block_rank(c, b, top);
    }
}

/* Do a part of what the next question would have to: hear some of the log, and, at its end, look at some blocks. */
static void class_tend(fleet *t, class_index *c, int64_t changes, int64_t looks) {
    host_rank best;
    ranking top = {&best, 0, 1};
    class_follow(t, c, changes);
    if (!c->built || c->cursor < t->head || c->total < 2) return;
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
    class_hear(c, &record);
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
        class_hear(c, &record);
    }
}

#endif
