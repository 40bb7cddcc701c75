/*
 * frontend-net-queues: frames of several host queues, and of queues that change hands.
 *
 *	frontend-net-queues --program=vmdev-net [NAME…]
 *
 * In a network namespace of its own, as root; on a switch's port, where we decide which queue a
 * frame is in.
 */
#include "tests/frontend/claim.h"
#include "tests/frontend/net-wire.h"

#include <time.h>
#include <unistd.h>

enum {
	RX,
	HDR = sizeof(struct nw_header),
	QUEUE_SIZE = 256,
	FRAME_LEN = 100,
	BUFFER_LEN = 2048,
	N_BUFFERS = 16,
	N_BUSY = 600,
	FAIR = 150, /* frames: two turns of the device, and what it had in hand */
	AWAIT_MS = 5000,
};

static struct net_wire wire;
static uint8_t *buffers[N_BUFFERS];

static void begin(struct claim_context *x)
{
	const struct fe_spec spec = { .n_queues = 2, .queue_size = QUEUE_SIZE };

	nw_resume(&wire);
	expect_ok(fe_begin(&x->fe, x->backend.socket, &spec));
	for (unsigned i = 0; i < N_BUFFERS; i++)
		buffers[i] = fe_memory_alloc(&x->fe.mem, BUFFER_LEN, 64);
}

static void send_in(unsigned queue, uint32_t number)
{
	static const struct nw_header plain;
	uint8_t frame[FRAME_LEN] = "\x52\x54\0\x12\x34\x56\x02\0\0\0\0\x09\x88\xb5";

	memcpy(frame + 14, &number, sizeof(number));
	expect(nw_send(&wire, queue, &plain, frame, sizeof(frame)), "a bug of the test: no room");
}

static void post(struct fe_queue *q, uint8_t *buffer)
{
	const struct fe_sg sg = { buffer, BUFFER_LEN };

	expect(fe_queue_add(q, &sg, 0, 1, buffer) >= 0, "a bug of the test");
}

/* The number of the next frame. */
static uint32_t next_frame(struct fe_queue *q)
{
	struct fe_used used;
	uint32_t number;

	for (int i = 0; !fe_queue_pop(q, &used); i++) {
		expect(i < AWAIT_MS / 100, "no frame comes");
		fe_queue_wait(q, 100);
	}
	expect_is(used.len, HDR + FRAME_LEN);
	memcpy(&number, (uint8_t *)used.user + HDR + 14, sizeof(number));
	post(q, used.user);
	return number;
}

/* The driver is slow, and uses one pair, which has the frames of both of the host's queues. */
static void a_host_queue_does_not_wait_until_another_is_empty(struct claim_context *x)
{
	struct fe_queue *q = &x->fe.queues[RX];
	uint32_t n = 0;

	begin(x);
	for (uint32_t i = 0; i < N_BUSY; i++)
		send_in(0, i);
	send_in(1, N_BUSY);
	for (unsigned i = 0; i < N_BUFFERS; i++)
		post(q, buffers[i]);
	do {
		if (n % (N_BUFFERS / 2) == 0) {
			fe_queue_publish(q);
			fe_queue_kick_always(q);
		}
		expect(++n <= FAIR, "it has waited for %u frames of the other one", n);
	} while (next_frame(q) != N_BUSY);
}

#define ON(name, spec)                                                                             \
	{                                                                                          \
#name "_on_" #spec, name, &spec                                                    \
	}

int main(int argc, char **argv)
{
	static const char *args[NW_ARGS + 1];
	static const struct backend_spec port = {
		.net = true, .n_queues = 2, .queue_size = QUEUE_SIZE, .args = args
	};
	static const struct claim claims[] = {
		ON(a_host_queue_does_not_wait_until_another_is_empty, port),
	};

	if (!nw_isolate()) {
		puts("1..0 # SKIP no network namespace, or no /dev/net/tun");
		return 0;
	}
	nw_prepare(&wire, true);
	memcpy(args, wire.args, sizeof(wire.args));
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
