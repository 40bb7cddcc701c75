/* Attacks of a front-end on its back-end: one row each. */
#pragma once

#include "tests/frontend/blk.h"

/* How far the session is when the attack begins. */
enum attack_stage {
	ATTACK_CONNECTED, /* nothing was said yet */
	ATTACK_AGREED,	  /* features are negotiated */
	ATTACK_RUNNING,	  /* memory is there, one ring is started and enabled */
};

/* What the back-end has to make of it. */
enum attack_outcome {
	ATTACK_LOST,	/* hangs up */
	ATTACK_BROKEN,	/* signals the ring's err descriptor, or hangs up */
	ATTACK_FAILED,	/* fails the one request, or signals err, or hangs up */
	ATTACK_REFUSED, /* a negative acknowledgement, or hangs up */
	ATTACK_NO_HARM, /* whatever it likes, as long as the next session works */
};

struct attack {
	const char *name;
	int (*run)(struct fe *fe,
		   unsigned round); /* result of its last message, 0 when that says nothing */
	enum attack_stage stage;
	enum attack_outcome outcome;
};

extern const struct attack attacks_message[];
extern const unsigned n_attacks_message;
extern const struct attack attacks_memory[];
extern const unsigned n_attacks_memory;
extern const struct attack attacks_ring[];
extern const unsigned n_attacks_ring;
