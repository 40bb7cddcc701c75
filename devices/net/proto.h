/*
 * The network device's numbers and shapes (VIRTIO 1.3 §5.1): feature bits, header, configuration
 * space, control commands.
 *
 * Runs in: worker. Trusts: nothing; these are shapes, the checks are in header.c and control.c.
 */
#pragma once

#include <stdint.h>

#include "devices/virtio/feature.h"

#define NET_F_CSUM		  FEATURE_BIT(0)
#define NET_F_GUEST_CSUM	  FEATURE_BIT(1)
#define NET_F_CTRL_GUEST_OFFLOADS FEATURE_BIT(2)
#define NET_F_MTU		  FEATURE_BIT(3)
#define NET_F_MAC		  FEATURE_BIT(5)
#define NET_F_GUEST_TSO4	  FEATURE_BIT(7)
#define NET_F_GUEST_TSO6	  FEATURE_BIT(8)
#define NET_F_GUEST_ECN		  FEATURE_BIT(9)
#define NET_F_HOST_TSO4		  FEATURE_BIT(11)
#define NET_F_HOST_TSO6		  FEATURE_BIT(12)
#define NET_F_HOST_ECN		  FEATURE_BIT(13)
#define NET_F_MRG_RXBUF		  FEATURE_BIT(15)
#define NET_F_STATUS		  FEATURE_BIT(16)
#define NET_F_CTRL_VQ		  FEATURE_BIT(17)
#define NET_F_CTRL_RX		  FEATURE_BIT(18)
#define NET_F_CTRL_VLAN		  FEATURE_BIT(19)
#define NET_F_CTRL_RX_EXTRA	  FEATURE_BIT(20)
#define NET_F_GUEST_ANNOUNCE	  FEATURE_BIT(21)
#define NET_F_MQ		  FEATURE_BIT(22)
#define NET_F_CTRL_MAC_ADDR	  FEATURE_BIT(23)
#define NET_F_GUEST_USO4	  FEATURE_BIT(54)
#define NET_F_GUEST_USO6	  FEATURE_BIT(55)
#define NET_F_HOST_USO		  FEATURE_BIT(56)
#define NET_F_SPEED_DUPLEX	  FEATURE_BIT(63)

/* What the driver may send and be sent that is not a plain frame. */
#define NET_F_HOST_OFFLOADS                                                                        \
	(NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_HOST_ECN | NET_F_HOST_USO)
#define NET_F_GUEST_OFFLOADS                                                                       \
	(NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_ECN |                \
	 NET_F_GUEST_USO4 | NET_F_GUEST_USO6)

enum {
	NET_HDR_LEN = 12,
	NET_HDR_LEN_LEGACY = 10, /* without VERSION_1 and MRG_RXBUF: no num_buffers */
	NET_HDR_F_NEEDS_CSUM = 1,
	NET_HDR_F_DATA_VALID = 2,
	NET_HDR_GSO_NONE = 0,
	NET_HDR_GSO_TCPV4 = 1,
	NET_HDR_GSO_TCPV6 = 4,
	NET_HDR_GSO_UDP_L4 = 5,
	NET_HDR_GSO_ECN = 0x80,
};

struct net_header {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len; /* bytes of headers, a hint */
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
	uint16_t num_buffers;
};

struct net_config_space {
	uint8_t mac[6];
	uint16_t status;
	uint16_t max_pairs;
	uint16_t mtu;
	uint32_t speed; /* Mbit/s */
	uint8_t duplex;
} __attribute__((packed));

enum {
	NET_STATUS_LINK_UP = 1,
	NET_SPEED_MAX = INT32_MAX,
	NET_DUPLEX_FULL = 1,
};
#define NET_SPEED_UNKNOWN  UINT32_MAX
#define NET_DUPLEX_UNKNOWN 0xff

_Static_assert(sizeof(struct net_header) == NET_HDR_LEN, "VIRTIO 1.3 §5.1.6");
_Static_assert(sizeof(struct net_config_space) == 17, "VIRTIO 1.3 §5.1.4");
