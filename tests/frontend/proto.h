/*
 * The vhost-user protocol as a front-end speaks it.
 *
 * Runs in: test programs. Trusts: nothing.
 *
 * Written from vhost-user.rst alone, and not shared with devices/vhost: a number that is wrong
 * there must not be wrong here in the same way.
 */
#pragma once

#include <stdint.h>

enum fe_request {
	FE_GET_FEATURES = 1,
	FE_SET_FEATURES = 2,
	FE_SET_OWNER = 3,
	FE_RESET_OWNER = 4,
	FE_SET_MEM_TABLE = 5,
	FE_SET_LOG_BASE = 6,
	FE_SET_LOG_FD = 7,
	FE_SET_VRING_NUM = 8,
	FE_SET_VRING_ADDR = 9,
	FE_SET_VRING_BASE = 10,
	FE_GET_VRING_BASE = 11,
	FE_SET_VRING_KICK = 12,
	FE_SET_VRING_CALL = 13,
	FE_SET_VRING_ERR = 14,
	FE_GET_PROTOCOL_FEATURES = 15,
	FE_SET_PROTOCOL_FEATURES = 16,
	FE_GET_QUEUE_NUM = 17,
	FE_SET_VRING_ENABLE = 18,
	FE_SEND_RARP = 19,
	FE_NET_SET_MTU = 20,
	FE_SET_BACKEND_REQ_FD = 21,
	FE_GET_CONFIG = 24,
	FE_SET_CONFIG = 25,
	FE_GET_INFLIGHT_FD = 31,
	FE_SET_INFLIGHT_FD = 32,
	FE_RESET_DEVICE = 34,
	FE_GET_MAX_MEM_SLOTS = 36,
	FE_ADD_MEM_REG = 37,
	FE_REM_MEM_REG = 38,
	FE_SET_STATUS = 39,
	FE_GET_STATUS = 40,
};

enum fe_protocol_feature {
	FE_PF_MQ = 0,
	FE_PF_LOG_SHMFD = 1,
	FE_PF_RARP = 2,
	FE_PF_REPLY_ACK = 3,
	FE_PF_NET_MTU = 4,
	FE_PF_BACKEND_REQ = 5,
	FE_PF_CONFIG = 9,
	FE_PF_BACKEND_SEND_FD = 10,
	FE_PF_INFLIGHT_SHMFD = 12,
	FE_PF_RESET_DEVICE = 13,
	FE_PF_INBAND_NOTIFICATIONS = 14,
	FE_PF_CONFIGURE_MEM_SLOTS = 15,
	FE_PF_STATUS = 16,
};

#define FE_BIT(n)      (UINT64_C(1) << (n))
#define FE_F_LOG_ALL   FE_BIT(26)
#define FE_F_INDIRECT  FE_BIT(28)
#define FE_F_EVENT_IDX FE_BIT(29)
#define FE_F_PROTOCOL  FE_BIT(30)
#define FE_F_VERSION_1 FE_BIT(32)

/* What this driver can take: bits 0-23 are the device's; NOTIFY_ON_EMPTY, for one, is not among
 * them. */
#define FE_F_KNOWN (0xffffffu | FE_F_INDIRECT | FE_F_EVENT_IDX | FE_F_PROTOCOL | FE_F_VERSION_1)

#define FE_FLAG_VERSION	   0x1u
#define FE_FLAG_REPLY	   0x4u
#define FE_FLAG_NEED_REPLY 0x8u

#define FE_VRING_NOFD  0x100u /* in the payload of SET_VRING_KICK, _CALL, _ERR */
#define FE_VRING_F_LOG 0x1u   /* in the flags of SET_VRING_ADDR */
#define FE_MAX_PAYLOAD 4096u

struct fe_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
};

struct fe_region_wire {
	uint64_t guest, size, user, offset;
};

struct fe_mem_table_wire {
	uint32_t n_regions, padding;
	struct fe_region_wire regions[8];
};

struct fe_mem_reg_wire {
	uint64_t padding;
	struct fe_region_wire region;
};

struct fe_vring_state_wire {
	uint32_t idx, num;
};

struct fe_vring_addr_wire {
	uint32_t idx, flags;
	uint64_t desc, used, avail, log;
};

struct fe_log_wire {
	uint64_t size, offset;
};

struct fe_config_wire {
	uint32_t offset, size, flags;
	uint8_t bytes[256];
};

struct fe_inflight_wire {
	uint64_t mmap_size, mmap_offset;
	uint16_t n_queues, queue_size;
};

_Static_assert(sizeof(struct fe_header) == 12, "vhost-user header");
_Static_assert(sizeof(struct fe_mem_table_wire) == 8 + 8 * 32, "SET_MEM_TABLE");
_Static_assert(sizeof(struct fe_mem_reg_wire) == 40, "ADD_MEM_REG");
_Static_assert(sizeof(struct fe_vring_addr_wire) == 40, "SET_VRING_ADDR");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the test front-end is little-endian");
