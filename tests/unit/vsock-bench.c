/* See vsock-bench.h. */
#include "tests/unit/vsock-bench.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/wire.h"
#include "devices/process/thread.h"
#include "devices/vhost/image.h"

#define NEEDED(condition)                                                                          \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "vsock-bench: %s\n", #condition);                          \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

enum {
	RING_LEN = 0x4000,
	AVAIL = 0x1000,
	USED = 0x2000,
	RX_AT = 0x10000,
	TX_AT = RX_AT + BENCH_SIZE * BENCH_RX_LEN,
	EVENT_AT = TX_AT + BENCH_SIZE * BENCH_TX_LEN,
	FAULT_AT = EVENT_AT + 0x1000,
	RAM_LEN = FAULT_AT + 0x1000,
};

static struct {
	struct store *store;
	struct vsock *v;
	bool fresh;
	struct thread thread;
	struct state_thread shared;
	struct vring rings[CONTRACT_VSOCK_QUEUES];
	uint8_t suspicion[CONTRACT_VSOCK_QUEUES][QUEUE_MAX_SIZE];
	uint64_t went_aside[CONTRACT_VSOCK_QUEUES][QUEUE_MAX_SIZE / 64];
	struct inflight_region *inflight[CONTRACT_VSOCK_QUEUES];
	struct memory memory;
	uint8_t *ram;
	uint16_t used_seen[CONTRACT_VSOCK_QUEUES];
	bool tx_busy[BENCH_SIZE];
	int broker;
	struct sockaddr_un names[2];
} b;

struct store *bench_store(void)
{
	return b.store;
}

struct vsock *bench_vsock(void)
{
	return b.v;
}

int bench_broker(void)
{
	return b.broker;
}

/* Set-up */

static struct ring_desc *desc_at(unsigned ring, uint16_t i)
{
	return (struct ring_desc *)(void *)(b.ram + ring * RING_LEN) + i;
}

static struct ring_avail *avail_of(unsigned ring)
{
	return (void *)(b.ram + ring * RING_LEN + AVAIL);
}

static struct ring_used *used_of(unsigned ring)
{
	return (void *)(b.ram + ring * RING_LEN + USED);
}

struct ring_desc *bench_desc(unsigned ring, uint16_t head)
{
	return desc_at(ring, head);
}

static void offer(unsigned ring, uint16_t head)
{
	struct ring_avail *a = avail_of(ring);

	a->ring[a->idx % BENCH_SIZE] = head;
	a->idx++;
}

static void listen_at(unsigned which, int number)
{
	struct sockaddr_un *name = &b.names[which];
	socklen_t len = sizeof(*name);
	int fd = socket(AF_UNIX, (which ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_NONBLOCK, 0);

	name->sun_family = AF_UNIX;
	/* A name of the kernel's choice. */
	NEEDED(fd >= 0 && bind(fd, (struct sockaddr *)name, sizeof(sa_family_t)) == 0);
	NEEDED(listen(fd, 64) == 0 && getsockname(fd, (struct sockaddr *)name, &len) == 0);
	NEEDED(fd_move(fd, number, false) == number);
}

static void open_channel(void)
{
	int pair[2];

	if (b.broker > 0)
		close(b.broker);
	NEEDED(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
	b.broker = fcntl(pair[0], F_DUPFD, 1000);
	close(pair[0]);
	NEEDED(b.broker >= 0 && fd_move(pair[1], CONTRACT_FD_VSOCK_BROKER, false) >= 0);
}

static void set_up(void)
{
	int fd = fd_open_memfd("store", sizeof(struct store), 0);

	NEEDED(fd >= 0);
	b.store = mmap(NULL, sizeof(struct store), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_NORESERVE, fd, 0);
	NEEDED(b.store != MAP_FAILED);
	close(fd);
	fd = fd_open_memfd("ram", RAM_LEN, 0);
	NEEDED(fd >= 0 && memory_add(&b.memory, (struct guest_addr){ 0 }, (struct user_addr){ 0 },
				     RAM_LEN, 0, fd) == MEMORY_OK);
	close(fd);
	b.ram = memory_at(&b.memory, (struct guest_addr){ 0 }, RAM_LEN);
	for (int i = 3; i < CONTRACT_FD_SESSION; i++)
		if (fcntl(i, F_GETFD) < 0)
			NEEDED(dup2(0, i) == i);
	listen_at(0, CONTRACT_FD_VSOCK_STREAM);
	listen_at(1, CONTRACT_FD_VSOCK_SEQPACKET);
	for (unsigned i = 0; i < CONTRACT_VSOCK_QUEUES; i++) {
		b.inflight[i] = calloc(1, inflight_queue_len(BENCH_SIZE));
		NEEDED(b.inflight[i]);
	}
}

static void close_session(void)
{
	for (int fd = CONTRACT_FD_SESSION; fd < 256; fd++)
		close(fd);
	for (uint32_t i = 0; i < b.store->n_conns && i < STORE_CONNS; i++)
		if (b.store->conns[i].buffered)
			madvise(b.store->buffers[i], STORE_BUFFER_LEN, MADV_REMOVE);
	memset(b.store->conns, 0, b.store->n_conns * sizeof(b.store->conns[0]));
	memset(b.store, 0, offsetof(struct store, conns));
}

static void fill_rings(uint16_t used_idx)
{
	memset(b.ram, 0, RAM_LEN);
	memset(b.tx_busy, 0, sizeof(b.tx_busy));
	for (unsigned i = 0; i < CONTRACT_VSOCK_QUEUES; i++) {
		memset(b.inflight[i], 0, inflight_queue_len(BENCH_SIZE));
		memset(b.suspicion[i], 0, sizeof(b.suspicion[i]));
		b.used_seen[i] = avail_of(i)->idx = used_of(i)->idx = used_idx;
	}
	for (uint16_t i = 0; i < BENCH_SIZE; i++) {
		*desc_at(VSOCK_RX, i) = (struct ring_desc){ .addr = RX_AT + i * BENCH_RX_LEN,
							    .len = BENCH_RX_LEN,
							    .flags = RING_DESC_F_WRITE };
		offer(VSOCK_RX, i);
	}
}

bool bench_session(uint16_t used_idx)
{
	if (!b.ram)
		set_up();
	close_session();
	open_channel();
	fill_rings(used_idx);
	b.v = NULL;
	b.fresh = true;
	return bench_begin();
}

static void attach(unsigned i)
{
	struct vring *r = &b.rings[i];
	const struct queue_spec spec = { .size = BENCH_SIZE,
					 .desc = { i * RING_LEN },
					 .avail = { i * RING_LEN + AVAIL },
					 .used = { i * RING_LEN + USED },
					 .indirect = true,
					 .base = used_of(i)->idx };

	memset(r, 0, sizeof(*r));
	*r = (struct vring){ .index = i,
			     .attached = true,
			     .enabled = true,
			     .kick = -1,
			     .call = -1,
			     .err = -1,
			     .suspicion = b.suspicion[i],
			     .went_aside = b.went_aside[i],
			     .thread = &b.thread };
	NEEDED(queue_start(&r->queue, &b.memory, &spec, b.inflight[i], r->resubmit,
			   &r->n_resubmit) == QUEUE_OK);
	r->n_inflight = r->n_resubmit;
	b.thread.n_inflight += r->n_resubmit;
	b.thread.vrings[b.thread.n_vrings++] = r;
	b.v->model.ops->ring_attached(&b.v->model.device, &b.thread, r);
}

static void end_worker(void)
{
	if (!b.v)
		return;
	close(b.thread.epoll);
}

static void resubmit(struct vring *r)
{
	const struct model_ops *ops = b.v->model.ops;

	while (r->n_resubmitted < r->n_resubmit) {
		uint16_t head = r->resubmit[r->n_resubmitted++].head;

		if (!queue_is_taken(&r->queue, head))
			continue;
		if (r->suspicion[head] < 3)
			ops->resubmit(&b.v->model.device, &b.thread, r, head);
		else
			ops->poison(&b.v->model.device, &b.thread, r, head);
	}
}

bool bench_begin(void)
{
	struct vsock_config config = { .cid = BENCH_CID, .guest_ports = { .all = true } };
	const struct options o = { .queues = CONTRACT_VSOCK_QUEUES, .queue_size = BENCH_SIZE };
	const struct image im = { .features = ~UINT64_C(0) };
	const struct model_ops *ops;

	end_worker();
	b.v = (struct vsock *)(void *)vsock_create(&config, &o);
	memset(b.v, 0, sizeof(*b.v));
	NEEDED((struct vsock *)(void *)vsock_create(&config, &o) == b.v);
	b.v->rate.burst = 0;
	ops = b.v->model.ops;
	memset(&b.thread, 0, sizeof(b.thread));
	memset(&b.shared, 0, sizeof(b.shared));
	b.thread = (struct thread){ .model = &b.v->model, .shared = &b.shared };
	/* Above what a connection's socket may have, so that those have the same numbers in each worker. */
	b.thread.epoll = epoll_create1(EPOLL_CLOEXEC);
	NEEDED(ops->thread_init(&b.v->model.device, &b.thread) == 0);
	if (ops->attach(&b.v->model.device, b.store) < 0) {
		close(b.thread.epoll);
		b.v = NULL;
		return false;
	}
	NEEDED(ops->thread_open(&b.v->model.device, &b.thread) == 0);
	ops->configure(&b.v->model.device, &im);
	/* In a new session a worker begins without rings, and is told of them later. */
	if (b.fresh)
		ops->configure(&b.v->model.device, &im);
	b.fresh = false;
	for (unsigned i = 0; i < CONTRACT_VSOCK_QUEUES; i++)
		attach(i);
	for (unsigned i = 0; i < CONTRACT_VSOCK_QUEUES; i++)
		resubmit(&b.rings[i]);
	return true;
}

/* The thread */

void bench_half_turn(void)
{
	thread_look(&b.thread);
	for (unsigned i = 0; i < CONTRACT_VSOCK_QUEUES; i++)
		if (!b.rings[i].queue.broken)
			b.v->model.ops->take(&b.v->model.device, &b.thread, &b.rings[i]);
}

void bench_turn(void)
{
	/* What one has brought about, the next sees to. */
	for (unsigned n = 0; n < 4; n++) {
		bench_half_turn();
		thread_publish(&b.thread);
	}
}

void bench_pop(unsigned ring, unsigned n)
{
	struct vring *r = &b.rings[ring];
	struct iovec iov[16];

	for (; n > 0; n--) {
		struct chain c = { .iov = iov, .iov_max = 16 };

		NEEDED(queue_pop(&r->queue, &c) == QUEUE_OK);
		thread_taken(&b.thread, r);
	}
}

void bench_suspect(uint16_t head, uint8_t n_deaths)
{
	b.suspicion[VSOCK_TX][head] = n_deaths;
}

static sigjmp_buf fault;

static void on_fault(int signo)
{
	siglongjmp(fault, 1);
}

uint32_t bench_fault(void)
{
	struct sigaction sa = { .sa_handler = on_fault }, before;
	bool faulted = true;

	NEEDED(mprotect(b.ram + FAULT_AT, 0x1000, PROT_NONE) == 0);
	sigaction(SIGSEGV, &sa, &before);
	if (sigsetjmp(fault, 1) == 0) {
		bench_turn();
		faulted = false;
	}
	sigaction(SIGSEGV, &before, NULL);
	NEEDED(mprotect(b.ram + FAULT_AT, 0x1000, PROT_READ | PROT_WRITE) == 0);
	NEEDED(faulted);
	return b.shared.suspect;
}

/* The driver */

struct virtio_vsock_hdr bench_header(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	return (struct virtio_vsock_hdr){ .src_cid = BENCH_CID,
					  .dst_cid = 2,
					  .src_port = guest_port,
					  .dst_port = host_port,
					  .type = VIRTIO_VSOCK_TYPE_STREAM,
					  .op = op,
					  .buf_alloc = 1 << 18 };
}

static void take_tx_back(void)
{
	while (b.used_seen[VSOCK_TX] != used_of(VSOCK_TX)->idx)
		b.tx_busy[used_of(VSOCK_TX)->ring[b.used_seen[VSOCK_TX]++ % BENCH_SIZE].id %
			  BENCH_SIZE] = false;
}

int bench_send(const struct virtio_vsock_hdr *h, const void *payload, uint32_t len)
{
	uint16_t i = 0;

	take_tx_back();
	while (i < BENCH_SIZE && b.tx_busy[i])
		i++;
	if (i == BENCH_SIZE)
		return -1;
	NEEDED(sizeof(*h) + len <= BENCH_TX_LEN);
	b.tx_busy[i] = true;
	memcpy(b.ram + TX_AT + i * BENCH_TX_LEN, h, sizeof(*h));
	if (len > 0)
		memcpy(b.ram + TX_AT + i * BENCH_TX_LEN + sizeof(*h), payload, len);
	*desc_at(VSOCK_TX, i) = (struct ring_desc){ .addr = TX_AT + i * BENCH_TX_LEN,
						    .len = (uint32_t)sizeof(*h) + len };
	offer(VSOCK_TX, i);
	return i;
}

int bench_send_faulty(const struct virtio_vsock_hdr *h, uint32_t len)
{
	int head = bench_send(h, NULL, 0);
	struct ring_desc *d = desc_at(VSOCK_TX, (uint16_t)head);

	NEEDED(head >= 0 && head + 1 < BENCH_SIZE && !b.tx_busy[head + 1]);
	b.tx_busy[head + 1] = true; /* for good */
	d->flags = RING_DESC_F_NEXT;
	d->next = (uint16_t)(head + 1);
	d[1] = (struct ring_desc){ .addr = FAULT_AT, .len = len };
	return head;
}

bool bench_receive(struct virtio_vsock_hdr *ret, uint8_t payload[BENCH_RX_LEN])
{
	const struct ring_used *u = used_of(VSOCK_RX);
	uint16_t head;

	if (b.used_seen[VSOCK_RX] == u->idx)
		return false;
	head = (uint16_t)u->ring[b.used_seen[VSOCK_RX] % BENCH_SIZE].id;
	NEEDED(head < BENCH_SIZE);
	b.used_seen[VSOCK_RX]++;
	memcpy(ret, b.ram + RX_AT + head * BENCH_RX_LEN, sizeof(*ret));
	memcpy(payload, b.ram + RX_AT + head * BENCH_RX_LEN + sizeof(*ret),
	       BENCH_RX_LEN - sizeof(*ret));
	offer(VSOCK_RX, head);
	return true;
}

void bench_post_event(void)
{
	*desc_at(VSOCK_EVENT, 0) = (struct ring_desc){ .addr = EVENT_AT,
						       .len = sizeof(struct virtio_vsock_event),
						       .flags = RING_DESC_F_WRITE };
	memset(b.ram + EVENT_AT, 0xff, sizeof(struct virtio_vsock_event));
	offer(VSOCK_EVENT, 0);
}

bool bench_event(uint32_t *ret_id)
{
	if (b.used_seen[VSOCK_EVENT] == used_of(VSOCK_EVENT)->idx)
		return false;
	b.used_seen[VSOCK_EVENT]++;
	memcpy(ret_id, b.ram + EVENT_AT, sizeof(*ret_id));
	return true;
}

/* vmdevd */

bool bench_asked(uint64_t *ret_serial)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	ssize_t len = recv(b.broker, buf, sizeof(buf), MSG_DONTWAIT);
	struct wire_reader r;

	if (len <= 0)
		return false;
	r = wire_reader(buf, (size_t)len);
	NEEDED(wire_get_u32(&r) == CONTRACT_VSOCK_ASK);
	*ret_serial = wire_get_u64(&r);
	return true;
}

static void send_letter(struct wire_writer *w, const uint8_t *buf, int fd)
{
	struct iovec iov = { (void *)(uintptr_t)buf, wire_len(w) };
	_Alignas(8) uint8_t control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c = (void *)control;

	if (fd >= 0) {
		m.msg_control = control;
		m.msg_controllen = sizeof(control);
		*c = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	NEEDED(sendmsg(b.broker, &m, MSG_DONTWAIT | MSG_NOSIGNAL) > 0 || errno == EAGAIN);
}

void bench_answer(uint64_t serial, uint32_t error, int fd)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	struct wire_writer w = wire_writer(buf, sizeof(buf));

	wire_put_u32(&w, CONTRACT_VSOCK_ANSWER);
	wire_put_u64(&w, serial);
	wire_put_u32(&w, error);
	wire_put_u32(&w, 0);
	send_letter(&w, buf, fd);
}

void bench_incoming(uint64_t cid, uint32_t port, uint32_t guest_port, int fd)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	struct wire_writer w = wire_writer(buf, sizeof(buf));

	wire_put_u32(&w, CONTRACT_VSOCK_INCOMING);
	wire_put_u64(&w, cid);
	wire_put_u32(&w, port);
	wire_put_u32(&w, guest_port);
	wire_put_u32(&w, VIRTIO_VSOCK_TYPE_STREAM);
	send_letter(&w, buf, fd);
}

/* Connections */

int bench_open(uint32_t guest_port, uint16_t type)
{
	struct virtio_vsock_hdr h =
		bench_header(VIRTIO_VSOCK_OP_REQUEST, guest_port, BENCH_HOST_PORT);
	uint8_t payload[BENCH_RX_LEN];
	uint64_t serial;
	int pair[2], host;

	h.type = type;
	NEEDED(bench_send(&h, NULL, 0) >= 0);
	bench_turn();
	NEEDED(bench_asked(&serial));
	NEEDED(socketpair(AF_UNIX,
			  (type == VIRTIO_VSOCK_TYPE_SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM) |
				  SOCK_NONBLOCK,
			  0, pair) == 0);
	host = fcntl(pair[0], F_DUPFD, 1000);
	bench_answer(serial, 0, pair[1]);
	close(pair[0]);
	close(pair[1]);
	bench_turn();
	NEEDED(bench_receive(&h, payload) && h.op == VIRTIO_VSOCK_OP_RESPONSE);
	return host;
}

int bench_connect(bool seqpacket)
{
	int fd = socket(AF_UNIX, (seqpacket ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_NONBLOCK, 0);
	int host = fcntl(fd, F_DUPFD, 1000);
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 6);

	close(fd);
	NEEDED(connect(host, (struct sockaddr *)&b.names[seqpacket], len) == 0);
	return host;
}
