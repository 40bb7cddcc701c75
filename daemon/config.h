/*
 * What a document says: the configuration of one VM's devices.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing that is parsed; what has been parsed has passed every check that needs no look
 * at the host, and the look-up of users and groups.
 *
 * docs/documents.md describes the document for those who write one, docs/vm.schema.json for their
 * editors. The one table of keys in config-parse.c decides; a key is rejected in
 * parse_members there.
 *
 * Invariants:
 *  1. A vm_config exists only if its whole document is good.
 *  2. Names are safe as path components, and the socket's path fits into sockaddr_un.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/launch.h"

enum {
	CONFIG_MAX_NAME_LEN = 63,
	CONFIG_MAX_DEVICES = 64,    /* of one VM */
	CONFIG_MAX_ERRORS = 20,	    /* told about one document */
	CONFIG_MAX_SERIAL_LEN = 20, /* VIRTIO 1.3 §5.2.6: VIRTIO_BLK_T_GET_ID */
	CONFIG_MIN_QUEUE_SIZE = 2,
	/*
	 * The largest queue that is accepted from a front-end. QEMU knows no larger one
	 * (VIRTQUEUE_MAX_SIZE), and requests are allocated in advance for each entry.
	 */
	CONFIG_MAX_QUEUE_SIZE = 1024,
	/* QEMU asks for 128 by default, User Mode Linux for 256. */
	CONFIG_DEFAULT_QUEUE_SIZE = 256,
};

enum device_type {
	DEVICE_TYPE_BLK,
	DEVICE_TYPE_NET,
	DEVICE_TYPE_FS,
	DEVICE_TYPE_VSOCK,
	N_DEVICE_TYPES,
};

const char *device_type_to_string(enum device_type type);

struct socket_config {
	uid_t uid;
	gid_t gid;
	mode_t mode;
};

struct limits_config {
	char *cpu, *memory, *pids; /* systemd's notation, checked; NULL: none */
	uint64_t iops;		   /* requests per second; 0: no limit */
	uint64_t bandwidth;	   /* bytes per second; 0: no limit */
};

struct restart_config {
	uint64_t limit; /* recoveries per interval, after which the device has failed */
	uint64_t interval_usec;
	uint64_t backoff_usec;	    /* wait before a fresh sandbox */
	uint64_t hang_timeout_usec; /* after which a worker that does not move is killed */
};

struct device_config {
	char *vm, *name; /* as in VM/NAME */
	char *full_name; /* VM/NAME */
	enum device_type type;
	struct socket_config socket;
	struct limits_config limits;
	struct restart_config restart;
	char *policy; /* NULL: the type's own */
	uint64_t queues, queue_size;
	/* blk */
	char *path;
	char *serial; /* NULL: none */
	char *cache;
	bool readonly;
	bool discard;
};

struct vm_config {
	char *name;
	char *file; /* where the document came from, for messages */
	struct device_config *devices;
	size_t n_devices;
};

/* What is wrong with a document: one line each, "FILE:LINE: KEY: what; expected form". */
struct config_errors {
	char *lines[CONFIG_MAX_ERRORS];
	size_t n;
	size_t n_more; /* that had no place */
};

struct config_source {
	const char *file; /* for messages */
	const char *text;
	size_t len;
	const char *runtime_dir; /* sockets are below it */
};

/* 0; -EINVAL: the document is bad, *errors says how; -ENOMEM. The caller frees *ret. */
int config_parse(const struct config_source *source, struct vm_config **ret,
		 struct config_errors *errors);

struct vm_config *vm_config_free(struct vm_config *config);
void config_errors_add(struct config_errors *errors, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* All lines in one text, to be freed; NULL: no memory. */
char *config_errors_to_text(const struct config_errors *errors);
void config_errors_done(struct config_errors *errors);

struct device_config *device_config_copy(const struct device_config *config);
struct device_config *device_config_free(struct device_config *config);

/*
 * The names of the keys in which two configurations of one device differ, NULL-terminated, in
 * *ret_keys, which holds N_DEVICE_CONFIG_KEYS + 1. Returns their number.
 */
enum { N_DEVICE_CONFIG_KEYS = 24 };
size_t device_config_compare(const struct device_config *a, const struct device_config *b,
			     const char **ret_keys);

/* Is `name` good for a VM or a device? */
bool config_name_is_valid(const char *name);

/* The arguments of the device program (process/contract.h), to be freed with strv_free; or NULL. */
char **device_config_argv(const struct device_config *config);
char **strv_free(char **strv);
