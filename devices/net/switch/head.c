/* Offloads and tags. See head.h. */
#include "devices/net/switch/head.h"

#include <assert.h>
#include <linux/virtio_net.h>

enum { GSO_UDP_L4 = 5 }; /* VIRTIO 1.3 §5.1.6; Debian 12's headers do not name it yet */

_Static_assert(HEAD_NEEDS_CSUM == VIRTIO_NET_HDR_F_NEEDS_CSUM, "VIRTIO 1.3 §5.1.6");
_Static_assert(sizeof(struct virtio_net_hdr_v1) == LANE_HEADER_LEN, "the header of VERSION_1");

/* Offsets point behind what is in front of every packet, a tag that may yet be taken off included. */
static bool check_sum(const struct virtio_net_hdr_v1 *v, uint32_t ether_len, uint32_t frame_len)
{
	if (!(v->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return true;
	return v->csum_start >= ether_len &&
	       (uint32_t)v->csum_start + v->csum_offset + sizeof(uint16_t) <= frame_len;
}

static bool check_segments(const struct virtio_net_hdr_v1 *v, uint32_t ether_len,
			   uint32_t frame_len)
{
	switch (v->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return v->gso_type == VIRTIO_NET_HDR_GSO_NONE;
	case VIRTIO_NET_HDR_GSO_TCPV4:
	case VIRTIO_NET_HDR_GSO_TCPV6:
		break;
	case GSO_UDP_L4:
		if (v->gso_type & VIRTIO_NET_HDR_GSO_ECN)
			return false;
		break;
	default:
		return false;
	}
	/* VIRTIO 1.3 §5.1.6.2: segments have checksums of their own, so this one's is left open. */
	return (v->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && v->gso_size > 0 &&
	       v->hdr_len >= ether_len && v->hdr_len <= frame_len;
}

bool head_check_asked(struct head *h)
{
	struct virtio_net_hdr_v1 v;
	uint32_t frame_len = head_frame_len(h);
	uint32_t ether_len = LANE_ETHER_LEN + (h->tagged ? HEAD_TAG_LEN : 0);

	memcpy(&v, h->p, sizeof(v));
	v.num_buffers = 0;
	v.flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	if (!check_sum(&v, ether_len, frame_len) || !check_segments(&v, ether_len, frame_len))
		return false;
	memcpy(h->p, &v, sizeof(v));
	return true;
}

/* What the header says of places in the frame moves with them. */
static void shift(struct head *h, int by)
{
	struct virtio_net_hdr_v1 v;

	memcpy(&v, h->p, sizeof(v));
	if (v.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		v.csum_start = (__u16)(v.csum_start + by);
	if (v.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		v.hdr_len = (__u16)(v.hdr_len + by);
	memcpy(h->p, &v, sizeof(v));
}

void head_untag(struct head *h)
{
	assert(h->tagged);
	h->tag = head_be16(head_frame(h) + HEAD_MACS_LEN + 2);
	memmove(h->p + HEAD_TAG_LEN, h->p, LANE_HEADER_LEN + HEAD_MACS_LEN);
	h->p += HEAD_TAG_LEN;
	h->len -= HEAD_TAG_LEN;
	h->tagged = false;
	shift(h, -HEAD_TAG_LEN);
}

void head_tag(struct head *h, uint16_t tag)
{
	uint8_t *at;

	assert(!h->tagged && h->p - h->bytes >= HEAD_TAG_LEN);
	h->p -= HEAD_TAG_LEN;
	h->len += HEAD_TAG_LEN;
	memmove(h->p, h->p + HEAD_TAG_LEN, LANE_HEADER_LEN + HEAD_MACS_LEN);
	at = h->p + LANE_HEADER_LEN + HEAD_MACS_LEN;
	at[0] = HEAD_TYPE_VLAN >> 8;
	at[1] = HEAD_TYPE_VLAN & 0xff;
	at[2] = (uint8_t)(tag >> 8);
	at[3] = (uint8_t)tag;
	h->tagged = true;
	shift(h, HEAD_TAG_LEN);
}
