/*
 * What the parts of the file system device share inside a worker.
 *
 * Runs in: worker. Set up by fs_create() before threads run; constant after, but for what store.h
 *          and the files behind it (inode.c, handle.c) guard with locks of their own.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/fs/fs.h"
#include "devices/fs/request.h"
#include "devices/fs/store.h"

/*
 * Requests of a thread that wait at the same time (REQUEST_WAITS); one more is answered with
 * ENOLCK.
 */
enum { FS_MAX_WAITING = 1024 };

struct errands;

struct fs_waiting {
	struct vring *ring;
	uint16_t head;
	bool interrupted;
	uint32_t opcode; /* what it was, whatever is in the guest's memory by now */
	uint64_t unique;
	uint64_t tag;
	uint64_t since_ns;
};

/* When the driver of a ring is signalled: fs.c, "pace". */
struct fs_pace {
	uint64_t gap_ns; /* from a signal to the driver's next request, on average */
	uint64_t signalled_ns;
	uint32_t n_signals; /* of the ring's, seen so far */
	bool awaited;	    /* it has been signalled and has asked for nothing since */
	uint16_t seen;	    /* avail.idx then */
	uint16_t looked_at; /* avail.idx when it was last looked at */
};

/* One I/O thread's memory. */
struct fs_thread {
	struct request *in_hand; /* NULL: none */
	/*
	 * The lock guards the list: another thread may serve the INTERRUPT. n_waiting is changed
	 * under it, by this thread.
	 */
	pthread_mutex_t lock;
	uint32_t n_waiting;
	uint64_t retry_at_ns; /* when those waiting are tried again; 0: at once */
	struct fs_waiting waiting[FS_MAX_WAITING];
	struct errands *errands;
	uint32_t crowded; /* requests until it is forgotten that there were several at a time */
	uint8_t *args;	  /* REQUEST_ARGS_MAX + 1 bytes */
	uint8_t *payload; /* REQUEST_PAYLOAD_MAX bytes */
	struct iovec iov[REQUEST_MAX_IOV]; /* of the chain in hand */
};

struct fs {
	struct model model; /* first */
	struct fs_config config;
	struct store *store; /* mapped, shared with later workers */
	/*
	 * What belongs to its parts and dies with this worker: inode-private.h, handle.c,
	 * journal.c.
	 */
	struct inodes *inodes;
	struct handles *handles;
	struct journals *journals;
	int root_fd; /* O_PATH, the shared directory */
	int proc_fd; /* O_PATH, this process's /proc/PID/fd: "N" there is descriptor N */
	uint32_t n_threads;
	bool use_uring;
	struct fs_thread threads[CONTRACT_MAX_THREADS];
	struct fs_pace paces[CONTRACT_MAX_QUEUES]; /* by ring */
};
