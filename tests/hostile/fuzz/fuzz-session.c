/*
 * What a front-end sends: bytes and descriptors, cut wherever it likes, and workers that die in
 * between. Whatever it is,
 *  1. a successor can load the session that the last worker left, and finds what that one had;
 *  2. a session that goes on owns each descriptor that is open, and no other;
 *  3. replies are well formed, and answer what was asked;
 *  4. the device is asked for nothing beyond its configuration space or its rings.
 *
 * Records: a byte (how many descriptors, of which kind, and whether the worker dies), two bytes of
 * length, and so many bytes of the stream.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/base/wire.h"
#include "devices/vhost/session.h"
#include "devices/virtio/feature.h"
#include "tests/hostile/fuzz/fuzz.h"

enum {
	N_QUEUES = 4,
	QUEUE_SIZE = 128,
	CONFIG_LEN = 60,
	FILE_LEN = 65536,
	PEER_FD = 900, /* the front-end's end of the connection */
	FIRST_FD = 64,
	N_WATCHED = 64, /* numbers from there on */
	FD_LIMIT = 1024,
};

/* The byte of a record. */
enum { N_FDS_MASK = 0x0f, KIND_MASK = 0x30, KIND_SHIFT = 4, DIES = 0x40, ANOTHER_TYPE = 0x80 };

static int files[4]; /* what descriptors of each kind are copies of */
static int inflight;
static bool is_set_up;
static struct image_store store;
static struct memory memory;
static struct session session;
static struct device device;

/* ---- the device ---- */

static void config_read(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
			uint8_t *ret_bytes)
{
	CLAIM(offset <= CONFIG_LEN && len <= CONFIG_LEN - offset);
	memcpy(ret_bytes, im->device + offset, len);
}

static bool config_write(struct device *d, struct image *im, uint32_t offset, uint32_t len,
			 const uint8_t *bytes)
{
	CLAIM(offset <= CONFIG_LEN && len <= CONFIG_LEN - offset);
	memcpy(im->device + offset, bytes, len);
	return len < 8;
}

static void reset(struct device *d, struct image *im)
{
	memset(im->device, 0, sizeof(im->device));
}

static void still(struct device *d, enum device_stillness s)
{
}

static void apply(struct device *d, const struct image *im)
{
}

static void ring_begin(struct device *d, uint32_t index, uint32_t size, uint32_t n_unanswered)
{
	CLAIM(index < N_QUEUES && n_unanswered <= UINT16_MAX);
}

static uint16_t ring_base(struct device *d, uint32_t index)
{
	CLAIM(index < N_QUEUES);
	return 7;
}

static bool mtu_set(struct device *d, struct image *im, uint64_t mtu)
{
	return mtu < 9000;
}

static bool announce(struct device *d, const uint8_t mac[6])
{
	return mac[0] == 0x52;
}

static const struct device_ops ops = { config_read, config_write, reset,   still,   apply,
				       ring_begin,  ring_base,	  mtu_set, announce };

/* ---- the session and its workers ---- */

static void load(void)
{
	CLAIM(session_load(&session, &store, &device, &memory, FIRST_FD, FD_LIMIT) ==
	      SESSION_LOADED);
	session.inflight_fd = inflight;
}

static void forget_memory(void)
{
	memory_clear(&memory);
	CLAIM(memory_log_set(&memory, 0, 0, -1) == MEMORY_OK);
}

static void die(void)
{
	struct image before = session.image;

	forget_memory();
	load();
	CLAIM(memcmp(&before, &session.image, sizeof(before)) == 0);
}

static void set_up(void)
{
	int fd;

	files[0] = memfd_create("memory", MFD_CLOEXEC);
	files[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	files[2] = memfd_create("short", MFD_CLOEXEC);
	files[3] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	inflight = memfd_create("inflight", MFD_CLOEXEC);
	CLAIM(files[1] >= 0 && files[3] >= 0);
	CLAIM(ftruncate(files[0], FILE_LEN) == 0 && ftruncate(files[2], 4096) == 0 &&
	      ftruncate(inflight, FILE_LEN) == 0);
	/* As the keeper does: every number below the session's is taken. */
	while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) < FIRST_FD)
		CLAIM(fd >= 0);
	close(fd);
	is_set_up = true;
}

static void connect_frontend(bool another_type)
{
	int pair[2];

	device = (struct device){
		.ops = &ops,
		.features = FEATURE_VERSION_1 | FEATURE_RING_EVENT_IDX | FEATURE_RING_INDIRECT_DESC,
		.protocol_features =
			PROTO_F_CONFIG | (another_type ? PROTO_F_RARP | PROTO_F_NET_MTU : 0),
		.regions_repeated = another_type,
		.n_queues = N_QUEUES,
		.queue_size = QUEUE_SIZE,
		.config_len = CONFIG_LEN,
	};
	session_store_init(&store, &device);
	memset(&memory, 0, sizeof(memory));
	load();
	CLAIM(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	CLAIM(dup3(pair[1], PEER_FD, O_CLOEXEC) == PEER_FD);
	close(pair[1]);
	session_connect(&session, pair[0]);
}

/* As a worker's end and the sweep do it. */
static void hang_up(void)
{
	forget_memory();
	close(PEER_FD);
	for (int i = 0; i < N_WATCHED; i++)
		(void)close(FIRST_FD + i);
}

/* ---- the front-end ---- */

static void send_bytes(const uint8_t *data, size_t len, unsigned n_fds, unsigned kind)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int) * N_FDS_MASK)];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		control.header =
			(struct cmsghdr){ CMSG_LEN(sizeof(int) * n_fds), SOL_SOCKET, SCM_RIGHTS };
		for (unsigned i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &files[kind],
			       sizeof(int));
	}
	(void)sendmsg(PEER_FD, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* What has come of replies, each whole and of a request that has one. */
static void read_replies(void)
{
	static uint8_t bytes[FILE_LEN];
	ssize_t n = recv(PEER_FD, bytes, sizeof(bytes), MSG_DONTWAIT);
	const uint8_t *p = bytes;

	while (n > 0) {
		struct proto_header h;

		CLAIM((size_t)n >= PROTO_HEADER_LEN);
		memcpy(&h, p, sizeof(h));
		CLAIM(h.request > 0 && h.request < PROTO_REQUEST_LIMIT);
		CLAIM(h.flags == (PROTO_VERSION | PROTO_FLAG_REPLY));
		CLAIM(h.size <= PROTO_PAYLOAD_MAX_LEN &&
		      (size_t)n >= PROTO_HEADER_LEN + (size_t)h.size);
		p += PROTO_HEADER_LEN + h.size;
		n -= (ssize_t)(PROTO_HEADER_LEN + h.size);
	}
}

static void take_off(int fd, void *arg)
{
	bool *is_owned = arg;

	if (fd >= FIRST_FD && fd < FIRST_FD + N_WATCHED)
		is_owned[fd - FIRST_FD] = true;
}

static void claim_descriptors(void)
{
	bool is_owned[N_WATCHED] = { 0 };

	session_for_each_fd(&session, take_off, is_owned);
	for (int i = 0; i < N_WATCHED; i++)
		CLAIM((fcntl(FIRST_FD + i, F_GETFD) >= 0) == is_owned[i]);
}

/* False: the session is over. */
static bool turn(void)
{
	for (;;) {
		bool blocked;
		enum session_verdict v = session_step(&session, &blocked);

		read_replies();
		if (v != SESSION_OK)
			return false;
		if (blocked)
			continue;
		claim_descriptors();
		return true;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct wire_reader r = wire_reader(data, len);

	if (!is_set_up)
		set_up();
	connect_frontend(len > 0 && data[0] & ANOTHER_TYPE);
	while (wire_left(&r) >= 3) {
		uint8_t what = wire_get_u8(&r), bytes[2 * PROTO_PAYLOAD_MAX_LEN];
		size_t n = wire_get_u16(&r) % sizeof(bytes);

		if (n > wire_left(&r))
			n = wire_left(&r);
		wire_get_bytes(&r, bytes, n);
		send_bytes(bytes, n, what & N_FDS_MASK, (what & KIND_MASK) >> KIND_SHIFT);
		if (what & DIES)
			die();
		if (!turn())
			break;
	}
	hang_up();
	return 0;
}
