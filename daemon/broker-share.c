/*
 * Each guest's share of another one's connections. See broker-private.h.
 *
 * Runs in: vmdevd.
 * Trusts:  the kernel.
 *
 * A device has room for 4,096 connections (devices/vsock/store.h: STORE_CONNS). One other guest has
 * at most a quarter of it, and all together half: host programs find the rest, whatever guests do.
 *
 * The numbers are bounds from above. Only where one is reached it is counted, and not more often
 * than every RECOUNT_USEC, as that takes the longer the more there are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "daemon/broker-private.h"
#include "daemon/clock.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"

enum {
	MAX_OF_PEER = 1024,
	MAX_OF_ALL = 2048,
	RECOUNT_USEC = 50000,
};

struct share_peer {
	struct list link;
	uint64_t cid;
	uint32_t n;
};

void share_init(struct share *s)
{
	*s = (struct share){ .set = -1 };
	list_init(&s->peers);
}

void share_clear(struct share *s)
{
	struct share_peer *p;

	list_for_each (p, &s->peers, link) {
		list_remove(&p->link);
		free(p);
	}
	fd_close(s->set);
	share_init(s);
}

static struct share_peer *find(struct share *s, uint64_t cid)
{
	struct share_peer *p;

	list_for_each (p, &s->peers, link)
		if (p->cid == cid)
			return p;
	return NULL;
}

static int add(struct share *s, uint64_t cid)
{
	struct share_peer *p = find(s, cid);

	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return -ENOMEM;
		p->cid = cid;
		list_append(&s->peers, &p->link);
	}
	p->n++;
	s->n++;
	return 0;
}

/* Lines of the form "tfd: N events: X data: X ...". */
static int count(struct share *s)
{
	char path[48], line[256];
	scope_file FILE *file = NULL;
	struct share_peer *p;
	uint64_t cid;
	int r = 0;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->set);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	s->n = 0;
	list_for_each (p, &s->peers, link)
		p->n = 0;
	while (r == 0 && fgets(line, sizeof(line), file))
		if (sscanf(line, "tfd: %*d events: %*x data: %" SCNx64, &cid) == 1)
			r = add(s, cid);
	list_for_each (p, &s->peers, link) {
		if (p->n > 0)
			continue;
		list_remove(&p->link);
		free(p);
	}
	return r;
}

static bool has_room(struct share *s, uint64_t cid)
{
	const struct share_peer *p = find(s, cid);

	return s->n < MAX_OF_ALL && (!p || p->n < MAX_OF_PEER);
}

static int make_room(struct share *s, uint64_t cid)
{
	uint64_t now = now_usec();
	int r;

	if (has_room(s, cid))
		return 0;
	if (now - s->counted_usec < RECOUNT_USEC)
		return -ENOBUFS;
	s->counted_usec = now;
	r = count(s);
	return r < 0 || has_room(s, cid) ? r : -ENOBUFS;
}

int share_take(struct share *s, uint64_t cid, int fd)
{
	struct epoll_event event = { .data.u64 = cid }; /* a hang-up is told always, to nobody */
	int r;

	if (s->set < 0)
		s->set = epoll_create1(EPOLL_CLOEXEC);
	if (s->set < 0)
		return -errno;
	r = make_room(s, cid);
	if (r == 0 && epoll_ctl(s->set, EPOLL_CTL_ADD, fd, &event) < 0)
		r = -errno;
	return r < 0 ? r : add(s, cid);
}
