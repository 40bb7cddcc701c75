/*
 * The header of a vsock packet (VIRTIO 1.3 §5.10.6): loaded once, checked, as numbers of ours.
 *
 * Runs in: worker. Trusts: nothing in a packet.
 */
#pragma once

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum { PACKET_HEADER_LEN = sizeof(struct virtio_vsock_hdr) };

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len; /* of the payload */
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
};

enum packet_verdict {
	PACKET_OK = 0,
	PACKET_SHORT, /* no room for a header: there is nobody to answer to */
	PACKET_CUT,   /* shorter than its header says */
	PACKET_TYPE,  /* neither STREAM nor SEQPACKET */
	PACKET_OP,    /* no such operation */
};

/*
 * Read the header in front of iov[0..n), total_len bytes. But for PACKET_SHORT, *ret is filled, whatever the verdict.
 */
enum packet_verdict packet_load(struct packet *ret, const struct iovec *iov, uint32_t n,
				uint32_t total_len);

/* Write it to the beginning of iov[0..n), which has room. */
void packet_store(const struct packet *p, const struct iovec *iov, uint32_t n);

/* Make iov[0..n) describe len bytes from offset on, which are there; elements may become empty. */
void packet_trim(struct iovec *iov, uint32_t n, uint32_t offset, uint32_t len);
