/*
 * What takes vmdevd a while, launches, one after the other: each in a turn of the event loop of its
 * own, so that the watchdog, recoveries and clients are served between any two.
 *
 * Runs in: vmdevd. Trusts: nothing.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "devices/base/list.h"

struct turns;

/* Part of whoever wants a turn. */
struct turn {
	struct list link;
	void (*take)(void *arg);
	void *arg;
};

int turns_new(sd_event *event, struct turns **ret);
/* Nobody may be waiting. Accepts NULL, returns NULL. */
struct turns *turns_free(struct turns *turns);

/* Once, before anything else. */
void turn_init(struct turn *turn, void (*take)(void *arg), void *arg);

/* Calls take, once, when it is its turn; asked again before that, it stays where it is. */
void turn_ask(struct turns *turns, struct turn *turn);
void turn_give_up(struct turn *turn);
