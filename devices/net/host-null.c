/*
 * The host side that is none: drops what is sent; makes frames without end if asked to. For
 * measuring, and for a guest that is to have a network card and no network.
 *
 * Runs in: see host.h. Trusts: see host.h.
 */
#include <string.h>

#include "devices/net/host.h"

static struct {
	struct host host; /* first */
	uint32_t generate_len;
	uint8_t frame[NET_HDR_LEN + NET_MAX_FRAME_LEN];
} null_side;

static int arrange(const struct host_config *c)
{
	return 0;
}

/* A broadcast of an experimental protocol (IEEE 802 local), from an address of nobody's. */
static void make_frame(uint8_t *frame)
{
	static const uint8_t head[NET_ETH_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
						   0x00, 0x00, 0x00, 0x00, 0x01, 0x88, 0xb5 };

	memcpy(frame + NET_HDR_LEN, head, sizeof(head));
}

static struct host *open_side(const struct host_config *c)
{
	null_side.host = (struct host){
		.side = &host_null,
		.n_queues = c->n_queues,
		.features = NET_F_HOST_OFFLOADS,
	};
	null_side.generate_len = c->generate_len;
	make_frame(null_side.frame);
	return &null_side.host;
}

static uint32_t send_frames(struct host *h, uint32_t queue, const struct host_frame *frames,
			    uint32_t n, bool more)
{
	return n;
}

static uint32_t receive(struct host *h, uint32_t queue, const struct iovec *iov, uint32_t n_iov)
{
	uint32_t len = null_side.generate_len ? NET_HDR_LEN + null_side.generate_len : 0;
	uint32_t done = 0;

	for (uint32_t i = 0; i < n_iov && done < len; i++) {
		uint32_t left = len - done;
		uint32_t n = iov[i].iov_len < left ? (uint32_t)iov[i].iov_len : left;

		if (n > 0) /* an element without bytes has no place either */
			memcpy(iov[i].iov_base, null_side.frame + done, n);
		done += n;
	}
	return done;
}

static int event_fd(const struct host *h, uint32_t queue)
{
	return -1;
}

const struct host_side host_null = {
	.name = "null",
	.arrange = arrange,
	.open = open_side,
	.send = send_frames,
	.receive = receive,
	.event_fd = event_fd,
};
