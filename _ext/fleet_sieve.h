/* Narrowing the mask filter by filter: for explanations, and for the policies that draw a host. */
#ifndef NOVA_FAST_FLEET_SIEVE_H
#define NOVA_FAST_FLEET_SIEVE_H

#include "fleet_scan.h"

INLINE int64_t sieve_end(const fleet *t) { return whole_blocks(t); }

CLONES static int64_t sieve_count(const fleet *t) {
    const int32_t *restrict mask = t->column[MASK];
    const int64_t end = sieve_end(t);
    int64_t count = 0;
    for (int64_t a = 0; a < end; a += BLOCK) {
        int32_t here = 0;
        for (int i = 0; i < BLOCK; i++) here -= mask[a + i];
        count += here;
    }
    return count;
}

static void sieve_clear(const fleet *t) { memset(t->column[MASK], 0, (size_t)sieve_end(t) * sizeof(int32_t)); }

CLONES static void sieve_hosts(const fleet *t) {
    const int32_t *restrict who = t->column[WHO];
    int32_t *restrict mask = t->column[MASK];
    const int64_t end = sieve_end(t);
    for (int64_t i = 0; i < end; i++) mask[i] = -((who[i] >> FLAGS_SHIFT) & FLAG_HOST);
}

CLONES static void sieve_flags(const fleet *t, int32_t wanted) {
    const int32_t bits = flags_in_place(wanted);
    const int32_t *restrict who = t->column[WHO];
    int32_t *restrict mask = t->column[MASK];
    const int64_t end = sieve_end(t);
    for (int64_t i = 0; i < end; i++) mask[i] &= -(int32_t)((who[i] & bits) == bits);
}

CLONES static void sieve_at_least(const fleet *t, int column, int32_t amount) {
    const int32_t *restrict x = t->column[column];
    int32_t *restrict mask = t->column[MASK];
    const int64_t end = sieve_end(t);
    for (int64_t i = 0; i < end; i++) mask[i] &= -(int32_t)(x[i] >= amount);
}

CLONES static int64_t sieve_count_at_least(const fleet *t, int column, int32_t amount) {
    const int32_t *restrict x = t->column[column], *restrict mask = t->column[MASK];
    const int64_t end = sieve_end(t);
    int64_t count = 0;
    for (int64_t a = 0; a < end; a += BLOCK) {
        int32_t here = 0;
        for (int i = 0; i < BLOCK; i++) here += -mask[a + i] & (x[a + i] >= amount);
        count += here;
    }
    return count;
}

/* SAFETY: `limits` has one for each profile. */
static void sieve_below(const fleet *t, int column, const int32_t *limits) {
    const int32_t *x = t->column[column], *who = t->column[WHO];
    int32_t *mask = t->column[MASK];
    for (int64_t i = 0; i < t->rows; i++) mask[i] &= -(int32_t)(x[i] < limits[who[i] & PROFILE_BITS]);
}

/* SAFETY: `passes` has one (0 or -1) for each profile. */
static void sieve_profiles(const fleet *t, const int32_t *passes) {
    const int32_t *who = t->column[WHO];
    int32_t *mask = t->column[MASK];
    for (int64_t i = 0; i < t->rows; i++) mask[i] &= passes[who[i] & PROFILE_BITS];
}

static void sieve_by_profile(const fleet *t, int32_t *counts) {
    const int32_t *who = t->column[WHO], *mask = t->column[MASK];
    for (int64_t i = 0; i < t->rows; i++) counts[who[i] & PROFILE_BITS] -= mask[i];
}

/* The row of the mask's `nth` candidate (from 0), or -1 when there are not so many. */
static int64_t sieve_nth(const fleet *t, int64_t nth) {
    const int32_t *mask = t->column[MASK];
    for (int64_t i = 0; i < t->rows; i++) {
        nth += mask[i];
        if (nth < 0) return i;
    }
    return -1;
}

#endif
