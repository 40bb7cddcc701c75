/*
 * Was it done? What a repeat of an operation asks the file system, when the worker before it died
 * between its intent and its result (journal.h).
 *
 * Runs in: worker. Trusts: the host's kernel and its clock; not the store.
 *
 * The question is asked only then, so it may cost what it likes, and the operations themselves pay
 * for evidence as little as they can. For what is made and removed the evidence is time: a file
 * that was made after the intent has a birth time (where the file system keeps none: a change time)
 * after it.
 *
 * The kernel stamps files with the time of its last tick, which is up to PAST_TICK_NS old. So there
 * are two clocks to ask for when_ns, and each question has its own:
 *
 *	past_tick()	not after the stamp of anything that is made from now on: "may it be what we
 *			made?"
 *	past_now()	not before the stamp of anything made until now: "is it surely not what we
 *			were to remove?"
 *
 * Both err to the side on which the operation is repeated or reported as the kernel would have:
 * docs/recovery.md.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/fs/attr.h"

enum { PAST_TICK_NS = 10000000 };

/* Nanoseconds of CLOCK_REALTIME_COARSE and of CLOCK_REALTIME. */
uint64_t past_tick(void);
uint64_t past_now(void);

/* What is at name in the directory? 0, or a negative errno, -ENOENT among them. */
int past_look(int dir, const char *name, struct statx *ret);

/*
 * Can st have been made after tick_ns, a past_tick()? Timestamps of coarse file systems are given
 * their due.
 */
bool past_may_be_new(const struct statx *st, uint64_t tick_ns);

/* Has st been changed (linked, renamed, …) after tick_ns? As above. */
bool past_may_be_changed(const struct statx *st, uint64_t tick_ns);

/* Was st surely made after now_ns, a past_now()? */
bool past_is_new(const struct statx *st, uint64_t now_ns);

/* The device of st, as one number for intents. */
uint64_t past_dev(const struct statx *st);
