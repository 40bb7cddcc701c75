/*
 * frontend-net-queues: frames of several host queues, and what the control queue says of them;
 * announcements.
 *
 *	frontend-net-queues --program=vmdev-net [NAME…]
 *
 * In a network namespace of its own, as root; on a switch's port, where we decide which queue a
 * frame is in.
 */
#include "tests/frontend/claim.h"
#include "tests/frontend/net-wire.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

enum {
	RX,
	TX,
	RX2,
	CONTROL = 4,
	HDR = sizeof(struct nw_header),
	QUEUE_SIZE = 256,
	FRAME_LEN = 100,
	BUFFER_LEN = 2048,
	N_BUFFERS = 16,
	N_BUSY = 600,
	FAIR = 150, /* frames: two turns of the device, and what it had in hand */
	AWAIT_MS = 5000,
	CLASS_ANNOUNCE = 3,
	CLASS_MQ = 4,
	F_GUEST_ANNOUNCE = 21,
	STATUS_AT = 6, /* in the configuration space */
	N_CHANGES = 300,
	N_EACH = 40, /* frames between two changes, of each queue */
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

/* A driver with both pairs, and the control queue. */

struct pairs {
	struct claim_context *x;
	uint8_t *command, *ack;
	uint32_t sent[2]; /* frames, of each host queue; their numbers are 2n + queue */
	uint32_t come;
	bool one;	     /* the driver has been answered that it uses one pair */
	uint32_t last[2][2]; /* by pair and host queue: the last number that has come, + 1 */
};

static struct fe_queue *rx_of(struct pairs *p, unsigned pair)
{
	return &p->x->fe.queues[pair ? RX2 : RX];
}

static void begin_pairs(struct pairs *p, struct claim_context *x, uint64_t features_not)
{
	const struct fe_spec spec = { .n_queues = 5,
				      .queue_size = QUEUE_SIZE,
				      .features_not = features_not };

	nw_resume(&wire);
	expect_ok(fe_begin(&x->fe, x->backend.socket, &spec));
	*p = (struct pairs){ .x = x };
	p->command = fe_memory_alloc(&x->fe.mem, 64, 64);
	p->ack = fe_memory_alloc(&x->fe.mem, 64, 64);
	for (unsigned pair = 0; pair < 2; pair++) {
		for (unsigned i = 0; i < QUEUE_SIZE; i++)
			post(rx_of(p, pair), fe_memory_alloc(&x->fe.mem, BUFFER_LEN, 64));
		fe_queue_publish(rx_of(p, pair));
		fe_queue_kick_always(rx_of(p, pair));
	}
}

static void command(struct pairs *p, uint8_t class, uint8_t number, const void *data, uint32_t len)
{
	struct fe_queue *q = &p->x->fe.queues[CONTROL];
	const struct fe_sg sg[] = { { p->command, 2 + len }, { p->ack, 1 } };

	p->command[0] = class;
	p->command[1] = number;
	if (len > 0)
		memcpy(p->command + 2, data, len);
	*p->ack = 0xee;
	expect(fe_queue_add(q, sg, 1, 1, p) >= 0, "a bug of the test");
	fe_queue_kick(q);
}

static bool acknowledged(struct pairs *p)
{
	struct fe_used used;

	if (!fe_queue_pop(&p->x->fe.queues[CONTROL], &used))
		return false;
	expect_is(used.len, 1);
	return true;
}

static uint8_t acknowledgement(struct pairs *p)
{
	for (int k = 0; !acknowledged(p); k++) {
		expect(k < AWAIT_MS * 10, "no acknowledgement");
		usleep(100);
	}
	return *p->ack;
}

static void use_pairs(struct pairs *p, uint16_t n)
{
	command(p, CLASS_MQ, 0, &n, sizeof(n));
}

/* Of one host queue, a pair's frames come in their order. */
static void take_frames(struct pairs *p)
{
	for (unsigned pair = 0; pair < 2; pair++) {
		struct fe_used used;
		bool any = false;

		while (fe_queue_pop(rx_of(p, pair), &used)) {
			uint32_t number, *last;

			memcpy(&number, (uint8_t *)used.user + HDR + 14, sizeof(number));
			last = &p->last[pair][number % 2];
			expect(pair == 0 || !p->one, "frame %u comes in a queue that is not used",
			       number);
			expect(number + 1 > *last, "frame %u comes after %u", number, *last - 1);
			*last = number + 1;
			p->come++;
			post(rx_of(p, pair), used.user);
			any = true;
		}
		if (any)
			fe_queue_kick(rx_of(p, pair));
	}
}

static void send_some(struct pairs *p)
{
	for (unsigned i = 0; i < N_EACH; i++)
		for (unsigned queue = 0; queue < 2; queue++)
			send_in(queue, 2 * p->sent[queue]++ + queue);
}

static void await_all(struct pairs *p)
{
	for (int i = 0; p->come < p->sent[0] + p->sent[1]; i++) {
		expect(i < AWAIT_MS * 10, "%u of %u frames have come", p->come,
		       p->sent[0] + p->sent[1]);
		take_frames(p);
		usleep(100);
	}
	expect_is(p->come, p->sent[0] + p->sent[1]);
}

/* While frames are coming, the second host queue goes from one thread to the other and back. */
static void a_host_queue_changes_hands_without_loss(struct claim_context *x)
{
	struct pairs p;

	begin_pairs(&p, x, 0);
	for (unsigned i = 0; i < N_CHANGES; i++) {
		send_some(&p);
		p.one = false;
		use_pairs(&p, (uint16_t)(1 + i % 2));
		send_some(&p);
		for (int k = 0; !acknowledged(&p); k++) {
			expect(k < AWAIT_MS * 10, "no acknowledgement");
			take_frames(&p);
			usleep(100);
		}
		expect_is(*p.ack, 0);
		/* What had come by then is there by now. */
		take_frames(&p);
		p.one = i % 2 == 0;
		if (i % 8 == 6)
			await_all(&p);
	}
	await_all(&p);
}

/* The device sleeps: whoever has the queue now is told of the next frame. */
static void a_host_queue_changes_hands_asleep(struct claim_context *x)
{
	struct pairs p;

	begin_pairs(&p, x, 0);
	for (unsigned i = 0; i < 40; i++) {
		use_pairs(&p, (uint16_t)(1 + i % 2));
		expect_is(acknowledgement(&p), 0);
		usleep(i % 4 < 2 ? 5000 : 0);
		for (unsigned queue = 0; queue < 2; queue++)
			send_in(queue, 2 * p.sent[queue]++ + queue);
		await_all(&p);
		expect_is(p.last[i % 2][1], 2 * p.sent[1]);
	}
}

/* Announcements */

/* VIRTIO 1.3 §5.1.4: 1 the link is up, 2 the driver is asked to announce itself. */
static uint16_t status_of(struct claim_context *x)
{
	uint16_t status = 0xeeee;

	expect_ok(fe_get_config(&x->fe, STATUS_AT, sizeof(status), &status));
	return status;
}

static void die(struct claim_context *x)
{
	pid_t worker = backend_worker(x->backend.pid);

	expect(worker > 0 && kill(worker, SIGKILL) == 0, "there is no worker");
	expect(backend_worker_await(x->backend.pid, worker, AWAIT_MS) > 0, "no other comes");
}

/*
 * vhost-user.rst, VHOST_USER_SEND_RARP: of the address in the message; RFC 903 says what is in it.
 */
static void expect_rarp(struct claim_context *x, const uint8_t mac[6])
{
	static uint8_t frame[NW_MAX_FRAME];
	struct nw_header h;
	uint32_t len;
	uint64_t v = 0;

	memcpy(&v, mac, 6);
	expect_ok(fe_do_u64(&x->fe, FE_SEND_RARP, v, -1));
	for (int i = 0; (len = nw_receive(&wire, &h, frame)) == 0; i++) {
		expect(i < AWAIT_MS * 10, "nothing is announced");
		usleep(100);
	}
	expect_is(len, 60);
	expect(memcmp(frame, "\xff\xff\xff\xff\xff\xff", 6) == 0, "not to all");
	expect(memcmp(frame + 6, mac, 6) == 0, "from another");
	expect(memcmp(frame + 12, "\x80\x35\0\1\x08\0\6\4\0\3", 10) == 0, "not a request");
	expect(memcmp(frame + 22, mac, 6) == 0 && memcmp(frame + 32, mac, 6) == 0, "of another");
	expect_is(nw_receive(&wire, &h, frame), 0);
}

static void the_front_end_has_the_guest_announced(struct claim_context *x)
{
	begin(x);
	expect(x->fe.pf & FE_BIT(FE_PF_RARP), "not offered");
	expect_rarp(x, (const uint8_t *)"\x52\x54\0\xaa\xbb\xcc");
	die(x);
	expect_rarp(x, (const uint8_t *)"\x52\x54\0\xaa\xbb\xdd");
}

/*
 * VIRTIO 1.3 §5.1.6.5.4: the driver says that it has announced itself. The device has not asked it,
 * and does not now.
 */
static void a_driver_says_that_it_has_announced_itself(struct claim_context *x)
{
	struct pairs p;

	begin_pairs(&p, x, 0);
	for (unsigned i = 0; i < 2; i++) {
		expect_is(status_of(x), 1);
		command(&p, CLASS_ANNOUNCE, 0, NULL, 0);
		expect_is(acknowledgement(&p), 0);
		expect_is(status_of(x), 1);
		command(&p, CLASS_ANNOUNCE, 1, NULL, 0);
		expect_is(acknowledgement(&p), 1);
		die(x);
	}
}

static void without_the_feature_it_may_not(struct claim_context *x)
{
	struct pairs p;

	begin_pairs(&p, x, FE_BIT(F_GUEST_ANNOUNCE));
	command(&p, CLASS_ANNOUNCE, 0, NULL, 0);
	expect_is(acknowledgement(&p), 1);
}

/* vhost-user.rst, "Ring states": a ring that is started and disabled. */

static void send_out(struct fe_queue *q, uint32_t n)
{
	static const uint8_t addresses[14] = "\x02\0\0\0\0\x09\x52\x54\0\x12\x34\x56\x88\xb5";

	for (uint32_t i = 0; i < n; i++) {
		const struct fe_sg sg = { buffers[i], HDR + FRAME_LEN };

		memcpy(buffers[i] + HDR, addresses, sizeof(addresses));
		expect(fe_queue_add(q, &sg, 1, 0, buffers[i]) >= 0, "a bug of the test");
	}
	fe_queue_kick(q);
}

static void expect_back(struct fe_queue *q, uint32_t n)
{
	struct fe_used used;

	for (uint32_t i = 0; i < n; i++)
		for (int tries = 0; !fe_queue_pop(q, &used); tries++) {
			expect(tries < AWAIT_MS / 100, "frame %u is not given back", i);
			fe_queue_wait(q, 100);
		}
}

static uint32_t count_out(void)
{
	static uint8_t frame[NW_MAX_FRAME];
	struct nw_header h;
	uint32_t n = 0;

	while (nw_receive(&wire, &h, frame) > 0)
		n++;
	return n;
}

static void what_is_sent_in_a_disabled_ring_is_discarded(struct claim_context *x)
{
	struct fe_queue *q = &x->fe.queues[TX];

	begin(x);
	for (unsigned i = 0; i < 3; i++) {
		send_out(q, 2);
		expect_back(q, 2);
		expect_is(count_out(), 2);
		expect_ok(fe_queue_enable(&x->fe, q, false));
		for (unsigned n = 1; n < 4; n++) {
			send_out(q, n);
			expect_back(q, n);
			expect_is(count_out(), 0);
		}
		expect_ok(fe_queue_enable(&x->fe, q, true));
	}
}

/*
 * A front-end that has no other way disables a ring to stop it (User Mode Linux), and one that begins has not enabled it yet:
 * without a kick from then on it is not touched, whoever takes over.
 */
static void a_disabled_ring_that_is_not_kicked_waits(struct claim_context *x)
{
	struct fe_queue *q = &x->fe.queues[TX];
	struct fe_sg sg = { .len = HDR + FRAME_LEN };

	begin(x);
	sg.p = buffers[0];
	send_out(q, 1);
	expect_back(q, 1);
	expect_ok(fe_queue_enable(&x->fe, q, false));
	expect(fe_queue_add(q, &sg, 1, 0, buffers[0]) >= 0, "a bug of the test");
	fe_queue_publish(q);
	expect(!fe_queue_wait(q, 100), "touched");
	expect_is(status_of(x), 1);
	die(x);
	expect(!fe_queue_wait(q, 100), "touched by a successor");
	expect_is(count_out(), 1);
	expect_ok(fe_queue_enable(&x->fe, q, true));
	expect_back(q, 1);
	expect_is(count_out(), 1);
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
		ON(a_host_queue_changes_hands_without_loss, port),
		ON(a_host_queue_changes_hands_asleep, port),
		ON(the_front_end_has_the_guest_announced, port),
		ON(a_driver_says_that_it_has_announced_itself, port),
		ON(without_the_feature_it_may_not, port),
		ON(what_is_sent_in_a_disabled_ring_is_discarded, port),
		ON(a_disabled_ring_that_is_not_kicked_waits, port),
	};

	if (!nw_isolate()) {
		puts("1..0 # SKIP no network namespace, or no /dev/net/tun");
		return 0;
	}
	nw_prepare(&wire, true);
	memcpy(args, wire.args, sizeof(wire.args));
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
