/*
 * The broker: questions and answers on the channel. See broker.h.
 *
 * Runs in: vmdevd.
 * Trusts:  nothing that comes on the channel.
 *
 * A question is read, tried, and answered. One that is not answered at once is kept, for one of two
 * reasons:
 *
 *	its result is -EAGAIN	a backlog is full, another device's channel is, AF_VSOCK is on its way. It is tried
 *				again, each time after twice as long, and ends with ETIMEDOUT.
 *	otherwise		the channel has no room for the answer. It waits for room (EPOLLOUT), and is dropped in the
 *				end: whoever asks and does not read gets no answer.
 *
 * What this costs vmdevd, which has one thread, is bounded: so many questions are kept, no more are
 * read while there are that many, and each that is read takes up 1/MAX_ASKS_PER_S of a second, or
 * SHARE times the processor time that was spent on it if that is more; only BURST_USEC may be ahead
 * of time. So a device has at most one SHARE-th of vmdevd, whatever it asks. Those that are read
 * together are tried together, with one change of identity. And all of this comes after whatever
 * else vmdevd has to do for any device: the event sources' priority is the lowest.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "daemon/broker-private.h"
#include "daemon/clock.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"
#include "devices/base/wire.h"
#include "devices/process/contract.h"

enum {
	MAX_ASKS_PER_S = 20000, /* of a device; one takes 10 to 30 us of processor time */
	ASK_USEC = 1000000 / MAX_ASKS_PER_S,
	SHARE = 4,
	BURST_USEC = 5000,
	READS_PER_DISPATCH = 16,
	MAX_ASKS = 64,
	FIRST_WAIT_USEC = 2000,
	MAX_WAIT_USEC = 250000,
	PATIENCE_USEC = 5000000,
	ACCURACY_USEC = 100,
};

/* A question that has not been answered. */
struct ask {
	struct list link;
	struct broker_call call;
	int fd;	    /* connected, or on the way there */
	int result; /* -EAGAIN: not known yet */
	bool other_guest;
	bool due; /* to be tried in this very round */
	uint64_t next_usec, wait_usec;
	uint64_t until_usec;
};

static uint64_t spent_usec(void)
{
	return clock_usec(CLOCK_THREAD_CPUTIME_ID);
}

static uint64_t patience(const struct broker *b)
{
	return b->spec.patience_usec ? b->spec.patience_usec : PATIENCE_USEC;
}

static void ask_free(struct broker *b, struct ask *a)
{
	list_remove(&a->link);
	b->n_asks--;
	fd_close(a->fd);
	free(a);
}

void broker_asks_clear(struct broker *b)
{
	struct ask *a;

	list_for_each (a, &b->asks, link)
		ask_free(b, a);
	b->n_unsent = 0;
	b->io = sd_event_source_disable_unref(b->io);
	b->timer = sd_event_source_disable_unref(b->timer);
}

/* ---- what is waited for ---- */

static bool may_ask(const struct broker *b, uint64_t now)
{
	return b->n_asks < MAX_ASKS && b->paid_usec < now + BURST_USEC;
}

/* When something is due without anything having come; UINT64_MAX: never. */
static uint64_t next_usec(const struct broker *b, uint64_t now)
{
	uint64_t next = UINT64_MAX;
	struct ask *a;

	list_for_each (a, &b->asks, link) {
		uint64_t usec = a->result == -EAGAIN && a->next_usec < a->until_usec
					? a->next_usec
					: a->until_usec;

		next = usec < next ? usec : next;
	}
	/* Several at a time, if the burst has been used up. */
	if (b->n_asks < MAX_ASKS && !may_ask(b, now) && b->paid_usec - BURST_USEC / 2 < next)
		next = b->paid_usec - BURST_USEC / 2;
	return next;
}

static void watch(struct broker *b)
{
	uint64_t now = now_usec(), next = next_usec(b, now);
	uint32_t events = (may_ask(b, now) ? EPOLLIN : 0) | (b->n_unsent ? EPOLLOUT : 0);

	if (b->hung_up)
		events = 0;
	/* A hang-up would be told whatever the events are. */
	if (events)
		(void)sd_event_source_set_io_events(b->io, events);
	(void)sd_event_source_set_enabled(b->io, events ? SD_EVENT_ON : SD_EVENT_OFF);
	if (next != UINT64_MAX)
		(void)sd_event_source_set_time(b->timer, next);
	(void)sd_event_source_set_enabled(b->timer,
					  next != UINT64_MAX ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* ---- answers ---- */

int broker_send(const struct broker *b, const struct wire_writer *w, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = w->start, .iov_len = wire_len(w) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
						  .cmsg_type = SCM_RIGHTS,
						  .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	}
	return sendmsg(b->channel, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int answer(const struct broker *b, const struct ask *a)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	struct wire_writer w = wire_writer(buf, sizeof(buf));

	wire_put_u32(&w, CONTRACT_VSOCK_ANSWER);
	wire_put_u64(&w, a->call.serial);
	wire_put_u32(&w, (uint32_t)-a->result);
	wire_put_u32(&w, a->other_guest);
	return broker_send(b, &w, a->result < 0 ? -1 : a->fd);
}

/* ---- trying ---- */

/* Another guest, if there is one that may be reached. */
static int call_guest(struct broker *b, struct ask *a)
{
	scope_fd int theirs = -1;
	int pair[2], r;

	if (socketpair(AF_UNIX,
		       (a->call.type == 2 ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC |
			       SOCK_NONBLOCK,
		       0, pair) < 0)
		return -errno;
	a->fd = pair[0];
	theirs = pair[1];
	broker_no_rights(a->fd);
	broker_no_rights(theirs);
	r = b->spec.offer(b->spec.arg, &a->call, theirs);
	a->other_guest = r == 0;
	if (r < 0)
		a->fd = fd_close(a->fd);
	return r;
}

/*
 * The host's programs, as the owner; those for which there is none go on to other guests, as
 * vmdevd.
 */
static void try_due(struct broker *b)
{
	struct broker_self self;
	bool may = broker_become(&b->owner, &self);
	struct ask *a;

	list_for_each (a, &b->asks, link)
		if (a->due)
			a->result = may ? broker_connect(b->config, &a->call, &a->fd) : -EPERM;
	if (may)
		broker_become_oneself(&self);
	list_for_each (a, &b->asks, link)
		if (a->due && a->result == -EHOSTUNREACH)
			a->result = call_guest(b, a);
}

static void put_off(const struct broker *b, struct ask *a, uint64_t now)
{
	if (now >= a->until_usec) {
		a->result = -ETIMEDOUT;
		return;
	}
	a->next_usec = now + a->wait_usec;
	a->wait_usec = a->wait_usec < MAX_WAIT_USEC / 2 ? 2 * a->wait_usec : MAX_WAIT_USEC;
}

/* Known, and it waits for room from now on. */
static void settle(const struct broker *b, struct ask *a, uint64_t now)
{
	if (a->due && a->result != -EAGAIN)
		a->until_usec = now + patience(b);
	a->due = false;
}

static void answer_all(struct broker *b)
{
	uint64_t now = now_usec();
	bool full = false;
	struct ask *a;

	b->n_unsent = 0;
	list_for_each (a, &b->asks, link) {
		if (a->due && a->result == -EAGAIN)
			put_off(b, a, now);
		settle(b, a, now);
		if (a->result == -EAGAIN)
			continue;
		full = full || answer(b, a) == -EAGAIN;
		if (!full || now >= a->until_usec)
			ask_free(b, a);
		else
			b->n_unsent++;
	}
}

/* Each question that is due is tried, and what is known is answered. */
static void round_of_all(struct broker *b)
{
	uint64_t now = now_usec();
	bool any = false;
	struct ask *a;

	list_for_each (a, &b->asks, link) {
		a->due = a->result == -EAGAIN && (a->next_usec <= now || a->until_usec <= now);
		any |= a->due;
	}
	if (any)
		try_due(b);
	answer_all(b);
}

/* ---- the channel ---- */

static bool ask_parse(const uint8_t *buf, size_t len, struct broker_call *ret)
{
	struct wire_reader r = wire_reader(buf, len);
	bool ask = wire_get_u32(&r) == CONTRACT_VSOCK_ASK;

	ret->serial = wire_get_u64(&r);
	ret->cid = wire_get_u64(&r);
	ret->port = wire_get_u32(&r);
	ret->own_port = wire_get_u32(&r);
	ret->type = wire_get_u32(&r);
	return ask && wire_done(&r) && (ret->type == 1 || ret->type == 2) && ret->cid < UINT32_MAX;
}

/* Of descriptors that come along the kernel lets go: there is no room for them. */
static ssize_t receive(int channel, uint8_t *buf, size_t size)
{
	struct iovec iov = { buf, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = recvmsg(channel, &m, MSG_DONTWAIT);

	return n < 0 ? -errno : n;
}

static bool take_ask(struct broker *b, const uint8_t *buf, size_t len, uint64_t now)
{
	struct ask *a = calloc(1, sizeof(*a));

	if (!a)
		return false;
	*a = (struct ask){
		.fd = -1,
		.result = -EAGAIN,
		.next_usec = now,
		.wait_usec = FIRST_WAIT_USEC,
		.until_usec = now + patience(b),
	};
	if (!ask_parse(buf, len, &a->call)) {
		free(a);
		return true;
	}
	list_append(&b->asks, &a->link);
	b->n_asks++;
	return true;
}

/* How many were read; what is no question counts too. */
static unsigned read_asks(struct broker *b, int fd)
{
	uint8_t buf[CONTRACT_VSOCK_MSG_LEN];
	uint64_t now = now_usec();
	unsigned n = 0;

	while (n < READS_PER_DISPATCH && may_ask(b, now)) {
		ssize_t len = receive(fd, buf, sizeof(buf));

		if (len == -EAGAIN || len == -EINTR)
			break;
		b->hung_up = len <= 0; /* the sandbox ends, and is told of otherwise */
		n++;
		if (len <= 0 || !take_ask(b, buf, (size_t)len, now))
			break;
	}
	return n;
}

/* Whatever the channel and the clock bring. */
static void dispatch(struct broker *b, int fd, uint32_t revents)
{
	uint64_t before = spent_usec(), now = now_usec(), cost;
	unsigned n = 0;

	if (revents & EPOLLIN)
		n = read_asks(b, fd);
	else if (revents & (EPOLLHUP | EPOLLERR))
		b->hung_up = true;
	round_of_all(b);
	cost = SHARE * (spent_usec() - before);
	if (cost < n * ASK_USEC)
		cost = n * ASK_USEC;
	b->paid_usec = (b->paid_usec > now ? b->paid_usec : now) + cost;
	watch(b);
}

static int on_channel(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	dispatch(arg, fd, revents);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	dispatch(arg, -1, 0);
	return 0;
}

int broker_start(struct broker *b)
{
	int r = sd_event_add_io(b->spec.event, &b->io, b->channel, EPOLLIN, on_channel, b);

	if (r >= 0)
		r = sd_event_source_set_priority(b->io, b->spec.priority);
	if (r >= 0)
		r = sd_event_add_time_relative(b->spec.event, &b->timer, CLOCK_MONOTONIC, 0,
					       ACCURACY_USEC, on_timer, b);
	if (r >= 0)
		r = sd_event_source_set_priority(b->timer, b->spec.priority);
	if (r >= 0)
		r = sd_event_source_set_enabled(b->timer, SD_EVENT_OFF);
	return r < 0 ? r : 0;
}
