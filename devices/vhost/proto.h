/*
 * The vhost-user protocol on the wire: request numbers, feature bits, payloads (vhost-user.rst).
 *
 * Runs in: worker. Trusts: nothing; these are shapes, the checks are in request.c and the handlers.
 */
#pragma once

#include <stdint.h>

enum proto_request {
	PROTO_GET_FEATURES = 1,
	PROTO_SET_FEATURES = 2,
	PROTO_SET_OWNER = 3,
	PROTO_RESET_OWNER = 4,
	PROTO_SET_MEM_TABLE = 5,
	PROTO_SET_LOG_BASE = 6,
	PROTO_SET_LOG_FD = 7,
	PROTO_SET_VRING_NUM = 8,
	PROTO_SET_VRING_ADDR = 9,
	PROTO_SET_VRING_BASE = 10,
	PROTO_GET_VRING_BASE = 11,
	PROTO_SET_VRING_KICK = 12,
	PROTO_SET_VRING_CALL = 13,
	PROTO_SET_VRING_ERR = 14,
	PROTO_GET_PROTOCOL_FEATURES = 15,
	PROTO_SET_PROTOCOL_FEATURES = 16,
	PROTO_GET_QUEUE_NUM = 17,
	PROTO_SET_VRING_ENABLE = 18,
	PROTO_SEND_RARP = 19,
	PROTO_NET_SET_MTU = 20,
	PROTO_SET_BACKEND_REQ_FD = 21,
	PROTO_GET_CONFIG = 24,
	PROTO_SET_CONFIG = 25,
	PROTO_GET_INFLIGHT_FD = 31,
	PROTO_SET_INFLIGHT_FD = 32,
	PROTO_RESET_DEVICE = 34,
	PROTO_GET_MAX_MEM_SLOTS = 36,
	PROTO_ADD_MEM_REG = 37,
	PROTO_REM_MEM_REG = 38,
	PROTO_SET_STATUS = 39,
	PROTO_GET_STATUS = 40,
	PROTO_REQUEST_LIMIT = 41,
};

enum proto_backend_request {
	PROTO_BACKEND_CONFIG_CHANGE_MSG = 2,
};

#define PROTO_F_MQ		    (UINT64_C(1) << 0)
#define PROTO_F_LOG_SHMFD	    (UINT64_C(1) << 1)
#define PROTO_F_RARP		    (UINT64_C(1) << 2)
#define PROTO_F_REPLY_ACK	    (UINT64_C(1) << 3)
#define PROTO_F_NET_MTU		    (UINT64_C(1) << 4)
#define PROTO_F_BACKEND_REQ	    (UINT64_C(1) << 5)
#define PROTO_F_CONFIG		    (UINT64_C(1) << 9)
#define PROTO_F_INFLIGHT_SHMFD	    (UINT64_C(1) << 12)
#define PROTO_F_RESET_DEVICE	    (UINT64_C(1) << 13)
#define PROTO_F_CONFIGURE_MEM_SLOTS (UINT64_C(1) << 15)
#define PROTO_F_STATUS		    (UINT64_C(1) << 16)

#define PROTO_VERSION	      1u
#define PROTO_VERSION_MASK    3u
#define PROTO_FLAG_REPLY      4u
#define PROTO_FLAG_NEED_REPLY 8u

/* SET_VRING_KICK, _CALL, _ERR: the payload is an index and this flag. */
#define PROTO_VRING_IDX_MASK 0xffu
#define PROTO_VRING_NOFD     0x100u

#define PROTO_VRING_F_LOG 1u /* SET_VRING_ADDR flags */

enum {
	PROTO_HEADER_LEN = 12,
	PROTO_CONFIG_MAX_LEN = 256,
	PROTO_CONFIG_MIGRATED = 1, /* flags of SET_CONFIG; 0: the driver's write */
	PROTO_MEM_TABLE_MAX = 8,
	PROTO_PAYLOAD_MAX_LEN =
		1024, /* above any payload of ours, below any that needs two reads */
	PROTO_FDS_MAX = 8,
};

struct proto_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload, bytes */
};

struct proto_region {
	uint64_t guest_addr;
	uint64_t size;
	uint64_t user_addr;
	uint64_t mmap_offset;
};

struct proto_mem_table {
	uint32_t n_regions;
	uint32_t padding;
	struct proto_region regions[PROTO_MEM_TABLE_MAX];
};

struct proto_mem_reg {
	uint64_t padding;
	struct proto_region region;
};

struct proto_vring_state {
	uint32_t index;
	uint32_t num;
};

struct proto_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc;
	uint64_t used;
	uint64_t avail;
	uint64_t log;
};

struct proto_log {
	uint64_t mmap_size;
	uint64_t mmap_offset;
};

struct proto_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t bytes[PROTO_CONFIG_MAX_LEN];
};

enum { PROTO_CONFIG_HEADER_LEN = 12 };

struct proto_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t n_queues;
	uint16_t queue_size;
	uint32_t padding; /* sent by front-ends whose structure is padded (QEMU) alone */
};

union proto_payload {
	uint64_t u64;
	struct proto_vring_state state;
	struct proto_vring_addr addr;
	struct proto_mem_table table;
	struct proto_mem_reg mem_reg;
	struct proto_log log;
	struct proto_config config;
	struct proto_inflight inflight;
	uint8_t bytes[PROTO_PAYLOAD_MAX_LEN];
};
