/*
 * One front-end's session: from its connection to its end, over any number of workers.
 *
 * Runs in: worker's main thread. Trusts: the device; neither the front-end nor the image in the
 *          state memfd.
 *
 * A request is handled in this order (session_step):
 *
 *	receive   the whole message is in the current rx slot          (vhost/message.h)
 *	check     size, descriptors, phase and features by the table   (vhost/request.h)
 *	still     the I/O threads are paused or drained if the row asks for it
 *	handle    the other image is made: a copy, changed by the row's handler
 *	commit    one store makes it current: change, consumption and reply
 *	apply     the threads go on with it
 *	send      the reply, once
 *	close     descriptors that the new image no longer names
 *
 * A kill before commit: the successor finds the message complete in rx and handles it anew.
 * A kill after it: the successor applies the image, sends the reply if it was not sent, and closes
 * what nobody names.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/vhost/device.h"
#include "devices/vhost/image.h"
#include "devices/virtio/memory.h"

enum session_verdict {
	SESSION_OK = 0,
	SESSION_CLOSED,	  /* the front-end has gone */
	SESSION_MESSAGE,  /* see message_verdict: not a message */
	SESSION_UNKNOWN,  /* no such request, or none for this device */
	SESSION_SIZE,	  /* payload size is not the request's */
	SESSION_FDS,	  /* too few or too many descriptors */
	SESSION_PHASE,	  /* not now */
	SESSION_FEATURE,  /* the feature that this request belongs to was not negotiated */
	SESSION_VALUE,	  /* a value in the payload is out of range */
	SESSION_MEMORY,	  /* see memory_verdict */
	SESSION_REFUSED,  /* a request that may fail did: answered with a negative ack, or closed */
	SESSION_DECLINED, /* the same, of one that nobody has to know of: nothing is changed */
};
const char *session_verdict_to_string(enum session_verdict v);

struct session {
	struct image_store *store;
	uint32_t current;	  /* as in the store */
	struct image image, next; /* the current one as it was checked or made; one in the making */
	struct device *device;
	struct memory *memory; /* the worker's; this file and its handlers change it */
	struct image_limits limits;
	int inflight_fd; /* our memfd for GET_INFLIGHT_FD, and where in it; the worker sets both */
	uint64_t inflight_offset;
	uint32_t last_request; /* for the log when a verdict is given */
	const char *detail;    /* static text that says more about it, or NULL */
	uint32_t n_closing;
	int closing[IMAGE_MAX_REGIONS + PROTO_FDS_MAX];
};

/* Make an empty store: no connection. */
void session_store_init(struct image_store *store, struct device *device);

enum session_loaded {
	SESSION_LOADED,
	SESSION_UNUSABLE,    /* the store does not pass its checks: rung 2 of the recovery ladder */
	SESSION_MEMORY_GONE, /* what the front-end shared cannot be mapped: its session is over */
};

/*
 * Load the session from the store, after a start or a recovery: check the current image, map
 * guest memory and the log as it says.
 */
enum session_loaded session_load(struct session *s, struct image_store *store,
				 struct device *device, struct memory *memory, int fd_min,
				 int fd_limit);

static inline const struct image *session_image(const struct session *s)
{
	return &s->image;
}

/* A front-end has connected on socket; the session owns it now. */
void session_connect(struct session *s, int socket);

/*
 * Handle what the socket has to say, at most a few messages; first what a killed worker has left to
 * be done: a reply that it had committed, a message that it had received. SESSION_OK: wait for the
 * socket to be readable (or writable if *ret_blocked). Anything else: the session is over.
 */
enum session_verdict session_step(struct session *s, bool *ret_blocked);

/*
 * Call fn for each descriptor that the session owns: the image's and those of a message not handled
 * yet.
 */
void session_for_each_fd(const struct session *s, void (*fn)(int fd, void *arg), void *arg);
