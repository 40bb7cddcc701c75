/*
 * Claims about the rings: notifications, order, wrap, stop and start, many queues.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/claim.h"
#include "tests/frontend/load.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#define IMAGE_LEN (UINT64_C(64) << 20)

static const struct backend_spec two_queues = { .image_len = IMAGE_LEN, .n_queues = 2 };
static const struct backend_spec eight_queues = { .image_len = IMAGE_LEN,
						  .n_queues = 8,
						  .queue_size = 1024 };

static const struct fe_spec everything;

static bool called(const struct fe_queue *q, int timeout_ms)
{
	struct pollfd p = { .fd = q->call, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

static bool erred(const struct fe_queue *q)
{
	struct pollfd p = { .fd = q->err, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void pop_all(struct fe_queue *q, unsigned n)
{
	struct fe_used used;

	while (n > 0) {
		if (fe_queue_pop(q, &used)) {
			n--;
			continue;
		}
		expect_is(fe_queue_wait(q, 5000), 1);
	}
}

/* @n reads of the first sector, into memory of their own. */
static void reads_add(struct claim_context *x, struct fe_queue *q, unsigned n)
{
	static struct fe_blk b[FE_MAX_QUEUE_SIZE];
	static uint8_t *p;
	struct fe_blk_op op = { .type = VIRTIO_BLK_T_IN, .n_data = 1 };
	struct fe_sg sg;
	unsigned i;

	if (!p)
		p = fe_memory_alloc(&x->fe.mem, 512, 512);
	sg = (struct fe_sg){ p, 512 };
	op.data = &sg;
	op.indirect = q->indirect;
	for (i = 0; i < n; i++) {
		if (!b[i].header)
			fe_blk_init(&b[i], &x->fe.mem);
		expect(fe_blk_add(q, &b[i], &op) >= 0, "no room for request %u", i);
	}
}

static void load_under(struct claim_context *x, const struct fe_spec *spec, unsigned depth)
{
	static struct load load;
	struct load_spec ls = { .depth = depth, .area_len = 16 << 20, .seed = depth };

	claim_begin(x, spec);
	expect_ok(load_init(&load, &x->fe, &ls));
	expect_ok(load_run(&load, 8000));
	expect_ok(load_drain(&load));
	expect_ok(load_verify(&load));
	expect_is(load.n_errors, 0);
	expect_is(load.n_mismatches, 0);
}

static void load_is_right_without_event_idx(struct claim_context *x)
{
	load_under(x, &(struct fe_spec){ .n_queues = 2, .features_not = FE_F_EVENT_IDX }, 32);
}

static void load_is_right_without_indirect(struct claim_context *x)
{
	load_under(x, &(struct fe_spec){ .n_queues = 2, .features_not = FE_F_INDIRECT }, 32);
}

static void load_is_right_with_every_option_off(struct claim_context *x)
{
	load_under(x,
		   &(struct fe_spec){ .features_not = FE_F_INDIRECT | FE_F_EVENT_IDX,
				      .pf_not = UINT64_MAX },
		   16);
}

static void load_is_right_with_an_inflight_region(struct claim_context *x)
{
	load_under(x, &(struct fe_spec){ .n_queues = 2, .inflight = true }, 32);
	expect(x->fe.inflight.map, "INFLIGHT_SHMFD is not offered");
}

static void load_is_right_in_a_tiny_ring(struct claim_context *x)
{
	load_under(x, &(struct fe_spec){ .queue_size = 4 }, 4);
}

static void load_is_right_in_eight_large_rings(struct claim_context *x)
{
	load_under(x,
		   &(struct fe_spec){
			   .n_queues = 8, .queue_size = 1024, .memory.len = UINT64_C(256) << 20 },
		   64);
}

static void fewer_queues_than_offered_work(struct claim_context *x)
{
	load_under(x, &(struct fe_spec){ .n_queues = 3 }, 8);
}

static void ring_indices_wrap(struct claim_context *x)
{
	unsigned done;
	struct fe_queue *q;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	for (done = 0; done < 70000; done += 100) {
		reads_add(x, q, 100);
		fe_queue_kick(q);
		pop_all(q, 100);
	}
	expect_is(fe_queue_outstanding(q), 0);
}

static void a_full_ring_is_emptied(struct claim_context *x)
{
	struct fe_queue *q;
	unsigned i;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	for (i = 0; i < 50; i++) {
		reads_add(x, q, q->size);
		expect_is(q->n_free, 0);
		fe_queue_kick(q);
		pop_all(q, q->size);
	}
}

static void used_event_ahead_suppresses_the_call(struct claim_context *x)
{
	struct fe_queue *q;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	expect(q->event_idx, "EVENT_IDX is not offered");
	reads_add(x, q, 1);
	fe_queue_kick(q);
	pop_all(q, 1);
	usleep(20000); /* a call at the start is permitted */
	/* Until the tenth is used, no call. */
	q->avail->ring[q->size] = (uint16_t)(q->last_used + 9);
	fe_queue_drain_call(q);
	reads_add(x, q, 9);
	fe_queue_kick(q);
	while ((uint16_t)(q->used->idx - q->last_used) < 9)
		usleep(100);
	expect(!called(q, 50), "called though used_event was not reached");
	reads_add(x, q, 1);
	fe_queue_kick(q);
	expect(called(q, 5000), "not called when used_event was crossed");
	pop_all(q, 10);
}

static void no_interrupt_suppresses_the_call(struct claim_context *x)
{
	struct fe_spec spec = { .features_not = FE_F_EVENT_IDX };
	struct fe_queue *q;

	claim_begin(x, &spec);
	q = &x->fe.queues[0];
	reads_add(x, q, 1);
	fe_queue_kick(q);
	pop_all(q, 1);
	q->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	usleep(20000); /* a call at the start is permitted */
	fe_queue_drain_call(q);
	reads_add(x, q, 4);
	fe_queue_kick(q);
	while ((uint16_t)(q->used->idx - q->last_used) < 4)
		usleep(100);
	expect(!called(q, 50), "called though VRING_AVAIL_F_NO_INTERRUPT was set");
	q->avail->flags = 0;
	reads_add(x, q, 1);
	fe_queue_kick(q);
	expect(called(q, 5000), "not called");
	pop_all(q, 5);
}

static void kicks_are_asked_for_again_when_idle(struct claim_context *x)
{
	struct fe_queue *q;
	unsigned i;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	/* Only kicks that the device asks for are sent: a device that forgets to ask hangs here. */
	for (i = 0; i < 3000; i++) {
		reads_add(x, q, 1 + i % 3);
		fe_queue_kick(q);
		pop_all(q, 1 + i % 3);
		if (i % 500 == 0)
			usleep(3000);
	}
	printf("# 3000 rounds, %lu kicks\n", q->n_kicks);
}

static void a_changed_call_descriptor_is_used(struct claim_context *x)
{
	struct fe_queue *q, old;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	old = *q;
	q->call = dup(x->fe.queues[0].err);
	expect_ok(fe_do_u64(&x->fe, FE_SET_VRING_CALL, 0, q->call));
	fe_queue_drain_call(&old);
	reads_add(x, q, 1);
	fe_queue_arm(q);
	fe_queue_kick(q);
	expect(called(q, 5000), "the new call descriptor is not signalled");
	expect(!called(&old, 20), "the old call descriptor is signalled");
}

static void without_a_call_descriptor_the_ring_still_works(struct claim_context *x)
{
	struct fe_queue *q;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	expect_ok(fe_do_u64(&x->fe, FE_SET_VRING_CALL, FE_VRING_NOFD, -1));
	reads_add(x, q, 5);
	fe_queue_kick(q);
	while ((uint16_t)(q->used->idx - q->last_used) < 5)
		usleep(100);
	pop_all(q, 5);
}

static void get_vring_base_drains(struct claim_context *x)
{
	struct fe_queue *q;
	uint16_t base, used;
	unsigned round;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	for (round = 0; round < 200; round++) {
		reads_add(x, q, 40);
		fe_queue_kick(q);
		expect_ok(fe_queue_stop(&x->fe, q, &base));
		/* What was taken is done, and nothing happens after the answer. */
		used = q->used->idx;
		expect(used == base, "base %u, used %u: requests were left in flight", base, used);
		if (round % 20 == 0) {
			usleep(2000);
			expect(q->used->idx == base, "a stopped ring went on");
		}
		expect_ok(fe_queue_start(&x->fe, q, base));
		expect_ok(fe_queue_enable(&x->fe, q, true));
		fe_queue_kick_always(q);
		pop_all(q, 40);
	}
}

static void a_disabled_ring_waits(struct claim_context *x)
{
	struct fe_queue *q;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	expect_ok(fe_queue_enable(&x->fe, q, false));
	reads_add(x, q, 10);
	fe_queue_publish(q);
	fe_queue_kick_always(q);
	usleep(20000);
	expect(!fe_queue_pending(q), "a disabled ring was served");
	expect_ok(fe_queue_enable(&x->fe, q, true));
	fe_queue_kick_always(q);
	pop_all(q, 10);
}

static void one_ring_stops_while_the_other_goes_on(struct claim_context *x)
{
	struct fe_spec spec = { .n_queues = 2 };
	struct fe_queue *a, *b;
	uint16_t base;
	unsigned i;

	claim_begin(x, &spec);
	a = &x->fe.queues[0];
	b = &x->fe.queues[1];
	expect_ok(fe_queue_stop(&x->fe, a, &base));
	for (i = 0; i < 100; i++) {
		reads_add(x, b, 20);
		fe_queue_kick(b);
		pop_all(b, 20);
	}
	expect_ok(fe_queue_start(&x->fe, a, base));
	expect_ok(fe_queue_enable(&x->fe, a, true));
	reads_add(x, a, 20);
	fe_queue_kick(a);
	pop_all(a, 20);
}

static void a_ring_starts_at_any_base(struct claim_context *x)
{
	static const uint16_t bases[] = { 1, 127, 128, 32768, 65535 };
	struct fe_queue *q;
	uint16_t base;
	unsigned i;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	for (i = 0; i < 5; i++) {
		expect_ok(fe_queue_stop(&x->fe, q, &base));
		fe_queue_rewind(q);
		q->avail_idx = q->kicked_idx = q->last_used = bases[i];
		q->avail->idx = q->used->idx = bases[i];
		expect_ok(fe_queue_start(&x->fe, q, bases[i]));
		expect_ok(fe_queue_enable(&x->fe, q, true));
		reads_add(x, q, 60);
		fe_queue_publish(q);
		fe_queue_kick_always(q); /* the ring's avail_event is older than the ring */
		pop_all(q, 60);
		expect(!erred(q), "err was signalled");
	}
}

static void requests_before_the_kick_descriptor_are_served(struct claim_context *x)
{
	struct fe_queue *q;
	uint16_t base;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	expect_ok(fe_queue_stop(&x->fe, q, &base));
	reads_add(x, q, 5);
	fe_queue_publish(q);
	fe_queue_kick_always(q); /* the eventfd is readable when the ring starts */
	expect_ok(fe_queue_start(&x->fe, q, base));
	expect_ok(fe_queue_enable(&x->fe, q, true));
	pop_all(q, 5);
}

/* Until err is signalled. */
static void break_it(struct fe_queue *q)
{
	q->avail->ring[q->avail_idx % q->size] = 4711; /* no such descriptor */
	q->avail_idx++;
	fe_queue_publish(q);
	fe_queue_kick_always(q);
	for (unsigned i = 0; !erred(q) && i < 5000; i++)
		usleep(1000);
	expect(erred(q), "err is not signalled");
}

static void a_ring_broken_again_and_again_does_not_fill_the_log(struct claim_context *x)
{
	unsigned n = 0;
	char line[512];
	struct fe_queue *q;
	uint64_t count;
	uint16_t base;
	FILE *f;

	claim_begin(x, &everything);
	q = &x->fe.queues[0];
	for (unsigned i = 0; i < 60; i++) {
		break_it(q);
		expect(read(q->err, &count, sizeof(count)) == sizeof(count), "err");
		expect_ok(fe_queue_stop(&x->fe, q, &base));
		fe_queue_rewind(q);
		expect_ok(fe_queue_start(&x->fe, q, 0));
		expect_ok(fe_queue_enable(&x->fe, q, true));
	}
	f = fopen(x->backend.log, "re");
	expect(f, "no log");
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "the guest broke it") != NULL;
	fclose(f);
	expect(n >= 1 && n <= 20, "%u records of 60 broken rings", n);
}

static void a_broken_ring_leaves_the_other_alone(struct claim_context *x)
{
	struct fe_spec spec = { .n_queues = 2 };
	struct fe_queue *a, *b;

	claim_begin(x, &spec);
	a = &x->fe.queues[0];
	b = &x->fe.queues[1];
	break_it(a);
	reads_add(x, b, 20);
	fe_queue_kick(b);
	pop_all(b, 20);
	expect(!fe_gone(&x->fe), "the session was closed");
}

/* The layout of vhost-user.rst, "Inflight I/O tracking", split virtqueue. */
struct inflight_desc {
	uint8_t inflight, padding[5];
	uint16_t next;
	uint64_t counter;
};
struct inflight_region {
	uint64_t features;
	uint16_t version, desc_num, last_batch_head, used_idx;
	struct inflight_desc desc[];
};

static void inflight_begin(struct claim_context *x)
{
	struct fe_spec spec = { .inflight = true };

	claim_begin(x, &spec);
	expect(x->fe.inflight.map, "INFLIGHT_SHMFD is not offered");
}

static unsigned inflight_count(const struct fe *fe)
{
	const struct inflight_region *r = (const void *)fe->inflight.map;
	unsigned i, n = 0;

	for (i = 0; i < fe->queues[0].size; i++)
		n += r->desc[i].inflight != 0;
	return n;
}

static void the_inflight_region_is_empty_when_nothing_is_in_flight(struct claim_context *x)
{
	const struct inflight_region *r;
	struct fe_queue *q;
	uint16_t base;

	inflight_begin(x);
	q = &x->fe.queues[0];
	r = (const void *)x->fe.inflight.map;
	expect(x->fe.inflight.desc.mmap_size >= sizeof(*r) + q->size * 16ul, "mmap_size %lu",
	       x->fe.inflight.desc.mmap_size);
	expect_is(r->version, 1);
	expect_is(r->desc_num, q->size);
	reads_add(x, q, 100);
	fe_queue_kick(q);
	pop_all(q, 100);
	expect_ok(fe_queue_stop(&x->fe, q, &base));
	expect_is(inflight_count(&x->fe), 0);
	expect_is(r->used_idx, q->used->idx);
}

/*
 * A front-end that reconnects after its back-end was lost: ten requests are in the available ring,
 * six of them were in flight, two of those were published but not cleared (used.idx is ahead of the
 * region's).
 */
static void a_handed_over_inflight_region_is_resubmitted(struct claim_context *x)
{
	struct inflight_region *r;
	struct fe_queue *q;
	uint16_t base;
	unsigned i;

	inflight_begin(x);
	q = &x->fe.queues[0];
	r = (void *)x->fe.inflight.map;
	expect_ok(fe_queue_stop(&x->fe, q, &base));
	fe_queue_rewind(q);
	reads_add(x, q, 10);
	fe_queue_publish(q);
	memset(r->desc, 0, q->size * sizeof(r->desc[0]));
	for (i = 0; i < 6; i++) {
		r->desc[q->avail->ring[i]].inflight = 1;
		r->desc[q->avail->ring[i]].counter = 100 + i;
	}
	/* The dead back-end had answered the first two and published them as one batch. */
	for (i = 0; i < 2; i++) {
		q->used->ring[i].id = q->avail->ring[i];
		q->used->ring[i].len = 513;
	}
	r->desc[q->avail->ring[1]].next = q->avail->ring[0];
	r->last_batch_head = q->avail->ring[1];
	r->used_idx = 0;
	q->used->idx = 2;
	expect_ok(fe_inflight_set(&x->fe));
	expect_ok(fe_queue_start(&x->fe, q, 0));
	expect_ok(fe_queue_enable(&x->fe, q, true));
	pop_all(q, 10); /* n_bogus counts a second answer */
	usleep(20000);
	expect(!fe_queue_pending(q), "something was answered twice");
	expect_is(q->used->idx, 10);
	expect_is(inflight_count(&x->fe), 0);
}

/* What another back-end is to find: the first @n of the available ring are in flight, none answered. */
static void record_in_flight(struct claim_context *x, struct fe_queue *q, unsigned n)
{
	struct inflight_region *r = (void *)x->fe.inflight.map;
	unsigned i;

	memset(r->desc, 0, q->size * sizeof(r->desc[0]));
	r->used_idx = 0;
	for (i = 0; i < n; i++) {
		r->desc[q->avail->ring[i]].inflight = 1;
		r->desc[q->avail->ring[i]].counter = 100 + i;
	}
}

static void flushes_add(struct claim_context *x, struct fe_queue *q, unsigned n)
{
	static struct fe_blk b[FE_MAX_QUEUE_SIZE];
	struct fe_blk_op op = { .type = VIRTIO_BLK_T_FLUSH, .indirect = true };
	unsigned i;

	for (i = 0; i < n; i++) {
		fe_blk_init(&b[i], &x->fe.mem);
		expect(fe_blk_add(q, &b[i], &op) >= 0, "no room for request %u", i);
	}
}

/*
 * A ring that is started and not enabled resubmits what it finds in flight; in the midst of that
 * its addresses come again, and it starts once more. Nothing waits for an ack here.
 */
static void addresses_that_come_again_find_nothing_in_flight(struct claim_context *x)
{
	struct fe_spec spec = { .inflight = true,
				.queue_size = 256,
				.pf_not = FE_BIT(FE_PF_REPLY_ACK) };
	struct fe_queue *q;
	uint16_t base;

	claim_begin(x, &spec);
	q = &x->fe.queues[0];
	expect_ok(fe_queue_stop(&x->fe, q, &base));
	expect_ok(fe_queue_enable(&x->fe, q, false));
	fe_queue_rewind(q);
	flushes_add(x, q, 200);
	fe_queue_publish(q);
	record_in_flight(x, q, 200);
	expect_ok(fe_inflight_set(&x->fe));
	expect_ok(fe_queue_start(&x->fe, q, 0));
	expect_ok(fe_log_vring(&x->fe, q, false));
	expect_ok(fe_do_u64(&x->fe, FE_SET_VRING_KICK, q->idx, q->kick));
	expect_ok(fe_queue_stop(&x->fe, q, &base));
	expect_is(base, 200);
	pop_all(q, 200);
	expect_is(inflight_count(&x->fe), 0);
}

/* With another region what the ring was attached to is gone: it stops, and starts anew. */
static void a_region_that_comes_for_a_disabled_ring_stops_it(struct claim_context *x)
{
	struct inflight_region *r;
	struct fe_queue *q;
	pid_t worker;
	uint16_t base;

	inflight_begin(x);
	worker = backend_worker(x->backend.pid);
	q = &x->fe.queues[0];
	expect_ok(fe_queue_enable(&x->fe, q, false));
	x->fe.inflight.desc.mmap_size = 1 << 20;
	x->fe.inflight.desc.mmap_offset = 0;
	x->fe.inflight.fd = memfd_create("inflight", MFD_CLOEXEC);
	expect_is(ftruncate(x->fe.inflight.fd, 1 << 20), 0);
	r = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, x->fe.inflight.fd, 0);
	expect_ok(fe_inflight_set(&x->fe));
	expect_ok(fe_do_u64(&x->fe, FE_SET_VRING_KICK, q->idx, q->kick));
	expect_ok(fe_queue_enable(&x->fe, q, true));
	reads_add(x, q, 10);
	fe_queue_publish(q);
	fe_queue_kick_always(q);
	pop_all(q, 10);
	expect_ok(fe_queue_stop(&x->fe, q, &base));
	expect_is(base, 10);
	expect_is(r->used_idx, 10);
	expect_is(backend_worker(x->backend.pid), worker);
}

static void use_one_processor(void)
{
	cpu_set_t all, one;
	int cpu = 0;

	expect_is(sched_getaffinity(0, sizeof(all), &all), 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	expect_is(sched_setaffinity(0, sizeof(one), &one), 0);
}

/* @n requests in the available ring, and on record as taken: as a worker leaves it that dies over them. */
static void leave_in_flight(struct claim_context *x, unsigned k, unsigned n, uint32_t type)
{
	static struct fe_blk b;
	static uint8_t *p;
	struct fe_queue *q = &x->fe.queues[k];
	uint64_t step = x->fe.inflight.desc.mmap_size / x->fe.n_queues;
	struct inflight_region *r = (void *)(x->fe.inflight.map + k * step);
	struct fe_blk_op op = { .type = type, .n_data = 1, .indirect = true };
	struct fe_sg sg;
	int head;
	unsigned i;

	if (!p) {
		p = fe_memory_alloc(&x->fe.mem, 512, 512);
		fe_blk_init(&b, &x->fe.mem); /* one for all: the answers are alike */
	}
	sg = (struct fe_sg){ p, 512 };
	op.data = &sg;
	for (i = 0; i < n; i++) {
		head = fe_blk_add(q, &b, &op);
		expect(head >= 0, "no room for request %u", i);
		r->desc[head].counter = i + 1;
		r->desc[head].inflight = 1;
	}
	fe_queue_publish(q);
}

/*
 * One I/O thread for eight rings of 1024, whose I/O rings have 4096 entries each: what eight rings had in flight is more.
 */
static void resubmit_more(struct claim_context *x, uint32_t type)
{
	struct fe_spec spec = { .n_queues = 8,
				.queue_size = 1024,
				.memory.len = UINT64_C(256) << 20,
				.inflight = true };
	static struct backend_spec back;
	pid_t worker;
	unsigned k;

	use_one_processor();
	back = eight_queues;
	back.program = x->program;
	expect_ok(backend_start(&x->backend, &back));
	claim_begin(x, &spec);
	worker = backend_worker_await(x->backend.pid, 0, 2000);
	expect(worker > 0 && kill(worker, SIGSTOP) == 0, "no worker");
	for (k = 0; k < 8; k++)
		leave_in_flight(x, k, 1000, type);
	kill(worker, SIGKILL);
	for (k = 0; k < 8; k++)
		pop_all(&x->fe.queues[k], 1000);
	usleep(20000);
	for (k = 0; k < 8; k++) {
		expect(!fe_queue_pending(&x->fe.queues[k]), "answered twice");
		expect_is(x->fe.queues[k].used->idx, 1000);
	}
	/* Nor was it done by one worker after the other. */
	expect(!backend_log_has(&x->backend, "died of signal"), "a worker has crashed");
	backend_done(&x->backend);
}

static void more_reads_than_an_io_ring_has_entries_are_resubmitted(struct claim_context *x)
{
	resubmit_more(x, VIRTIO_BLK_T_IN);
}

static void more_writes_than_an_io_ring_has_entries_are_resubmitted(struct claim_context *x)
{
	resubmit_more(x, VIRTIO_BLK_T_OUT);
}

#define ALONE(name)                                                                                \
	{                                                                                          \
#name, name, NULL                                                                  \
	}
#define C(name, spec)                                                                              \
	{                                                                                          \
#name, name, &spec                                                                 \
	}

static const struct claim claims[] = {
	C(load_is_right_without_event_idx, two_queues),
	C(load_is_right_without_indirect, two_queues),
	C(load_is_right_with_every_option_off, two_queues),
	C(load_is_right_with_an_inflight_region, two_queues),
	C(load_is_right_in_a_tiny_ring, two_queues),
	C(ring_indices_wrap, two_queues),
	C(a_full_ring_is_emptied, two_queues),
	C(used_event_ahead_suppresses_the_call, two_queues),
	C(no_interrupt_suppresses_the_call, two_queues),
	C(kicks_are_asked_for_again_when_idle, two_queues),
	C(a_changed_call_descriptor_is_used, two_queues),
	C(without_a_call_descriptor_the_ring_still_works, two_queues),
	C(get_vring_base_drains, two_queues),
	C(a_disabled_ring_waits, two_queues),
	C(one_ring_stops_while_the_other_goes_on, two_queues),
	C(a_ring_starts_at_any_base, two_queues),
	C(requests_before_the_kick_descriptor_are_served, two_queues),
	C(a_broken_ring_leaves_the_other_alone, two_queues),
	C(a_ring_broken_again_and_again_does_not_fill_the_log, two_queues),
	C(the_inflight_region_is_empty_when_nothing_is_in_flight, two_queues),
	C(a_handed_over_inflight_region_is_resubmitted, two_queues),
	C(addresses_that_come_again_find_nothing_in_flight, two_queues),
	C(a_region_that_comes_for_a_disabled_ring_stops_it, two_queues),
	C(load_is_right_in_eight_large_rings, eight_queues),
	C(fewer_queues_than_offered_work, eight_queues),
	ALONE(more_reads_than_an_io_ring_has_entries_are_resubmitted),
	ALONE(more_writes_than_an_io_ring_has_entries_are_resubmitted),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
