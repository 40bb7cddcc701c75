/*
 * In which order vmdevd does what there is to do: a smaller number goes first, and among equals
 * whoever has waited longest.
 *
 * Runs in: vmdevd.
 *
 * At SD_EVENT_PRIORITY_NORMAL are signals, ends of processes, timers and vmdevd's own sweeps.
 * Whatever others can provoke as often as they like comes after that, and none of them can keep the
 * ones before it waiting without end: what devices say is limited by rate, and those who ask come
 * last, in turns.
 */
#pragma once

#include <systemd/sd-event.h>

enum {
	/* What devices and helpers say: deaths, recoveries, log lines. */
	PRIORITY_DEVICES = SD_EVENT_PRIORITY_NORMAL + 10,
	/* What clients of the bus and guests ask for. */
	PRIORITY_ASKERS = SD_EVENT_PRIORITY_NORMAL + 20,
};
