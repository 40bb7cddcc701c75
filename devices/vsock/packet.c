/* Headers of packets. See packet.h. */
#include "devices/vsock/packet.h"

#include <endian.h>

#include "devices/virtio/iov.h"

_Static_assert(PACKET_HEADER_LEN == 44, "VIRTIO 1.3 §5.10.6: struct virtio_vsock_hdr");

enum packet_verdict packet_load(struct packet *ret, const struct iovec *iov, uint32_t n,
				uint32_t total_len)
{
	struct virtio_vsock_hdr h;

	if (iov_read(iov, n, 0, &h, sizeof(h)) != sizeof(h))
		return PACKET_SHORT;
	*ret = (struct packet){
		.src_cid = le64toh(h.src_cid),
		.dst_cid = le64toh(h.dst_cid),
		.src_port = le32toh(h.src_port),
		.dst_port = le32toh(h.dst_port),
		.len = le32toh(h.len),
		.type = le16toh(h.type),
		.op = le16toh(h.op),
		.flags = le32toh(h.flags),
		.buf_alloc = le32toh(h.buf_alloc),
		.fwd_cnt = le32toh(h.fwd_cnt),
	};
	if (ret->type != VIRTIO_VSOCK_TYPE_STREAM && ret->type != VIRTIO_VSOCK_TYPE_SEQPACKET)
		return PACKET_TYPE;
	if (ret->op == VIRTIO_VSOCK_OP_INVALID || ret->op > VIRTIO_VSOCK_OP_CREDIT_REQUEST)
		return PACKET_OP;
	if (ret->op == VIRTIO_VSOCK_OP_RW && ret->len > total_len - PACKET_HEADER_LEN)
		return PACKET_CUT;
	return PACKET_OK;
}

void packet_store(const struct packet *p, const struct iovec *iov, uint32_t n)
{
	struct virtio_vsock_hdr h = {
		.src_cid = htole64(p->src_cid),
		.dst_cid = htole64(p->dst_cid),
		.src_port = htole32(p->src_port),
		.dst_port = htole32(p->dst_port),
		.len = htole32(p->len),
		.type = htole16(p->type),
		.op = htole16(p->op),
		.flags = htole32(p->flags),
		.buf_alloc = htole32(p->buf_alloc),
		.fwd_cnt = htole32(p->fwd_cnt),
	};

	iov_write(iov, n, 0, &h, sizeof(h));
}

void packet_trim(struct iovec *iov, uint32_t n, uint32_t offset, uint32_t len)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t skip = offset < iov[i].iov_len ? offset : (uint32_t)iov[i].iov_len;

		iov[i].iov_base = (uint8_t *)iov[i].iov_base + skip;
		iov[i].iov_len -= skip;
		offset -= skip;
		if (iov[i].iov_len > len)
			iov[i].iov_len = len;
		len -= (uint32_t)iov[i].iov_len;
	}
}
