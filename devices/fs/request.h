/*
 * One FUSE request: from descriptor chain to answer.
 *
 * Runs in: worker, I/O threads; each request in the one thread that owns its ring.
 * Trusts:  nothing in the chain. Header and arguments are copied once into private memory and only
 *          the copy is used; file data goes between guest memory and the kernel without one.
 *
 * A chain is (VIRTIO 1.3 §5.11.6): device-readable fuse_in_header, arguments, data; device-writable
 * fuse_out_header, payload. An operation (operation.h) looks at the arguments, acts, puts its
 * payload in place with one of request_reply*(), and returns 0, or a negative errno that is the
 * answer.
 *
 * A request can run twice: a worker may have died after it acted and before the answer was
 * published. again says that this may be so; what is not idempotent asks the journal (journal.h)
 * then.
 */
#pragma once

#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/process/thread.h"

struct fs;
struct operation;

enum {
	REQUEST_ARGS_MAX = 72 << 10,	 /* longest arguments: setxattr with 64 KiB of value */
	REQUEST_PAYLOAD_MAX = 128 << 10, /* longest payload that is built in private memory */
	REQUEST_MAX_IOV = 1024,
	REQUEST_LARGE_LEN =
		128 << 10, /* a transfer of this size takes as long as many small requests */
	REQUEST_HEADER_IOV = sizeof(struct fuse_out_header),
	/* Not an errno: the operation has no answer (forget, interrupt). */
	REQUEST_NO_REPLY = 1,
	/*
	 * Not now: nothing has been done that is not to be done again. The operation is called
	 * again in a few milliseconds, and at once after request_retry_waiting(); until it returns
	 * something else, the request is in flight.
	 */
	REQUEST_WAITS = 2,
	/* Its system call is made aside (errand.h), and answers it. */
	REQUEST_ASIDE = 3,
};

struct request {
	struct fs *fs;
	struct thread *thread;
	struct vring *ring;
	uint16_t head;
	bool again;	    /* a dead worker may have done it, in part or whole */
	bool waited;	    /* REQUEST_WAITS has been returned for it in this worker */
	uint64_t waited_ns; /* since then */
	uint64_t tag;	    /* names this request of this session, also to later workers; never 0 */
	struct fuse_in_header in;
	const uint8_t *args;	  /* private copy of what follows the header; NUL-terminated */
	uint32_t args_len;	  /* without that NUL */
	const struct iovec *data; /* WRITE: what follows fuse_write_in, in guest memory */
	uint32_t n_data, data_len;
	const struct iovec *out; /* room for the payload, after fuse_out_header, in guest memory */
	uint32_t n_out, out_len;
	uint8_t *payload;   /* private, REQUEST_PAYLOAD_MAX bytes, for building an answer */
	uint32_t reply_len; /* payload bytes in place */
	struct iovec header[REQUEST_HEADER_IOV]; /* where fuse_out_header goes, in guest memory */
	uint32_t n_header;			 /* 0: no room for one */
};

/* args as the structure of the operation; its length was checked against the table's row. */
#define REQUEST_ARGS(rq, type) ((const struct type *)(const void *)(rq)->args)

/*
 * The text at offset of args, which must end with a NUL inside args; *ret_end: offset after it.
 * NULL if it does not (answer -EINVAL).
 */
const char *request_text(const struct request *rq, uint32_t offset, uint32_t *ret_end);

/* The same, and usable as a name of a directory entry: not empty, no '/', neither "." nor "..",
 * at most 255 bytes. *ret_error: -EINVAL or -ENAMETOOLONG. */
const char *request_name(const struct request *rq, uint32_t offset, uint32_t *ret_end,
			 int *ret_error);

/* Copy len bytes of payload into the answer; 0, or -EINVAL if the guest gave less room. */
int request_reply(struct request *rq, const void *payload, uint32_t len);

/* At most len bytes of the room for payload, for the kernel to write to; the number of elements. */
uint32_t request_reply_iov(const struct request *rq, uint32_t len, struct iovec *ret_iov);

/* len bytes of payload have been put in place through such vectors. */
void request_reply_filled(struct request *rq, uint32_t len);

/*
 * Something was released that requests may wait for: those of rq's thread are tried in this turn.
 */
void request_retry_waiting(struct request *rq);

/*
 * INTERRUPT: the waiting request of this unique, on whatever thread, is answered with EINTR. False:
 * none waits.
 */
bool request_interrupt(struct fs *fs, uint64_t unique);

/* For fs.c, around the operation: */

/*
 * Header and room for the answer. False: no valid header; what there is room for can be answered
 * all the same.
 */
bool request_load(struct request *rq, const struct chain *c);

/* The arguments of op, into args (REQUEST_ARGS_MAX + 1 bytes). 0, -EINVAL, -E2BIG. */
int request_load_args(struct request *rq, const struct chain *c, const struct operation *op,
		      uint8_t *args);

/* Write the header of the answer; the number of bytes written to the chain. */
uint32_t request_end(struct request *rq, int result);

/*
 * Around a system call that may take long (fsync, a large transfer): earlier answers of the thread
 * are published first, and it does not count as hanging. Before rq has anything on record in the
 * journal.
 */
void request_slow_begin(struct request *rq);
void request_slow_end(struct request *rq);
