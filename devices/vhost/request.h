/*
 * The table of requests: for each, what it must look like, when it may come, and who handles it.
 *
 * Runs in: worker's main thread. Trusts: nothing in the message.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/vhost/session.h"

enum request_phase {
	REQUEST_ANY,	  /* as soon as there is a connection */
	REQUEST_FEATURES, /* after SET_FEATURES */
};

enum request_reply {
	REQUEST_ACK,	/* no reply of its own: an ack if the front-end asked for one (REPLY_ACK) */
	REQUEST_ANSWER, /* the handler makes a reply */
};

/* What a handler works on. */
struct request {
	struct session *session;
	const struct message *message;
	int fds[PROTO_FDS_MAX]; /* of the message; who keeps one takes it: request_take_fd() */
	struct image *next;	/* the image in the making; starts as a copy of the current one */
	struct message_tx *tx;
};

struct request_row {
	const char *name;
	enum session_verdict (*handle)(struct request *r);
	uint16_t size_min, size_max; /* payload, bytes */
	uint8_t fds_min, fds_max;
	enum request_phase phase;
	uint64_t protocol_feature; /* must have been acknowledged; 0: none */
	enum device_stillness still;
	enum request_reply reply;
};

/* The row of a request number, or NULL. */
const struct request_row *request_find(uint32_t number);

/* Check message against its row and the session. */
enum session_verdict request_check(const struct request_row *row, const struct message *m,
				   const struct image *im);

/* Descriptor i of the message becomes the caller's. */
int request_take_fd(struct request *r, uint32_t i);

/* Close fd once the request is committed; IMAGE_NO_FD is fine. */
void request_close_later(struct request *r, int fd);

/* Reply with a payload. */
void request_answer(struct request *r, const void *payload, uint32_t len);
void request_answer_u64(struct request *r, uint64_t v);

/* Handlers, by file. */
enum session_verdict feature_get(struct request *r); /* negotiate.c */
enum session_verdict feature_set(struct request *r);
enum session_verdict owner_set(struct request *r);
enum session_verdict owner_reset(struct request *r);
enum session_verdict protocol_feature_get(struct request *r);
enum session_verdict protocol_feature_set(struct request *r);
enum session_verdict queue_num_get(struct request *r);
enum session_verdict device_reset(struct request *r);
enum session_verdict status_get(struct request *r);
enum session_verdict status_set(struct request *r);
enum session_verdict config_get(struct request *r);
enum session_verdict config_set(struct request *r);
enum session_verdict backreq_fd_set(struct request *r);
enum session_verdict mtu_set(struct request *r);
enum session_verdict rarp_send(struct request *r);

enum session_verdict mem_table_set(struct request *r); /* share.c */
enum session_verdict mem_slots_get(struct request *r);
enum session_verdict mem_reg_add(struct request *r);
enum session_verdict mem_reg_remove(struct request *r);
enum session_verdict log_base_set(struct request *r);
enum session_verdict log_fd_set(struct request *r);
enum session_verdict inflight_fd_get(struct request *r);
enum session_verdict inflight_fd_set(struct request *r);

enum session_verdict vring_num_set(struct request *r); /* vring.c */
enum session_verdict vring_addr_set(struct request *r);
enum session_verdict vring_base_set(struct request *r);
enum session_verdict vring_base_get(struct request *r);
enum session_verdict vring_kick_set(struct request *r);
enum session_verdict vring_call_set(struct request *r);
enum session_verdict vring_err_set(struct request *r);
enum session_verdict vring_enable_set(struct request *r);
/* Stop all rings in the image, as a reset does. */
void vring_stop_all(struct request *r);
/* Stop those that are disabled; false: there is one that runs. */
bool vring_setting_up_all(struct request *r);

/* Protocol features of every device; a type's own are in struct device. */
#define REQUEST_PROTOCOL_FEATURES                                                                  \
	(PROTO_F_MQ | PROTO_F_LOG_SHMFD | PROTO_F_REPLY_ACK | PROTO_F_BACKEND_REQ |                \
	 PROTO_F_CONFIG | PROTO_F_INFLIGHT_SHMFD | PROTO_F_RESET_DEVICE |                          \
	 PROTO_F_CONFIGURE_MEM_SLOTS | PROTO_F_STATUS)

/* What is offered to the front-end. */
static inline uint64_t session_protocol_features(const struct device *d)
{
	return REQUEST_PROTOCOL_FEATURES | d->protocol_features;
}
