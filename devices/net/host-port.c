/*
 * The host sides that are a port of vmdev-switch's: `switch`, and `user`, whose switch has a
 * user-mode network stack at its other port. Frames go through two rings for each queue (lane.h).
 *
 * Runs in: see host.h. Trusts: nothing in the rings: the switch sees to it that no port speaks for
 *          another, but it could be owned itself, by a guest at another port.
 *
 * What has been received is given back when the driver has it (received); a worker that dies before
 * leaves it to be received again by the next, one that dies in between has written down how far the
 * driver has it (go_on). The next one first takes back what it said about waiting, and wakes the
 * switch once: what its predecessor had to tell it may not have been told.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/base/copy.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/net/host.h"
#include "devices/net/lane.h"
#include "devices/process/contract.h"

_Static_assert(NET_HDR_LEN == (int)LANE_HEADER_LEN, "a record begins with the header");
_Static_assert(NET_HDR_LEN + NET_MAX_FRAME_LEN <= (int)LANE_MAX_LEN, "each frame fits in a record");
_Static_assert(CONTRACT_NET_MAX_PAIRS <= (int)LANE_MAX_QUEUES, "two rings for each pair");

struct port_queue {
	struct lane in, out;
};

static struct {
	struct host host; /* first */
	struct lane_map map;
	struct port_queue queues[CONTRACT_NET_MAX_PAIRS];
} port;

static int say(const char *what, int error)
{
	log_error("%s: %s", what, error_text(error));
	return error;
}

/* ---- by hand ---- */

enum { MAX_FDS = 2 + CONTRACT_NET_MAX_PAIRS };

/*
 * The number at the start of "3,4,5", as a descriptor that is out of the way of the contract's numbers:
 * what is moved to one of those may be another one of the list. *list goes on to the next.
 */
static int raise_one(const char **list)
{
	char *end;
	long fd = strtol(*list, &end, 10);
	int raised;

	if (end == *list || (*end && *end != ',') || fd < 0 || fd > INT32_MAX) {
		log_error(
			"--port takes descriptors: the port's memory, the switch's eventfd, and an "
			"eventfd for each queue");
		return -EINVAL;
	}
	raised = errno_or(fcntl((int)fd, F_DUPFD, CONTRACT_FD_SESSION));
	if (raised < 0)
		return say("a descriptor of --port is none", raised);
	fd_close((int)fd);
	*list = *end ? end + 1 : end;
	return raised;
}

static int arrange(const struct host_config *c)
{
	const char *list = c->port ? c->port : "";
	int fds[MAX_FDS], n = 0, r = 0;

	do {
		fds[n] = r = raise_one(&list);
		n++;
	} while (r >= 0 && *list && n < MAX_FDS);
	for (int i = 0; i < n && r >= 0; i++)
		r = fd_move(fds[i],
			    i < 2 ? CONTRACT_FD_NET_MEMORY + i : CONTRACT_FD_NET_QUEUE + i - 2,
			    false);
	return r < 0 ? r : 0;
}

/* ---- a worker's ---- */

static void kick(void)
{
	uint64_t one = 1;

	/* A full counter is a kick already. */
	if (write(CONTRACT_FD_NET_KICK, &one, sizeof(one)) < 0)
		return;
}

static void open_queue(uint32_t q)
{
	struct port_queue *p = &port.queues[q];

	lane_open_writer(&p->out, &port.map, q, LANE_TO_SWITCH);
	lane_open_reader(&p->in, &port.map, q, LANE_TO_DEVICE);
}

static struct host *open_port(const struct host_config *c, const struct host_side *side,
			      uint64_t features)
{
	int r = lane_map(&port.map, CONTRACT_FD_NET_MEMORY, c->n_queues);

	if (r < 0) {
		say("the port's memory cannot be used", r);
		return NULL;
	}
	port.host = (struct host){ .side = side, .n_queues = c->n_queues, .features = features };
	return &port.host;
}

/* Where the last worker has left the rings. What it had to tell the switch it may not have told. */
static void begin(struct host *h)
{
	for (uint32_t q = 0; q < h->n_queues; q++)
		open_queue(q);
	__atomic_store_n(&port.map.area->n_active, h->n_queues, __ATOMIC_RELAXED);
	kick();
}

static struct host *open_switch(const struct host_config *c)
{
	/* Whatever a guest may send, each other's device can make fit for its own (rx-frame.c). */
	return open_port(c, &host_switch, NET_F_HOST_OFFLOADS | NET_F_GUEST_OFFLOADS);
}

static struct host *open_user(const struct host_config *c)
{
	/* The stack takes plain frames, and gives such. */
	return open_port(c, &host_user, 0);
}

static bool send_one(struct lane *out, const struct host_frame *f)
{
	uint8_t *record = lane_reserve(out, f->len);

	if (!record)
		return false;
	for (uint32_t i = 0; i < f->n_iov; i++) {
		copy_bytes(record, f->iov[i].iov_base, f->iov[i].iov_len);
		record += f->iov[i].iov_len;
	}
	lane_commit(out, f->len);
	return true;
}

static uint32_t send_frames(struct host *h, uint32_t queue, const struct host_frame *frames,
			    uint32_t n, bool more)
{
	struct lane *out = &port.queues[queue].out;
	uint32_t done = 0;

	while (done < n && send_one(out, &frames[done]))
		done++;
	if (done > 0)
		lane_show(out);
	if (lane_call(out, more && done == n))
		kick();
	return done;
}

/* There are no more after all. */
static void flush(struct host *h, uint32_t queue)
{
	if (lane_call(&port.queues[queue].out, false))
		kick();
}

/* The whole record into the places; its length, 0: there is not room for it, it is dropped. */
static uint32_t scatter(const struct iovec *iov, uint32_t n_iov, const uint8_t *record,
			uint32_t len)
{
	uint32_t done = 0;

	for (uint32_t i = 0; i < n_iov && done < len; i++) {
		uint32_t part = len - done;

		part = iov[i].iov_len < part ? (uint32_t)iov[i].iov_len : part;
		copy_bytes(iov[i].iov_base, record + done, part);
		done += part;
	}
	return done < len ? 0 : done;
}

static uint32_t receive_from(struct lane *in, const struct iovec *iov, uint32_t n_iov)
{
	const uint8_t *record;
	uint32_t len, done = 0;

	while (done == 0 && (record = lane_look(in, &len)) != NULL) {
		done = scatter(iov, n_iov, record, len);
		lane_next(in);
	}
	return done;
}

static uint32_t receive(struct host *h, uint32_t queue, const struct iovec *iov, uint32_t n_iov)
{
	return receive_from(&port.queues[queue].in, iov, n_iov);
}

static const uint8_t *look(struct host *h, uint32_t queue, uint32_t *ret_len)
{
	return lane_look(&port.queues[queue].in, ret_len);
}

static void next(struct host *h, uint32_t queue)
{
	lane_next(&port.queues[queue].in);
}

static uint32_t position(const struct host *h, uint32_t queue)
{
	return port.queues[queue].in.at;
}

/* The switch waits for nobody's room: nothing is to be told. */
static void received(struct host *h, uint32_t queue, uint32_t at)
{
	(void)lane_release_to(&port.queues[queue].in, at);
}

static void go_on(struct host *h, uint32_t queue, uint32_t at)
{
	lane_go_on(&port.queues[queue].in, at);
}

static int event_fd(const struct host *h, uint32_t queue)
{
	return CONTRACT_FD_NET_QUEUE + (int)queue;
}

static bool has_frame(const struct host *h, uint32_t queue)
{
	return lane_any(&port.queues[queue].in);
}

static bool await_frame(struct host *h, uint32_t queue)
{
	return lane_await(&port.queues[queue].in);
}

static bool await_room(struct host *h, uint32_t queue)
{
	return lane_await_room(&port.queues[queue].out);
}

const struct host_side host_switch = {
	.name = "switch",
	.arrange = arrange,
	.open = open_switch,
	.begin = begin,
	.send = send_frames,
	.flush = flush,
	.receive = receive,
	.look = look,
	.next = next,
	.position = position,
	.received = received,
	.go_on = go_on,
	.event_fd = event_fd,
	.has_frame = has_frame,
	.await_frame = await_frame,
	.await_room = await_room,
};

const struct host_side host_user = {
	.name = "user",
	.arrange = arrange,
	.open = open_user,
	.begin = begin,
	.send = send_frames,
	.flush = flush,
	.receive = receive,
	.look = look,
	.next = next,
	.position = position,
	.received = received,
	.go_on = go_on,
	.event_fd = event_fd,
	.has_frame = has_frame,
	.await_frame = await_frame,
	.await_room = await_room,
};
