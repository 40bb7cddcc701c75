/*
 * Something that saves work or costs some, depending on what cannot be known beforehand: on which
 * processor the others are, on what they do next. So it is tried out, and gone on with while two
 * times of three it pays off. Otherwise it is left, and tried again after so many chances, ever
 * more of them.
 *
 * Runs in: worker, each in one I/O thread. Trusts: its caller.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bet {
	uint32_t credit;    /* 0: it is not tried */
	uint32_t n_chances; /* since it was left, of those that might have paid off */
	uint32_t n_until;   /* as many of them bring another trial */
};

enum {
	BET_TRIAL = 4,
	BET_CREDIT_MAX = 16,
	BET_LOSS = 2,
	BET_UNTIL_MIN = 4,
	BET_UNTIL_MAX = 1024,
};

static inline bool bet_on(const struct bet *b)
{
	return b->credit > 0;
}

static inline void bet_won(struct bet *b)
{
	if (b->credit < BET_CREDIT_MAX)
		b->credit++;
	else
		b->n_until = BET_UNTIL_MIN;
}

static inline void bet_lost(struct bet *b)
{
	if (b->credit > BET_LOSS) {
		b->credit -= BET_LOSS;
		return;
	}
	b->credit = b->n_chances = 0;
	b->n_until *= 2;
	if (b->n_until < BET_UNTIL_MIN)
		b->n_until = BET_UNTIL_MIN;
	if (b->n_until > BET_UNTIL_MAX)
		b->n_until = BET_UNTIL_MAX;
}

/* It was not tried, and would have paid off. */
static inline void bet_missed(struct bet *b)
{
	if (b->credit == 0 && ++b->n_chances >= b->n_until)
		b->credit = BET_TRIAL;
}
