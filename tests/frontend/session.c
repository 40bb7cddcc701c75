/*
 * A vhost-user session in the steps that VMMs take.
 *
 * Runs in: test programs. Trusts: its caller; the back-end's answers are checked.
 */
#include "tests/frontend/session.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void fe_adopt(struct fe *fe, int fd)
{
	memset(fe, 0, sizeof(*fe));
	fe->fd = fd;
	fe->backreq = -1;
	fe->inflight.fd = -1;
	fe->log_fd = -1;
}

int fe_open(struct fe *fe, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, r;

	fe_adopt(fe, -1);
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	fe->fd = fd;
	return 0;
}

void fe_close(struct fe *fe)
{
	unsigned i;

	if (fe->fd >= 0)
		close(fe->fd);
	if (fe->backreq >= 0)
		close(fe->backreq);
	if (fe->inflight.map)
		munmap(fe->inflight.map, fe->inflight.desc.mmap_size);
	if (fe->inflight.fd >= 0)
		close(fe->inflight.fd);
	if (fe->log)
		munmap(fe->log, fe->log_len);
	if (fe->log_fd >= 0)
		close(fe->log_fd);
	for (i = 0; i < fe->n_queues; i++)
		fe_queue_done(&fe->queues[i]);
	fe_memory_done(&fe->mem);
	fe_adopt(fe, -1);
}

bool fe_gone(struct fe *fe)
{
	char c;

	return recv(fe->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0 ||
	       (errno != EAGAIN && errno != EWOULDBLOCK);
}

/* 0: the back-end has hung up within the time. What it said before is read and dropped. */
int fe_await_gone(struct fe *fe, int timeout_ms)
{
	struct pollfd p = { .fd = fe->fd, .events = POLLIN };
	char buf[512];
	ssize_t n;

	for (;;) {
		if (poll(&p, 1, timeout_ms) == 0)
			return -ETIMEDOUT;
		n = recv(fe->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return 0;
		if (n < 0 && errno != EAGAIN)
			return -errno;
	}
}

static int backreq_offer(struct fe *fe)
{
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	r = fe_do(fe, &(struct fe_out){
			      .request = FE_SET_BACKEND_REQ_FD, .fds = &pair[1], .n_fds = 1 });
	close(pair[1]);
	fe->backreq = pair[0];
	return r;
}

int fe_negotiate(struct fe *fe, const struct fe_spec *spec)
{
	const uint64_t known = FE_BIT(FE_PF_RARP) | FE_BIT(FE_PF_NET_MTU) | FE_BIT(FE_PF_MQ) |
			       FE_BIT(FE_PF_LOG_SHMFD) | FE_BIT(FE_PF_REPLY_ACK) |
			       FE_BIT(FE_PF_BACKEND_REQ) | FE_BIT(FE_PF_CONFIG) |
			       FE_BIT(FE_PF_INFLIGHT_SHMFD) | FE_BIT(FE_PF_RESET_DEVICE) |
			       FE_BIT(FE_PF_CONFIGURE_MEM_SLOTS) | FE_BIT(FE_PF_STATUS);
	int r;

	r = fe_do(fe, &(struct fe_out){ .request = FE_SET_OWNER });
	if (r == 0)
		r = fe_ask(fe, FE_GET_FEATURES, NULL, 0, &fe->offered);
	if (r == 0 && fe->offered & FE_F_PROTOCOL) {
		r = fe_ask(fe, FE_GET_PROTOCOL_FEATURES, NULL, 0, &fe->pf_offered);
		if (r == 0)
			r = fe_do_u64(fe, FE_SET_PROTOCOL_FEATURES,
				      fe->pf_offered & known & ~spec->pf_not, -1);
		fe->pf = fe->pf_offered & known & ~spec->pf_not;
	}
	fe->features = fe->offered & ~spec->features_not & FE_F_KNOWN;
	if (r == 0)
		r = fe_do_u64(fe, FE_SET_FEATURES, fe->features, -1);
	if (r == 0 && fe->pf & FE_BIT(FE_PF_BACKEND_REQ))
		r = backreq_offer(fe);
	return r;
}

int fe_slot_add(struct fe *fe, const struct fe_region *region)
{
	struct fe_mem_reg_wire wire = { .region = fe_memory_wire(region) };

	return fe_do(fe, &(struct fe_out){ .request = FE_ADD_MEM_REG,
					   .payload = &wire,
					   .len = sizeof(wire),
					   .fds = &region->fd,
					   .n_fds = 1 });
}

int fe_slot_remove(struct fe *fe, const struct fe_region *region)
{
	struct fe_mem_reg_wire wire = { .region = fe_memory_wire(region) };

	return fe_do(fe, &(struct fe_out){ .request = FE_REM_MEM_REG,
					   .payload = &wire,
					   .len = sizeof(wire) });
}

static int send_table(struct fe *fe)
{
	struct fe_mem_table_wire wire = { .n_regions = fe->mem.n_regions };
	int fds[8];
	unsigned i;

	if (fe->mem.n_regions > 8)
		return -E2BIG;
	for (i = 0; i < fe->mem.n_regions; i++) {
		wire.regions[i] = fe_memory_wire(&fe->mem.regions[i]);
		fds[i] = fe->mem.regions[i].fd;
	}
	return fe_do(fe, &(struct fe_out){ .request = FE_SET_MEM_TABLE,
					   .payload = &wire,
					   .len = 8 + 32 * fe->mem.n_regions,
					   .fds = fds,
					   .n_fds = fe->mem.n_regions });
}

int fe_send_memory(struct fe *fe, const struct fe_spec *spec)
{
	unsigned i;
	int r;

	if (!spec->slots || !(fe->pf & FE_BIT(FE_PF_CONFIGURE_MEM_SLOTS)))
		return send_table(fe);
	for (i = 0; i < fe->mem.n_regions; i++) {
		r = fe_slot_add(fe, &fe->mem.regions[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int send_addr(struct fe *fe, struct fe_queue *q, uint32_t flags)
{
	struct fe_vring_addr_wire addr = {
		.idx = q->idx,
		.flags = flags,
		.desc = fe_memory_user(&fe->mem, q->desc).v,
		.avail = fe_memory_user(&fe->mem, q->avail).v,
		.used = fe_memory_user(&fe->mem, q->used).v,
		.log = flags ? fe_memory_guest(&fe->mem, q->used).v : 0,
	};

	return fe_do(fe, &(struct fe_out){ .request = FE_SET_VRING_ADDR,
					   .payload = &addr,
					   .len = sizeof(addr) });
}

static int send_state(struct fe *fe, uint32_t request, unsigned idx, uint32_t num)
{
	struct fe_vring_state_wire state = { .idx = idx, .num = num };

	return fe_do(fe, &(struct fe_out){
				 .request = request, .payload = &state, .len = sizeof(state) });
}

/* The messages in QEMU's order; the ring starts with its kick descriptor. */
int fe_queue_start(struct fe *fe, struct fe_queue *q, uint16_t base)
{
	int r;

	r = send_state(fe, FE_SET_VRING_NUM, q->idx, q->size);
	if (r == 0)
		r = send_state(fe, FE_SET_VRING_BASE, q->idx, base);
	if (r == 0)
		r = send_addr(fe, q, 0);
	if (r == 0)
		r = fe_do_u64(fe, FE_SET_VRING_ERR, q->idx, q->err);
	if (r == 0)
		r = fe_do_u64(fe, FE_SET_VRING_CALL, q->idx, q->call);
	if (r == 0)
		r = fe_do_u64(fe, FE_SET_VRING_KICK, q->idx, q->kick);
	q->started = r == 0;
	return r;
}

int fe_queue_stop(struct fe *fe, struct fe_queue *q, uint16_t *ret_base)
{
	struct fe_vring_state_wire state = { .idx = q->idx };
	uint64_t reply;
	int r;

	r = fe_ask(fe, FE_GET_VRING_BASE, &state, sizeof(state), &reply);
	if (r < 0)
		return r;
	memcpy(&state, &reply, sizeof(state));
	if (state.idx != q->idx || state.num > UINT16_MAX)
		return -EBADMSG;
	q->started = false;
	*ret_base = (uint16_t)state.num;
	return 0;
}

int fe_queue_enable(struct fe *fe, struct fe_queue *q, bool on)
{
	return send_state(fe, FE_SET_VRING_ENABLE, q->idx, on);
}

int fe_get_config(struct fe *fe, uint32_t offset, uint32_t len, void *ret_bytes)
{
	struct fe_config_wire c = { .offset = offset, .size = len };
	struct fe_out out = { .request = FE_GET_CONFIG, .payload = &c, .len = 12 + len };
	uint32_t reply_len = sizeof(c);
	int r;

	r = fe_send(fe, &out, 0);
	if (r == 0)
		r = fe_recv(fe, FE_GET_CONFIG, &c, &reply_len, NULL);
	if (r < 0)
		return r;
	if (reply_len < 12 || c.size == 0)
		return -EREMOTEIO; /* the specification's way to refuse: a payload of length zero */
	if (reply_len != 12 + len || c.offset != offset || c.size != len)
		return -EBADMSG;
	memcpy(ret_bytes, c.bytes, len);
	return 0;
}

int fe_set_config(struct fe *fe, uint32_t offset, uint32_t len, const void *bytes)
{
	struct fe_config_wire c = { .offset = offset, .size = len };

	memcpy(c.bytes, bytes, len);
	return fe_do(fe,
		     &(struct fe_out){ .request = FE_SET_CONFIG, .payload = &c, .len = 12 + len });
}

int fe_inflight_get(struct fe *fe, uint16_t n_queues, uint16_t queue_size)
{
	struct fe_inflight_wire desc = { .n_queues = n_queues, .queue_size = queue_size };
	struct fe_out out = { .request = FE_GET_INFLIGHT_FD, .payload = &desc, .len = 20 };
	uint32_t len = sizeof(desc);
	int r, fd = -1;
	void *map;

	r = fe_send(fe, &out, 0);
	if (r == 0)
		r = fe_recv(fe, FE_GET_INFLIGHT_FD, &desc, &len, &fd);
	if (r < 0)
		return r;
	if ((len != 20 && len != sizeof(desc)) || fd < 0 || desc.mmap_size == 0)
		return -EBADMSG;
	map = mmap(NULL, desc.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   (off_t)desc.mmap_offset);
	if (map == MAP_FAILED)
		return -errno;
	fe->inflight.desc = desc;
	fe->inflight.desc.n_queues = n_queues;
	fe->inflight.desc.queue_size = queue_size;
	fe->inflight.fd = fd;
	fe->inflight.map = map;
	return 0;
}

int fe_inflight_set(struct fe *fe)
{
	return fe_do(fe, &(struct fe_out){ .request = FE_SET_INFLIGHT_FD,
					   .payload = &fe->inflight.desc,
					   .len = 20,
					   .fds = &fe->inflight.fd,
					   .n_fds = 1 });
}

/* A dirty bitmap for guest addresses up to @len × 8 pages, and F_LOG_ALL switched on. */
int fe_log_start(struct fe *fe, size_t len)
{
	struct fe_log_wire wire = { .size = len };
	struct fe_out out = { .request = FE_SET_LOG_BASE, .payload = &wire, .len = sizeof(wire) };
	struct fe_log_wire reply;
	uint32_t reply_len = sizeof(reply);
	int r;

	fe->log_fd = memfd_create("log", MFD_CLOEXEC);
	if (fe->log_fd < 0 || ftruncate(fe->log_fd, (off_t)len) < 0)
		return -errno;
	fe->log = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fe->log_fd, 0);
	fe->log_len = len;
	if (fe->log == MAP_FAILED) {
		fe->log = NULL;
		return -errno;
	}
	out.fds = &fe->log_fd;
	out.n_fds = 1;
	r = fe_send(fe, &out, 0);
	if (r == 0)
		r = fe_recv(fe, FE_SET_LOG_BASE, &reply, &reply_len, NULL);
	if (r == 0)
		r = fe_do_u64(fe, FE_SET_FEATURES, fe->features | FE_F_LOG_ALL, -1);
	if (r == 0)
		fe->features |= FE_F_LOG_ALL;
	return r;
}

int fe_log_vring(struct fe *fe, struct fe_queue *q, bool on)
{
	return send_addr(fe, q, on ? FE_VRING_F_LOG : 0);
}

static int queue_bring_up(struct fe *fe, const struct fe_spec *spec, unsigned i)
{
	struct fe_queue_spec queue = {
		.idx = i,
		.size = spec->queue_size ? spec->queue_size : 128,
		.event_idx = fe->features & FE_F_EVENT_IDX,
		.indirect = fe->features & FE_F_INDIRECT,
	};
	int r;

	r = fe_queue_init(&fe->queues[i], &fe->mem, &queue);
	if (r < 0)
		return r;
	fe->n_queues = i + 1;
	r = fe_queue_start(fe, &fe->queues[i], 0);
	if (r == 0 && fe->features & FE_F_PROTOCOL)
		r = fe_queue_enable(fe, &fe->queues[i], true);
	return r;
}

int fe_begin(struct fe *fe, const char *path, const struct fe_spec *spec)
{
	unsigned i, n = spec->n_queues ? spec->n_queues : 1;
	uint16_t size = spec->queue_size ? spec->queue_size : 128;
	int r;

	r = fe_open(fe, path);
	if (r == 0)
		r = fe_negotiate(fe, spec);
	if (r == 0 && spec->inflight && fe->pf & FE_BIT(FE_PF_INFLIGHT_SHMFD)) {
		r = fe_inflight_get(fe, (uint16_t)n, size);
		if (r == 0)
			r = fe_inflight_set(fe);
	}
	if (r == 0)
		r = fe_memory_init(&fe->mem, &spec->memory);
	if (r == 0)
		r = fe_send_memory(fe, spec);
	for (i = 0; r == 0 && i < n; i++)
		r = queue_bring_up(fe, spec, i);
	return r;
}
