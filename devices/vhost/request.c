/* The table of requests, and what its handlers share. See request.h. */
#include "devices/vhost/request.h"

#include <assert.h>
#include <stddef.h>

#define STATE_LEN  sizeof(struct proto_vring_state)
#define U64_LEN	   sizeof(uint64_t)
#define TABLE_MIN  8
#define TABLE_MAX  sizeof(struct proto_mem_table)
#define CONFIG_MIN PROTO_CONFIG_HEADER_LEN
#define CONFIG_MAX (PROTO_CONFIG_HEADER_LEN + PROTO_CONFIG_MAX_LEN)

/* clang-format off */
#define ROW(id, handler, min, max, f_min, f_max, when, feature, stand, answer)                     \
	[PROTO_##id] = { #id, handler, min, max, f_min, f_max, REQUEST_##when, feature,            \
			 DEVICE_##stand, REQUEST_##answer }

/*
 * What may stop a ring drains it first: GET_VRING_BASE, SET_VRING_NUM, _ADDR and _BASE,
 * SET_INFLIGHT_FD, resets. (A ring that is not enabled has requests in flight too, if it was
 * started with some on record.) Memory goes away only when no I/O uses it. SET_VRING_ENABLE drains
 * because User Mode Linux frees a ring's memory after disabling it, without GET_VRING_BASE.
 * The table's lines are longer than others: one request is one line.
 */
static const struct request_row rows[PROTO_REQUEST_LIMIT] = {
	/*  request               handler               size                  fds   phase     feature              still    reply */
	ROW(GET_FEATURES,         feature_get,          0, 0,                 0, 0, ANY,      0,                   RUNNING, ANSWER),
	ROW(SET_FEATURES,         feature_set,          U64_LEN, U64_LEN,     0, 0, ANY,      0,                   PAUSED,  ACK),
	ROW(SET_OWNER,            owner_set,            0, 0,                 0, 0, ANY,      0,                   RUNNING, ACK),
	ROW(RESET_OWNER,          owner_reset,          0, 0,                 0, 0, ANY,      0,                   DRAINED, ACK),
	ROW(SET_MEM_TABLE,        mem_table_set,        TABLE_MIN, TABLE_MAX, 0, 8, ANY,      0,                   DRAINED, ACK),
	ROW(SET_LOG_BASE,         log_base_set,         16, 16,               1, 1, ANY,      PROTO_F_LOG_SHMFD,   PAUSED,  ANSWER),
	ROW(SET_LOG_FD,           log_fd_set,           0, U64_LEN,           1, 1, ANY,      0,                   RUNNING, ACK),
	ROW(SET_VRING_NUM,        vring_num_set,        STATE_LEN, STATE_LEN, 0, 0, ANY,      0,                   DRAINED, ACK),
	ROW(SET_VRING_ADDR,       vring_addr_set,       40, 40,               0, 0, ANY,      0,                   DRAINED, ACK),
	ROW(SET_VRING_BASE,       vring_base_set,       STATE_LEN, STATE_LEN, 0, 0, ANY,      0,                   DRAINED, ACK),
	ROW(GET_VRING_BASE,       vring_base_get,       STATE_LEN, STATE_LEN, 0, 0, ANY,      0,                   DRAINED, ANSWER),
	ROW(SET_VRING_KICK,       vring_kick_set,       U64_LEN, U64_LEN,     0, 1, FEATURES, 0,                   PAUSED,  ACK),
	ROW(SET_VRING_CALL,       vring_call_set,       U64_LEN, U64_LEN,     0, 1, ANY,      0,                   PAUSED,  ACK),
	ROW(SET_VRING_ERR,        vring_err_set,        U64_LEN, U64_LEN,     0, 1, ANY,      0,                   PAUSED,  ACK),
	ROW(GET_PROTOCOL_FEATURES, protocol_feature_get, 0, 0,                0, 0, ANY,      0,                   RUNNING, ANSWER),
	ROW(SET_PROTOCOL_FEATURES, protocol_feature_set, U64_LEN, U64_LEN,    0, 0, ANY,      0,                   RUNNING, ACK),
	ROW(GET_QUEUE_NUM,        queue_num_get,        0, 0,                 0, 0, ANY,      PROTO_F_MQ,          RUNNING, ANSWER),
	ROW(SET_VRING_ENABLE,     vring_enable_set,     STATE_LEN, STATE_LEN, 0, 0, ANY,      0,                   DRAINED, ACK),
	ROW(SEND_RARP,            rarp_send,            U64_LEN, U64_LEN,     0, 0, ANY,      PROTO_F_RARP,        PAUSED,  ACK),
	ROW(NET_SET_MTU,          mtu_set,              U64_LEN, U64_LEN,     0, 0, ANY,      PROTO_F_NET_MTU,     PAUSED,  ACK),
	ROW(SET_BACKEND_REQ_FD,   backreq_fd_set,       0, U64_LEN,           1, 1, ANY,      PROTO_F_BACKEND_REQ, RUNNING, ACK),
	ROW(GET_CONFIG,           config_get,           CONFIG_MIN, CONFIG_MAX, 0, 0, ANY,    PROTO_F_CONFIG,      RUNNING, ANSWER),
	ROW(SET_CONFIG,           config_set,           CONFIG_MIN, CONFIG_MAX, 0, 0, ANY,    PROTO_F_CONFIG,      DRAINED, ACK),
	ROW(GET_INFLIGHT_FD,      inflight_fd_get,      20, 24,               0, 0, ANY,      PROTO_F_INFLIGHT_SHMFD, RUNNING, ANSWER),
	ROW(SET_INFLIGHT_FD,      inflight_fd_set,      20, 24,               1, 1, ANY,      PROTO_F_INFLIGHT_SHMFD, DRAINED, ACK),
	ROW(RESET_DEVICE,         device_reset,         0, 0,                 0, 0, ANY,      PROTO_F_RESET_DEVICE, DRAINED, ACK),
	ROW(GET_MAX_MEM_SLOTS,    mem_slots_get,        0, 0,                 0, 0, ANY,      PROTO_F_CONFIGURE_MEM_SLOTS, RUNNING, ANSWER),
	ROW(ADD_MEM_REG,          mem_reg_add,          40, 40,               1, 1, ANY,      PROTO_F_CONFIGURE_MEM_SLOTS, PAUSED, ACK),
	ROW(REM_MEM_REG,          mem_reg_remove,       40, 40,               0, 1, ANY,      PROTO_F_CONFIGURE_MEM_SLOTS, DRAINED, ACK),
	ROW(SET_STATUS,           status_set,           U64_LEN, U64_LEN,     0, 0, ANY,      PROTO_F_STATUS,      DRAINED, ACK),
	ROW(GET_STATUS,           status_get,           0, 0,                 0, 0, ANY,      PROTO_F_STATUS,      RUNNING, ANSWER),
};
/* clang-format on */

const struct request_row *request_find(uint32_t number)
{
	if (number >= PROTO_REQUEST_LIMIT || rows[number].handle == NULL)
		return NULL;
	return &rows[number];
}

static bool phase_reached(enum request_phase phase, const struct image *im)
{
	switch (phase) {
	case REQUEST_ANY:
		return true;
	case REQUEST_FEATURES:
		return im->features_set;
	}
	return false;
}

enum session_verdict request_check(const struct request_row *row, const struct message *m,
				   const struct image *im)
{
	if (m->header.size < row->size_min || m->header.size > row->size_max)
		return SESSION_SIZE;
	if (m->n_fds < row->fds_min || m->n_fds > row->fds_max)
		return SESSION_FDS;
	if (!phase_reached(row->phase, im))
		return SESSION_PHASE;
	if (row->protocol_feature && !(im->protocol_features & row->protocol_feature))
		return SESSION_FEATURE;
	return SESSION_OK;
}

int request_take_fd(struct request *r, uint32_t i)
{
	int fd = r->fds[i];

	assert(i < r->message->n_fds && fd >= 0);
	r->fds[i] = IMAGE_NO_FD;
	return fd;
}

void request_close_later(struct request *r, int fd)
{
	struct session *s = r->session;

	if (fd == IMAGE_NO_FD)
		return;
	assert(s->n_closing < sizeof(s->closing) / sizeof(*s->closing));
	s->closing[s->n_closing++] = fd;
}

void request_answer(struct request *r, const void *payload, uint32_t len)
{
	message_reply(r->tx, r->message, payload, len, IMAGE_NO_FD);
}

void request_answer_u64(struct request *r, uint64_t v)
{
	request_answer(r, &v, sizeof(v));
}
