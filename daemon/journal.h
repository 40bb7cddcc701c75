/*
 * What vmdevd tells the operator: one record per event, to the journal or to stderr.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing in a record's text: control characters are replaced.
 *
 * Where the service manager has connected stderr to the journal, records go there as structured
 * entries: VMDEV_VM=, VMDEV_DEVICE=, and for what an operator would alert on a MESSAGE_ID= that
 * never changes. Otherwise they are lines on stderr.
 */
#pragma once

#include <stdbool.h>

enum journal_id {
	JOURNAL_PLAIN,		   /* no message id */
	JOURNAL_DEVICE_FAILED,	   /* rung 3: the device is out of service */
	JOURNAL_WORKER_DIED,	   /* a worker has crashed, hung or was killed */
	JOURNAL_DEVICE_RELAUNCHED, /* rung 2: a fresh sandbox, the front-end has to reconnect */
	JOURNAL_VIOLATION,	   /* a worker tried a system call that its filter refuses */
	JOURNAL_POISON,		   /* a request was given up because it crashes the worker */
	JOURNAL_PROTOCOL,	   /* a front-end broke the vhost-user protocol */
	JOURNAL_DOCUMENT_REFUSED,  /* at start: a bad document below the configuration directory */
	N_JOURNAL_IDS,
};

struct journal_about {
	int level; /* of devices/base/log.h */
	enum journal_id id;
	const char *vm, *device; /* NULL: not about a device */
};

/* Call once at start, before the first record. use_stderr: even where there is a journal. */
void journal_init(bool use_stderr);

void journal_write(const struct journal_about *about, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Records that are about no device and carry no message id. */
#define journal_error(...)                                                                         \
	journal_write(&(struct journal_about){ .level = LOG_LEVEL_ERROR }, __VA_ARGS__)
#define journal_warning(...)                                                                       \
	journal_write(&(struct journal_about){ .level = LOG_LEVEL_WARNING }, __VA_ARGS__)
#define journal_info(...)                                                                          \
	journal_write(&(struct journal_about){ .level = LOG_LEVEL_INFO }, __VA_ARGS__)
