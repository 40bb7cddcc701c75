/* Runs of frames that need no more than one buffer each and nothing done to them. See rx-private.h. */
#include <string.h>

#include "devices/base/copy.h"
#include "devices/base/crash.h"
#include "devices/net/rx-private.h"

enum { RX_RUN_LEN = 16 /* frames: buffers are looked at for so many at once */ };

enum run_step { RUN_GOT, RUN_FILTERED, RUN_NOT };

/* The record, copied into the buffer, if it is one of those. */
static enum run_step run_place(struct net *net, struct net_pair *p, struct queue_piece *piece,
			       const uint8_t *record, uint32_t len)
{
	struct net_header h;
	uint8_t head[NET_ETH_LEN + 2];
	uint32_t frame_len = len - NET_HDR_LEN;

	memcpy(&h, record, sizeof(h));
	if (frame_len < sizeof(head) || piece->len < net->hdr_len + frame_len ||
	    rx_wrong_with(net, &h, frame_len) || !rx_driver_takes(p, &h))
		return RUN_NOT;
	if (net->control_ours && p->control.filters) {
		memcpy(head, record + NET_HDR_LEN, sizeof(head));
		if (!control_accepts(&p->control, net->features, net->config.mac, head,
				     sizeof(head)))
			return RUN_FILTERED;
	}
	rx_clean_header(p, &h);
	h.num_buffers = 1;
	copy_bytes(piece->p + net->hdr_len, record + NET_HDR_LEN, frame_len);
	memcpy(piece->p, &h, net->hdr_len == NET_HDR_LEN ? NET_HDR_LEN : NET_HDR_LEN_LEGACY);
	piece->len = net->hdr_len + frame_len;
	return RUN_GOT;
}

/* Frames of one host queue into buffers; how many of these were filled. */
static uint32_t run_fill(struct net *net, struct net_pair *p, uint32_t queue,
			 struct queue_piece *pieces, uint32_t n_pieces)
{
	const struct host_side *side = net->host->side;
	const uint8_t *record;
	uint32_t n = 0, len;

	while (n < n_pieces && (record = side->look(net->host, queue, &len)) != NULL) {
		enum run_step step = run_place(net, p, &pieces[n], record, len);

		if (step == RUN_NOT)
			break;
		n += step == RUN_GOT;
		p->counters->filtered += step == RUN_FILTERED;
		side->next(net->host, queue);
	}
	return n;
}

static void run_give(struct net *net, struct thread *t, struct vring *r,
		     const struct queue_piece *pieces, uint32_t n)
{
	struct net_counters *counters = net->pairs[r->index / 2].counters;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < n; i++)
		bytes += pieces[i].len - net->hdr_len;
	for (uint32_t i = 0; i < n && memory_logs(r->queue.memory); i++)
		memory_log_host(r->queue.memory, pieces[i].p, pieces[i].len);
	CRASH_POINT("net.rx.placed");
	n = queue_take_run(&r->queue, pieces, n);
	thread_taken_run(t, r, n);
	thread_push_run(t, r, true, pieces, n);
	CRASH_POINT("net.rx.run");
	counters->received += n;
	counters->received_bytes += bytes;
}

/* As many as there are, up to max; what follows is none of these. */
uint32_t rx_run(struct net *net, struct thread *t, struct vring *r, uint32_t max)
{
	struct net_pair *p = &net->pairs[r->index / 2];
	struct queue_piece pieces[RX_RUN_LEN];
	uint32_t n = 0, got, room, left = p->sources;

	if (!net->host->side->look || p->rx->waiting_len > 0 || !throttle_is_off(&net->receiving))
		return 0;
	while (left && n < max) {
		uint32_t queue = rx_due_source(p, left);

		do {
			room = net->host->side->has_frame(net->host, queue)
				       ? queue_peek_run(&r->queue, true, pieces,
							max - n < RX_RUN_LEN ? max - n : RX_RUN_LEN)
				       : 0;
			got = run_fill(net, p, queue, pieces, room);
			run_give(net, t, r, pieces, got);
			n += got;
			if (got > 0)
				rx_fed_from(p, queue);
		} while (got > 0 && n < max);
		left &= ~(UINT32_C(1) << queue);
	}
	return n;
}
