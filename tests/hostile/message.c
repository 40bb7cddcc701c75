/*
 * Attacks by messages: sizes, numbers, descriptors, order, floods.
 *
 * Runs in: frontend-hostile. Trusts: nothing.
 */
#include "tests/hostile/attack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static int send_header(struct fe *fe, uint32_t request, uint32_t flags, uint32_t size)
{
	struct fe_header h = { .request = request, .flags = flags, .size = size };

	return fe_send_raw(fe, &h, sizeof(h), NULL, 0);
}

static int wrong_version(struct fe *fe, unsigned round)
{
	return send_header(fe, FE_GET_FEATURES, round % 2 ? 0 : 2, 0);
}

static int reply_flag_in_a_request(struct fe *fe, unsigned round)
{
	return send_header(fe, FE_GET_FEATURES, FE_FLAG_VERSION | FE_FLAG_REPLY, 0);
}

static int unknown_flags(struct fe *fe, unsigned round)
{
	return send_header(fe, FE_GET_FEATURES, FE_FLAG_VERSION | 0xfffffff0u, 0);
}

static int huge_payload_announced(struct fe *fe, unsigned round)
{
	static const uint32_t sizes[] = { UINT32_MAX, 0x80000000u, 1u << 20, 65536 };

	return send_header(fe, FE_SET_MEM_TABLE, FE_FLAG_VERSION, sizes[round % 4]);
}

static int unknown_request(struct fe *fe, unsigned round)
{
	static const uint32_t requests[] = { 0, 44, 99, 4711, 0x80000001u, UINT32_MAX };

	return send_header(fe, requests[round % 6], FE_FLAG_VERSION, 0);
}

static int request_of_another_device_type(struct fe *fe, unsigned round)
{
	static const uint32_t requests[] = { 19, 20, 22, 26, 28, 29, 30, 33, 41 };
	uint64_t v = 0;
	struct fe_out out = { .request = requests[round % 9], .payload = &v, .len = sizeof(v) };

	return fe_send(fe, &out, FE_FLAG_NEED_REPLY);
}

/* Every request with payloads that are one too short, one too long, none, and a page. */
static int wrong_size(struct fe *fe, unsigned round)
{
	static const struct {
		uint32_t request, size;
	} known[] = {
		{ FE_GET_FEATURES, 0 },
		{ FE_SET_FEATURES, 8 },
		{ FE_SET_OWNER, 0 },
		{ FE_SET_MEM_TABLE, 40 },
		{ FE_SET_LOG_BASE, 16 },
		{ FE_SET_LOG_FD, 0 },
		{ FE_SET_VRING_NUM, 8 },
		{ FE_SET_VRING_ADDR, 40 },
		{ FE_SET_VRING_BASE, 8 },
		{ FE_GET_VRING_BASE, 8 },
		{ FE_SET_VRING_KICK, 8 },
		{ FE_SET_VRING_CALL, 8 },
		{ FE_SET_VRING_ERR, 8 },
		{ FE_GET_PROTOCOL_FEATURES, 0 },
		{ FE_SET_PROTOCOL_FEATURES, 8 },
		{ FE_GET_QUEUE_NUM, 0 },
		{ FE_SET_VRING_ENABLE, 8 },
		{ FE_GET_CONFIG, 12 + 8 },
		{ FE_SET_CONFIG, 12 + 1 },
		{ FE_GET_INFLIGHT_FD, 20 },
		{ FE_SET_INFLIGHT_FD, 20 },
		{ FE_RESET_DEVICE, 0 },
		{ FE_GET_MAX_MEM_SLOTS, 0 },
		{ FE_ADD_MEM_REG, 40 },
		{ FE_REM_MEM_REG, 40 },
		{ FE_SET_STATUS, 8 },
		{ FE_GET_STATUS, 0 },
	};
	static const int deltas[] = { -1, 1, 9, 4096 };
	unsigned n = sizeof(known) / sizeof(*known), which = round % n;
	int delta = deltas[round / n % 4];
	uint8_t payload[FE_MAX_PAYLOAD] = {};
	struct fe_out out = { .request = known[which].request, .payload = payload };

	if (known[which].request == FE_SET_MEM_TABLE)
		payload[0] = 1; /* one region */
	if (known[which].request == FE_GET_CONFIG || known[which].request == FE_SET_CONFIG)
		payload[4] = (uint8_t)(known[which].size -
				       12); /* the length that its bytes should have */
	if (known[which].size == 0 && delta < 0)
		delta = 1;
	out.len = delta == 4096 ? 4096 : known[which].size + (uint32_t)delta;
	return fe_send(fe, &out, FE_FLAG_NEED_REPLY);
}

static int half_a_header(struct fe *fe, unsigned round)
{
	struct fe_header h = { .request = FE_GET_FEATURES, .flags = FE_FLAG_VERSION };

	fe_send_raw(fe, &h, 1 + round % 11, NULL, 0);
	return 0;
}

static int half_a_payload(struct fe *fe, unsigned round)
{
	struct {
		struct fe_header h;
		uint8_t payload[40];
	} m = { .h = { .request = FE_SET_VRING_ADDR, .flags = FE_FLAG_VERSION, .size = 40 } };

	return fe_send_raw(fe, &m, sizeof(m.h) + round % 40, NULL, 0);
}

/* Not an attack if it is answered: whoever reads a stream has to bear pieces. */
static int one_byte_at_a_time(struct fe *fe, unsigned round)
{
	struct fe_header h = { .request = FE_GET_FEATURES, .flags = FE_FLAG_VERSION };
	uint64_t features;
	uint32_t len = 8;
	unsigned i;
	int r = 0;

	for (i = 0; r == 0 && i < sizeof(h); i++) {
		r = fe_send_raw(fe, (uint8_t *)&h + i, 1, NULL, 0);
		if (round % 4 == 0)
			usleep(200);
	}
	if (r == 0)
		r = fe_recv(fe, FE_GET_FEATURES, &features, &len, NULL);
	if (r < 0 || len != 8)
		return -EPROTO; /* not what "no harm" means here */
	return 0;
}

static int descriptors_nobody_asked_for(struct fe *fe, unsigned round)
{
	static const uint32_t requests[] = { FE_GET_FEATURES, FE_SET_OWNER, FE_GET_QUEUE_NUM,
					     FE_RESET_DEVICE };
	int fds[8], i, r;

	for (i = 0; i < 8; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	r = fe_send(fe,
		    &(struct fe_out){
			    .request = requests[round % 4], .fds = fds, .n_fds = 1 + round % 8 },
		    0);
	for (i = 0; i < 8; i++)
		close(fds[i]);
	return r;
}

static int hundreds_of_descriptors(struct fe *fe, unsigned round)
{
	struct fe_header h = { .request = FE_SET_VRING_KICK, .flags = FE_FLAG_VERSION, .size = 8 };
	uint64_t v = 0;
	int fds[64], i, r;

	for (i = 0; i < 64; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	/* The descriptors come piecewise, with the bytes of one message. */
	r = fe_send_raw(fe, &h, 4, fds, 64);
	if (r == 0)
		r = fe_send_raw(fe, (uint8_t *)&h + 4, 8, fds, 64);
	if (r == 0)
		r = fe_send_raw(fe, &v, 8, fds, 64);
	for (i = 0; i < 64; i++)
		close(fds[i]);
	return r;
}

static int too_few_descriptors(struct fe *fe, unsigned round)
{
	static const uint32_t requests[] = { FE_SET_VRING_KICK, FE_SET_VRING_CALL,
					     FE_SET_VRING_ERR };
	struct fe_mem_reg_wire reg = { .region = { .guest = 0, .size = 4096, .user = 4096 } };
	struct fe_inflight_wire inflight = { .mmap_size = 4096, .n_queues = 1, .queue_size = 128 };

	if (round % 5 == 3)
		return fe_do(fe, &(struct fe_out){ .request = FE_ADD_MEM_REG,
						   .payload = &reg,
						   .len = sizeof(reg) });
	if (round % 5 == 4)
		return fe_do(fe, &(struct fe_out){ .request = FE_SET_INFLIGHT_FD,
						   .payload = &inflight,
						   .len = 20 });
	return fe_do_u64(fe, requests[round % 5], 0, -1);
}

static int two_kick_descriptors(struct fe *fe, unsigned round)
{
	uint64_t v = 0;
	int fds[2] = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) }, r;

	r = fe_do(fe, &(struct fe_out){ .request = FE_SET_VRING_KICK,
					.payload = &v,
					.len = 8,
					.fds = fds,
					.n_fds = 2 });
	close(fds[0]);
	close(fds[1]);
	return r;
}

/* A file, a directory, a pipe, a device, an epoll, a socket in place of an eventfd or a memfd. */
static int odd_descriptor(unsigned round)
{
	int pair[2] = { -1, -1 };

	switch (round % 6) {
	case 0:
		return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	case 1:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case 2:
		return pipe2(pair, O_CLOEXEC) == 0 ? (close(pair[1]), pair[0]) : -1;
	case 3:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case 4:
		return epoll_create1(EPOLL_CLOEXEC);
	default:
		return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	}
}

static int odd_ring_descriptors(struct fe *fe, unsigned round)
{
	static const uint32_t requests[] = { FE_SET_VRING_KICK, FE_SET_VRING_CALL,
					     FE_SET_VRING_ERR };
	struct fe_blk b;
	int fd = odd_descriptor(round), r;

	r = fe_do_u64(fe, requests[round / 6 % 3], 0, fd);
	close(fd);
	if (r == 0) {
		fe_blk_init(&b, &fe->mem);
		fe_blk_add(&fe->queues[0], &b, &(struct fe_blk_op){ .type = VIRTIO_BLK_T_FLUSH });
		fe_queue_publish(&fe->queues[0]);
		fe_queue_kick_always(&fe->queues[0]);
		usleep(2000);
	}
	return r;
}

/* Open with flags that a back-end's filter does not let it hand back: it wants no write to wait. */
static int signal_descriptors_with_flags(struct fe *fe, unsigned round)
{
	int ends[2] = { -1, -1 }, r = pipe2(ends, O_CLOEXEC | O_DIRECT);
	int fds[] = { ends[1], open("/", O_PATH | O_CLOEXEC),
		      open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		      open("/dev/null", O_WRONLY | O_APPEND | O_CLOEXEC) };
	unsigned i, n = sizeof(fds) / sizeof(*fds);

	for (i = 0; r == 0 && i < n; i++)
		r = fe_do_u64(fe, round % 2 ? FE_SET_VRING_ERR : FE_SET_VRING_CALL, 0, fds[i]);
	for (i = 0; i < n; i++)
		close(fds[i]);
	close(ends[0]);
	return r;
}

static int odd_memory_descriptors(struct fe *fe, unsigned round)
{
	struct fe_mem_reg_wire reg = {
		.region = { .guest = UINT64_C(1) << 40, .size = 4096, .user = UINT64_C(1) << 40 }
	};
	struct fe_inflight_wire inflight = { .mmap_size = 4096, .n_queues = 1, .queue_size = 128 };
	struct fe_log_wire log = { .size = 4096 };
	struct fe_out out = { .n_fds = 1 };
	int fd = odd_descriptor(round), r;

	out.fds = &fd;
	if (round / 6 % 3 == 0) {
		out.request = FE_ADD_MEM_REG;
		out.payload = &reg;
		out.len = sizeof(reg);
	} else if (round / 6 % 3 == 1) {
		out.request = FE_SET_INFLIGHT_FD;
		out.payload = &inflight;
		out.len = 20;
	} else {
		out.request = FE_SET_LOG_BASE;
		out.payload = &log;
		out.len = sizeof(log);
	}
	r = out.request == FE_SET_LOG_BASE ? fe_send(fe, &out, 0) : fe_do(fe, &out);
	close(fd);
	return r;
}

static int odd_backend_request_channel(struct fe *fe, unsigned round)
{
	int fd = odd_descriptor(round), r;

	r = fe_do(fe, &(struct fe_out){ .request = FE_SET_BACKEND_REQ_FD, .fds = &fd, .n_fds = 1 });
	close(fd);
	return r;
}

static int features_never_offered(struct fe *fe, unsigned round)
{
	return fe_do_u64(fe, round % 2 ? FE_SET_FEATURES : FE_SET_PROTOCOL_FEATURES, UINT64_MAX,
			 -1);
}

static int vring_number_out_of_range(struct fe *fe, unsigned round)
{
	static const uint32_t requests[] = { FE_SET_VRING_NUM, FE_SET_VRING_BASE,
					     FE_SET_VRING_ENABLE, FE_GET_VRING_BASE };
	static const uint32_t numbers[] = { 64, 255, 256, 0x10000, 0x80000000u, UINT32_MAX };
	struct fe_vring_state_wire state = { .idx = numbers[round / 4 % 6], .num = 1 };

	return fe_do(fe, &(struct fe_out){ .request = requests[round % 4],
					   .payload = &state,
					   .len = sizeof(state) });
}

static int vring_descriptor_number_out_of_range(struct fe *fe, unsigned round)
{
	static const uint32_t requests[] = { FE_SET_VRING_KICK, FE_SET_VRING_CALL,
					     FE_SET_VRING_ERR };
	static const uint64_t numbers[] = { 200, 255, 0x200, UINT64_C(1) << 40, UINT64_MAX };
	int fd = eventfd(0, EFD_CLOEXEC), r;

	r = fe_do_u64(fe, requests[round % 3], numbers[round / 3 % 5], fd);
	close(fd);
	return r;
}

static int vring_size_unusable(struct fe *fe, unsigned round)
{
	static const uint32_t sizes[] = { 0, 3, 100, 32769, 65536, 0x80000000u, UINT32_MAX };
	struct fe_vring_state_wire state = { .idx = 1, .num = sizes[round % 7] };

	return fe_do(fe, &(struct fe_out){ .request = FE_SET_VRING_NUM,
					   .payload = &state,
					   .len = sizeof(state) });
}

static int vring_base_unusable(struct fe *fe, unsigned round)
{
	struct fe_vring_state_wire state = { .idx = 1, .num = round % 2 ? 65536 : UINT32_MAX };

	return fe_do(fe, &(struct fe_out){ .request = FE_SET_VRING_BASE,
					   .payload = &state,
					   .len = sizeof(state) });
}

static int kick_before_everything(struct fe *fe, unsigned round)
{
	int fd = eventfd(1, EFD_CLOEXEC), r;

	r = fe_do_u64(fe, FE_SET_VRING_KICK, 0, fd);
	close(fd);
	return r;
}

static int vring_address_before_memory(struct fe *fe, unsigned round)
{
	struct fe_vring_addr_wire addr = { .desc = 0x1000, .avail = 0x2000, .used = 0x3000 };

	return fe_do(fe, &(struct fe_out){ .request = FE_SET_VRING_ADDR,
					   .payload = &addr,
					   .len = sizeof(addr) });
}

static int config_out_of_range(struct fe *fe, unsigned round)
{
	static const struct {
		uint32_t offset, size;
	} bad[] = { { UINT32_MAX, 1 },
		    { 0, UINT32_MAX },
		    { UINT32_MAX - 3, 8 },
		    { 60, 200 },
		    { 4096, 8 } };
	struct fe_config_wire c = { .offset = bad[round % 5].offset, .size = bad[round % 5].size };
	uint32_t len = sizeof(c);
	int r;

	r = fe_send(fe,
		    &(struct fe_out){
			    .request = FE_GET_CONFIG, .payload = &c, .len = 12 + c.size % 256 },
		    0);
	if (r == 0)
		r = fe_recv(fe, FE_GET_CONFIG, &c, &len, NULL);
	if (r == 0 && (len < 12 + 1 || c.size == 0))
		return -EREMOTEIO;
	return r;
}

static int inflight_region_of_impossible_size(struct fe *fe, unsigned round)
{
	struct fe_inflight_wire bad[] = {
		{ .n_queues = 65535, .queue_size = 65535 }, { .n_queues = 0, .queue_size = 128 },
		{ .n_queues = 1, .queue_size = 0 },	    { .n_queues = 65, .queue_size = 128 },
		{ .n_queues = 1, .queue_size = 32769 },
	};
	uint32_t len = sizeof(bad[0]);
	int r, fd = -1;

	r = fe_send(fe,
		    &(struct fe_out){
			    .request = FE_GET_INFLIGHT_FD, .payload = &bad[round % 5], .len = 20 },
		    0);
	if (r == 0)
		r = fe_recv(fe, FE_GET_INFLIGHT_FD, &bad[round % 5], &len, &fd);
	if (r == 0 && fd < 0)
		r = -EREMOTEIO;
	if (fd >= 0)
		close(fd);
	return r;
}

/* Questions without an end, and nobody reads the answers. */
static int flood_without_reading(struct fe *fe, unsigned round)
{
	struct fe_header h[64];
	struct timeval soon = { .tv_usec = 20000 };
	unsigned i;

	for (i = 0; i < 64; i++)
		h[i] = (struct fe_header){ .request = FE_GET_FEATURES, .flags = FE_FLAG_VERSION };
	setsockopt(fe->fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
	for (i = 0; i < 1000; i++)
		if (fe_send_raw(fe, h, sizeof(h), NULL, 0) < 0)
			break;
	return 0;
}

static int flood_of_ring_changes(struct fe *fe, unsigned round)
{
	unsigned i;
	int r = 0;

	for (i = 0; r == 0 && i < 50; i++) {
		r = fe_do_u64(fe, FE_SET_VRING_CALL, 0, fe->queues[0].call);
		if (r == 0)
			r = fe_do_u64(fe, FE_SET_VRING_KICK, 0, fe->queues[0].kick);
		if (r == 0)
			r = fe_queue_enable(fe, &fe->queues[0], i % 2);
	}
	return r;
}

static int connect_and_leave(struct fe *fe, unsigned round)
{
	return 0;
}

#define ROW(name, stage, outcome)                                                                  \
	{                                                                                          \
#name, name, ATTACK_##stage, ATTACK_##outcome                                      \
	}

const struct attack attacks_message[] = {
	ROW(connect_and_leave, CONNECTED, NO_HARM),
	ROW(wrong_version, CONNECTED, LOST),
	ROW(reply_flag_in_a_request, CONNECTED, NO_HARM),
	ROW(unknown_flags, CONNECTED, NO_HARM),
	ROW(huge_payload_announced, CONNECTED, LOST),
	ROW(unknown_request, CONNECTED, LOST),
	ROW(request_of_another_device_type, AGREED, LOST),
	ROW(wrong_size, AGREED, LOST),
	ROW(half_a_header, CONNECTED, NO_HARM),
	ROW(half_a_payload, AGREED, NO_HARM),
	ROW(one_byte_at_a_time, CONNECTED, NO_HARM),
	ROW(descriptors_nobody_asked_for, AGREED, LOST),
	ROW(hundreds_of_descriptors, AGREED, LOST),
	ROW(too_few_descriptors, AGREED, REFUSED),
	ROW(two_kick_descriptors, RUNNING, LOST),
	ROW(odd_ring_descriptors, RUNNING, NO_HARM),
	ROW(signal_descriptors_with_flags, RUNNING, NO_HARM),
	ROW(odd_memory_descriptors, AGREED, REFUSED),
	ROW(odd_backend_request_channel, AGREED, NO_HARM),
	ROW(features_never_offered, AGREED, REFUSED),
	ROW(vring_number_out_of_range, AGREED, REFUSED),
	ROW(vring_descriptor_number_out_of_range, AGREED, REFUSED),
	ROW(vring_size_unusable, AGREED, REFUSED),
	ROW(vring_base_unusable, AGREED, REFUSED),
	ROW(kick_before_everything, AGREED, NO_HARM),
	ROW(vring_address_before_memory, AGREED, NO_HARM),
	ROW(config_out_of_range, AGREED, REFUSED),
	ROW(inflight_region_of_impossible_size, AGREED, REFUSED),
	ROW(flood_without_reading, CONNECTED, NO_HARM),
	ROW(flood_of_ring_changes, RUNNING, NO_HARM),
};
const unsigned n_attacks_message = sizeof(attacks_message) / sizeof(*attacks_message);
