/* What is ready. See watch.h. */
#include "devices/vsock/watch.h"

#include <errno.h>
#include <sys/epoll.h>

#include "devices/process/contract.h"
#include "devices/process/thread.h"
#include "devices/vhost/image.h"

enum { INDEX_BITS = 16 };

_Static_assert(STORE_CONNS + N_SOURCES <= 1 << INDEX_BITS, "both are in an event's data");

/* A source's number is behind those of connections. A serial's low bits tell tenants of a place apart. */
static uint64_t data_of(uint32_t index, uint64_t serial)
{
	return (serial << INDEX_BITS | index) & ~THREAD_EVENT_MODEL;
}

static int control(struct vsock *v, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data | THREAD_EVENT_MODEL };

	return epoll_ctl(v->thread->epoll, op, fd, &ev) < 0 ? -errno : 0;
}

/* Connections */

static uint64_t conn_data(const struct vsock *v, const struct conn *c)
{
	return data_of(conn_index(v, c), c->serial);
}

void watch_conn(struct vsock *v, struct conn *c)
{
	int r;

	if (c->fd == IMAGE_NO_FD)
		return;
	r = control(v, EPOLL_CTL_ADD, c->fd, EPOLLIN | EPOLLRDHUP | EPOLLET, conn_data(v, c));
	/* A dead worker may have left anything. */
	if (r < 0 && r != -EEXIST)
		conn_reset(v, c, "its socket cannot be watched");
}

static void watch_out(struct vsock *v, struct conn *c, bool on)
{
	struct local *l = conn_local(v, c);

	if (l->watched_out == on || c->fd == IMAGE_NO_FD)
		return;
	l->watched_out = on;
	control(v, EPOLL_CTL_MOD, c->fd,
		EPOLLIN | EPOLLRDHUP | EPOLLET | (on ? (uint32_t)EPOLLOUT : 0), conn_data(v, c));
}

void watch_for_room(struct vsock *v, struct conn *c)
{
	conn_local(v, c)->blocked = true;
	watch_out(v, c, true);
}

void watch_for_no_room(struct vsock *v, struct conn *c)
{
	conn_local(v, c)->blocked = false;
	watch_out(v, c, false);
}

static void conn_ready(struct vsock *v, uint32_t i, uint32_t events)
{
	struct local *l = &v->local[i];

	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		l->end_seen = true;
	if (events & EPOLLHUP)
		l->gone_seen = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		set_add(&v->readable, i);
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
		l->blocked = false;
		set_add(&v->blocked, i);
	}
}

/* Sources */

static int watch_source(struct vsock *v, enum source_name which, int op)
{
	uint32_t events = EPOLLIN;

	if (which == SOURCE_BROKER && v->mute)
		events |= EPOLLOUT;
	return control(v, op, CONTRACT_FD_VSOCK_STREAM + (int)which, events,
		       data_of(STORE_CONNS + which, 0));
}

/* Not with fewer events: a hang-up would be told of whatever they are. */
static void ignore_source(struct vsock *v, enum source_name which)
{
	v->sources[which].ignored = true;
	watch_source(v, which, EPOLL_CTL_DEL);
}

static void heed_source(struct vsock *v, enum source_name which)
{
	if (v->sources[which].ignored && watch_source(v, which, EPOLL_CTL_ADD) == 0)
		v->sources[which].ignored = false;
}

static void source_ready(struct vsock *v, enum source_name which, uint32_t events)
{
	struct source *s = &v->sources[which];

	if (which == SOURCE_BROKER && (events & EPOLLOUT)) {
		v->mute = false;
		watch_source(v, which, EPOLL_CTL_MOD);
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	if (s->ready)
		ignore_source(v, which);
	s->ready = true;
}

void watch_dealt_with(struct vsock *v, enum source_name which)
{
	v->sources[which].ready = false;
	heed_source(v, which);
}

void watch_broker_full(struct vsock *v)
{
	v->mute = true;
	heed_source(v, SOURCE_BROKER);
	watch_source(v, SOURCE_BROKER, EPOLL_CTL_MOD);
}

void watch_no_broker(struct vsock *v)
{
	watch_source(v, SOURCE_BROKER, EPOLL_CTL_DEL);
	v->broker = -1;
	v->sources[SOURCE_BROKER].ready = false;
}

/* All of them */

void watch_event(struct vsock *v, uint64_t data, uint32_t events)
{
	uint32_t i = (uint32_t)data & ((1u << INDEX_BITS) - 1);

	if (i >= STORE_CONNS)
		source_ready(v, (enum source_name)(i - STORE_CONNS), events);
	else if (conn_at(v, i)->state != CONN_FREE && data == conn_data(v, conn_at(v, i)))
		conn_ready(v, i, events); /* else its place has a new tenant */
}

int watch_init(struct vsock *v)
{
	/* /dev/null cannot be watched, nor need be. */
	(void)watch_source(v, SOURCE_STREAM, EPOLL_CTL_ADD);
	(void)watch_source(v, SOURCE_SEQPACKET, EPOLL_CTL_ADD);
	if (watch_source(v, SOURCE_BROKER, EPOLL_CTL_ADD) == 0)
		v->broker = CONTRACT_FD_VSOCK_BROKER;
	return 0;
}
