/* A back-end started as vmdevd starts it, without a sandbox; and what it tells vmdevd. */
#pragma once

#include "devices/process/contract.h"
#include "tests/frontend/backend.h"

/* What the device has told, counted. */
struct contract_news {
	unsigned n_ready;
	unsigned n_died;
	unsigned n_recovered;
	unsigned n_sessions; /* CONNECTED, not told again before its DISCONNECTED */
	bool connected;
	char failure[CONTRACT_MSG_MAX_LEN];
};

/* In the child, before the exec: every descriptor at its number. Exits if that is not possible. */
void contract_arrange(const struct backend *b, const struct backend_spec *spec, int control);

/* Read what has been told since the last time. */
void contract_read(struct backend *b, struct contract_news *news);

/* Ask it to stop, and await its end. Wait status; -ETIMEDOUT after 10 s. */
int contract_stop(struct backend *b, int *ret_status);
