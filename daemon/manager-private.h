/*
 * The inside of the manager, for manager.c and apply.c only.
 *
 * Runs in: vmdevd. Trusts: see manager.h.
 */
#pragma once

#include "daemon/cids.h"
#include "daemon/manager.h"
#include "devices/base/list.h"
#include "devices/base/log.h"

struct entry {
	struct list link;
	struct device *device;
	bool removing; /* goes as soon as it has stopped */
	struct log_rate states;
	bool state_untold; /* it has changed since the last one that was told */
};

struct manager {
	struct manager_spec spec;
	struct device_host host;
	struct list entries; /* of struct entry */
	struct list waits;   /* of struct wait */
	sd_event_source *sweep;
	sd_event_source *later; /* tells the states that are untold */
	uint32_t uid_index_base;
	bool refuses_changes;
	struct cids *cids; /* NULL until the first device asks for an address */
};

struct entry *manager_find(const struct manager *manager, const char *name);
int manager_entry_new(struct manager *manager, const struct device_config *config);
uint32_t manager_uid_index(const struct manager *manager);
