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

#include "daemon/config-net.h"
#include "daemon/launch.h"
#include "daemon/tree.h"
#include "devices/process/contract.h"

enum {
	CONFIG_MAX_NAME_LEN = 63,
	CONFIG_MAX_DEVICES = 64,    /* of one VM */
	CONFIG_MAX_ERRORS = 20,	    /* told about one document */
	CONFIG_MAX_SERIAL_LEN = 20, /* VIRTIO 1.3 §5.2.6: VIRTIO_BLK_T_GET_ID */
	CONFIG_MAX_TAG_LEN = 36,    /* VIRTIO 1.3 §5.11.4 */
	CONFIG_MAX_XATTR_PREFIX_LEN = 64,
	CONFIG_MAX_LISTENS = 32,
	CONFIG_MAX_PORT_RANGES = 32, /* the device program takes as many */
	CONFIG_MAX_FORWARDS = 8,
	CONFIG_MAX_SOCKET_PATH = 107, /* sockaddr_un */
	CONFIG_MIN_QUEUE_SIZE = CONTRACT_QUEUE_SIZE_MIN,
	CONFIG_NET_MIN_QUEUE_SIZE = 256, /* QEMU's VIRTIO_NET_RX_QUEUE_MIN_SIZE */
	/*
	 * The largest queue that is accepted from a front-end. QEMU knows no larger one
	 * (VIRTQUEUE_MAX_SIZE), and requests are allocated in advance for each entry.
	 */
	CONFIG_MAX_QUEUE_SIZE = CONTRACT_QUEUE_SIZE_MAX,
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

struct id_map {
	struct id_range ranges[TREE_MAX_RANGES];
	uint32_t n;
};

struct port_range {
	uint32_t first, last;
};

/* An allow list; all if it is not limited. */
struct port_list {
	bool limited;
	uint32_t n;
	struct port_range ranges[CONFIG_MAX_PORT_RANGES];
};

bool port_list_allows(const struct port_list *list, uint32_t port);

struct vsock_ports {
	struct port_list host;	/* that the guest may connect to */
	struct port_list guest; /* that others may connect to in the guest */
};

/* Where a host port leads, unless to UDS_PORT. */
struct vsock_listen {
	uint32_t port;
	char path[CONFIG_MAX_SOCKET_PATH + 1]; /* "": by name */
	char fd_name[CONFIG_MAX_NAME_LEN +
		     1]; /* of a listening socket that vmdevd was started with */
};

struct vsock_listens {
	uint32_t n;
	struct vsock_listen entries[CONFIG_MAX_LISTENS];
};

struct vsock_forward {
	uint32_t n;
	uint64_t cids[CONFIG_MAX_FORWARDS];
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
	/* Of the types that have them (type-*.c); else NULL, false. */
	char *path;
	char *cache;
	bool readonly;
	/* blk */
	char *serial; /* NULL: none */
	bool discard;
	/* fs */
	char *tag;
	bool writeback, direct_io, xattr, acl, announce_submounts, device_nodes;
	char *locks;	 /* "shared", "guest" */
	char *xattr_map; /* NULL: none */
	char *ids;	 /* "host", "own" */
	struct id_map id_map;
	/* net */
	char *side;	     /* the key that says where frames go and come from: "null", ... */
	char *mac;	     /* NULL: one that is made of the device's name */
	bool mac_filter;     /* the guest may use no other */
	uint64_t mtu, speed; /* 0: the guest is told nothing */
	uint64_t generate;   /* null: bytes of the frames that it makes; 0: none */
	char *tap_name, *tap_bridge; /* tap; bridge: NULL: in none */
	/* vsock */
	uint64_t cid;  /* 0: none yet, the table of CIDs gives one (cids.h) */
	bool cid_auto; /* it was given by the table */
	char *uds;     /* NULL: host programs cannot connect, and only "listens" can be reached */
	char *group;   /* NULL: none */
	struct vsock_listens listens;
	struct vsock_ports ports;
	struct vsock_forward forward;
	struct switch_config lan;
	struct user_config user;
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
enum { N_DEVICE_CONFIG_KEYS = 51 };
size_t device_config_compare(const struct device_config *a, const struct device_config *b,
			     const char **ret_keys);

/* Is `name` good for a VM or a device? */
bool config_name_is_valid(const char *name);

/* The arguments of the device program (process/contract.h), to be freed with strv_free; or NULL. */
char **device_config_argv(const struct device_config *config);
char **strv_free(char **strv);
