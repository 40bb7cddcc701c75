/*
 * The interface org.vmdev.Manager at /org/vmdev: on RUNTIME/bus, peer to peer, and on the system
 * bus as org.vmdev where there is one.
 *
 * Runs in: vmdevd.
 * Trusts:  the kernel's word on who is at the other end (SO_PEERCRED), and the system bus's. No
 *          client is trusted otherwise: root and vmdevd's own user may change things, everybody
 *          else who can open the socket may look.
 *
 *	Apply(a(ss) documents, b dry_run) → s	each document is its file's name and its text
 *	List(s selector) → s			an array of devices, "" selects all
 *	Start, Stop, Restart, Remove(s selector) → s
 *	property Version (s)
 *	signal Event(s)
 *
 * Results are the JSON that `vmdevctl --json` prints. Apply and the four verbs answer when the
 * devices have settled; the connection may be used meanwhile.
 */
#pragma once

#include "daemon/manager.h"

struct bus;

struct bus_spec {
	sd_event *event;
	struct manager *manager;
	const char *runtime_dir;
	const char *version; /* of vmdevd; outlives the bus */
};

/* 0 or a negative errno with a text that the caller frees. */
int bus_new(const struct bus_spec *spec, struct bus **ret, char **ret_error);
struct bus *bus_free(struct bus *bus);

/* Sends the signal to everybody who listens. Accepts NULL. */
void bus_emit(struct bus *bus, const char *json);
