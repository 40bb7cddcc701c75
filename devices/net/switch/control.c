/* Messages of vmdevd. See control.h. */
#include "devices/net/switch/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "devices/base/fd.h"
#include "devices/base/wire.h"

static void get_vlans(struct wire_reader *r, struct port_spec *p)
{
	p->n_vlans = wire_get_u16(r);
	r->bad |= p->n_vlans > CONTRACT_SWITCH_MAX_VLANS;
	for (uint32_t i = 0; !r->bad && i < p->n_vlans; i++) {
		p->vlans[i].first = wire_get_u16(r);
		p->vlans[i].last = wire_get_u16(r);
		r->bad |=
			p->vlans[i].first > p->vlans[i].last || p->vlans[i].last >= PORT_VLANS - 1;
	}
}

static void get_addresses(struct wire_reader *r, struct port_spec *p)
{
	p->n_addresses = wire_get_u16(r);
	r->bad |= p->n_addresses > CONTRACT_SWITCH_MAX_ADDRESSES;
	for (uint32_t i = 0; !r->bad && i < p->n_addresses; i++)
		wire_get_bytes(r, p->addresses[i], sizeof(p->addresses[i]));
}

static void get_port(struct wire_reader *r, struct port_spec *p)
{
	p->id = wire_get_u32(r);
	p->flags = wire_get_u32(r);
	wire_get_bytes(r, p->mac, sizeof(p->mac));
	p->native = wire_get_u16(r);
	r->bad |= p->native >= PORT_VLANS - 1;
	get_vlans(r, p);
	get_addresses(r, p);
	p->n_queues = wire_get_u32(r);
	r->bad |= p->n_queues > CONTRACT_PORT_MAX_QUEUES;
	wire_get_text(r, p->name, sizeof(p->name));
}

bool control_parse(struct control_message *m, const void *bytes, size_t len)
{
	struct wire_reader r = wire_reader(bytes, len);

	memset(&m->port, 0, sizeof(m->port));
	m->type = wire_get_u32(&r);
	switch (m->type) {
	case CONTRACT_SWITCH_MSG_PORT:
		get_port(&r, &m->port);
		return wire_done(&r) && m->port.n_queues > 0 && m->n_fds == 2 + m->port.n_queues;
	case CONTRACT_SWITCH_MSG_STREAM:
		get_port(&r, &m->port);
		return wire_done(&r) && m->port.n_queues == 0 && m->n_fds == 1;
	case CONTRACT_SWITCH_MSG_REMOVE:
		m->port.id = wire_get_u32(&r);
		return wire_done(&r) && m->n_fds == 0;
	case CONTRACT_SWITCH_MSG_BEGIN:
		return wire_done(&r) && m->n_fds == 0;
	default:
		return false;
	}
}

/* The kernel hands over all descriptors of a message in one header. */
static uint32_t collect_fds(struct msghdr *h, int *fds)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(h);
	uint32_t n = 0;

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return 0;
	for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int))
		if (n < CONTRACT_SWITCH_MAX_FDS)
			memcpy(&fds[n++], CMSG_DATA(c) + at - CMSG_LEN(0), sizeof(int));
	return n;
}

int control_receive(int socket, struct control_message *m)
{
	uint8_t bytes[CONTRACT_SWITCH_MSG_MAX_LEN];
	_Alignas(8) uint8_t control[CMSG_SPACE(sizeof(int) * CONTRACT_SWITCH_MAX_FDS)];
	struct iovec iov = { bytes, sizeof(bytes) };
	struct msghdr h = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;

	do
		n = recvmsg(socket, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	m->n_fds = collect_fds(&h, m->fds);
	if (!(h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && control_parse(m, bytes, (size_t)n))
		return 1;
	for (uint32_t i = 0; i < m->n_fds; i++)
		fd_close(m->fds[i]);
	return -EBADMSG;
}

static void tell(int socket, const struct wire_writer *w)
{
	struct iovec iov = { w->start, wire_len(w) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

	/* vmdevd may be gone or slow; the switch goes on. */
	(void)sendmsg(socket, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void control_tell(int socket, uint32_t type, uint32_t value)
{
	uint8_t bytes[8];
	struct wire_writer w = wire_writer(bytes, sizeof(bytes));

	wire_put_u32(&w, type);
	wire_put_u32(&w, value);
	tell(socket, &w);
}

void control_tell_failed(int socket, const char *text)
{
	uint8_t bytes[CONTRACT_MSG_MAX_LEN];
	struct wire_writer w = wire_writer(bytes, sizeof(bytes));

	wire_put_u32(&w, CONTRACT_MSG_FAILED);
	wire_put_text(&w, text);
	tell(socket, &w);
}
