/* One vhost-user session, from the front-end's end. */
#pragma once

#include "tests/frontend/memory.h"
#include "tests/frontend/queue.h"

enum {
	FE_MAX_QUEUES = 64,
	FE_MAX_FDS = 8,
};

struct fe_inflight {
	struct fe_inflight_wire desc;
	int fd;
	uint8_t *map;
};

struct fe {
	int fd;		  /* the vhost-user socket; -1: none */
	int backreq;	  /* our end of the back-end request channel; -1: none */
	uint64_t offered; /* features that the back-end offers */
	uint64_t features;
	uint64_t pf_offered;
	uint64_t pf;
	uint64_t n_replies; /* replies and acknowledgements received */
	struct fe_memory mem;
	struct fe_queue queues[FE_MAX_QUEUES];
	unsigned n_queues;
	struct fe_inflight inflight;
	uint8_t *log; /* dirty bitmap; NULL: no logging */
	size_t log_len;
	int log_fd;
};

/* What a session asks for. All zero: everything that the back-end offers, one queue of 128, 32 MiB.
 */
struct fe_spec {
	struct fe_memory_spec memory;
	unsigned n_queues;
	uint16_t queue_size;
	uint64_t features_not; /* do not negotiate these, though offered */
	uint64_t pf_not;       /* bits of protocol features, likewise */
	bool inflight;	       /* GET/SET_INFLIGHT_FD, when offered */
	bool slots;	       /* memory by ADD_MEM_REG, not SET_MEM_TABLE */
};

struct fe_out {
	uint32_t request;
	const void *payload;
	uint32_t len;
	const int *fds;
	unsigned n_fds;
};

/*
 * Raw messages. All return 0 or negative errno; the back-end's hanging up is -ECONNRESET, its
 * silence for ten seconds -ETIMEDOUT, a non-zero acknowledgement -EREMOTEIO, a reply that does not
 * fit the request -EBADMSG.
 */
int fe_send_raw(struct fe *fe, const void *bytes, size_t len, const int *fds, unsigned n_fds);
int fe_send(struct fe *fe, const struct fe_out *out, uint32_t flags);
int fe_recv(struct fe *fe, uint32_t request, void *ret_payload, uint32_t *len, int *ret_fd);
int fe_do(struct fe *fe,
	  const struct fe_out *out); /* acknowledged, when REPLY_ACK was negotiated */
int fe_ask(struct fe *fe, uint32_t request, const void *payload, uint32_t len, uint64_t *ret_v);
int fe_do_u64(struct fe *fe, uint32_t request, uint64_t v, int fd);

int fe_open(struct fe *fe, const char *path);
void fe_adopt(struct fe *fe, int fd);
void fe_close(struct fe *fe); /* hang up and release everything */
bool fe_gone(struct fe *fe);  /* has the back-end hung up? */
int fe_await_gone(struct fe *fe, int timeout_ms);

int fe_negotiate(struct fe *fe, const struct fe_spec *spec);
int fe_send_memory(struct fe *fe, const struct fe_spec *spec);
int fe_slot_add(struct fe *fe, const struct fe_region *r);
int fe_slot_remove(struct fe *fe, const struct fe_region *r);
int fe_queue_start(struct fe *fe, struct fe_queue *q, uint16_t base);
int fe_queue_stop(struct fe *fe, struct fe_queue *q, uint16_t *ret_base);
int fe_queue_enable(struct fe *fe, struct fe_queue *q, bool on);
int fe_get_config(struct fe *fe, uint32_t offset, uint32_t len, void *ret_bytes);
int fe_set_config(struct fe *fe, uint32_t offset, uint32_t len, const void *bytes);
int fe_inflight_get(struct fe *fe, uint16_t n_queues, uint16_t queue_size);
int fe_inflight_set(struct fe *fe);
int fe_log_start(struct fe *fe, size_t len);
int fe_log_vring(struct fe *fe, struct fe_queue *q, bool on);

/* All of it in one call: connect, negotiate, memory, @n_queues started and enabled. */
int fe_begin(struct fe *fe, const char *path, const struct fe_spec *spec);
