/* Ports. See port.h. */
#include "devices/net/switch/port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/base/fd.h"

static void set_vlans(struct port *p, const struct port_spec *spec)
{
	for (uint32_t i = 0; i < spec->n_vlans; i++)
		for (uint32_t v = spec->vlans[i].first; v <= spec->vlans[i].last; v++)
			p->vlans[v / 8] |= (uint8_t)(1 << v % 8);
	if (spec->flags & CONTRACT_PORT_UNTAGGED)
		p->vlans[spec->native / 8] |= (uint8_t)(1 << spec->native % 8);
}

static void set_filter(struct port *p, const struct port_spec *spec)
{
	p->filter.bound = spec->flags & CONTRACT_PORT_BOUND;
	memcpy(p->filter.mac, spec->mac, sizeof(p->filter.mac));
	p->filter.n_addresses = spec->n_addresses;
	memcpy(p->filter.addresses, spec->addresses, sizeof(p->filter.addresses));
}

static int open_rings(struct port *p, const struct port_spec *spec, const int *fds)
{
	int r = lane_map(&p->map, fds[0], spec->n_queues);

	fd_close(fds[0]);
	p->n_queues = spec->n_queues;
	p->kick = fds[1];
	for (uint32_t q = 0; q < spec->n_queues; q++)
		p->calls[q] = fds[2 + q];
	if (r < 0)
		return r;
	for (uint32_t q = 0; q < p->n_queues; q++) {
		lane_open_reader(&p->in[q], &p->map, q, LANE_TO_SWITCH);
		lane_open_writer(&p->out[q], &p->map, q, LANE_TO_DEVICE);
		p->released[q] = p->in[q].at;
		p->cache[q].port = UINT16_MAX;
	}
	return 0;
}

static int open_port(struct port *p, const struct port_spec *spec, const int *fds)
{
	if (spec->n_queues > 0)
		return open_rings(p, spec, fds);
	p->stream = stream_new(fds[0]);
	p->stream_readable = true;
	return p->stream ? 0 : -ENOMEM;
}

struct port *port_new(const struct port_spec *spec, const int *fds, int *ret_error)
{
	uint32_t n_fds = spec->n_queues ? 2 + spec->n_queues : 1;
	struct port *p = aligned_alloc(64, (sizeof(*p) + 63) & ~(size_t)63);
	int r;

	if (!p) {
		for (uint32_t i = 0; i < n_fds; i++)
			fd_close(fds[i]);
		*ret_error = -ENOMEM;
		return NULL;
	}
	memset(p, 0, sizeof(*p));
	p->kick = -1;
	p->id = spec->id;
	p->flags = spec->flags;
	p->native = spec->native;
	memcpy(p->name, spec->name, sizeof(p->name));
	set_vlans(p, spec);
	set_filter(p, spec);
	r = open_port(p, spec, fds);
	if (r == 0)
		return p;
	*ret_error = r;
	return port_free(p);
}

struct port *port_free(struct port *p)
{
	if (!p)
		return NULL;
	stream_free(p->stream);
	lane_unmap(&p->map);
	fd_close(p->kick);
	for (uint32_t q = 0; q < p->n_queues; q++)
		fd_close(p->calls[q]);
	free(p);
	return NULL;
}

uint32_t port_queue(const struct port *p, uint32_t queue)
{
	uint32_t n = __atomic_load_n(&p->map.area->n_active, __ATOMIC_RELAXED);

	if (n == 0 || n > p->n_queues)
		n = 1;
	return queue < n ? queue : queue % n;
}

static void call(const struct port *p, uint32_t queue)
{
	uint64_t one = 1;

	/* A full counter is a call already. */
	if (write(p->calls[queue], &one, sizeof(one)) < 0)
		return;
}

void port_publish(struct port *p, bool more)
{
	for (uint32_t left = p->unseen; left; left &= left - 1)
		lane_show(&p->out[__builtin_ctz(left)]);
	p->uncalled |= p->unseen;
	p->unseen = 0;
	for (uint32_t left = p->uncalled; left; left &= left - 1) {
		uint32_t q = (uint32_t)__builtin_ctz(left);

		if (lane_call(&p->out[q], more))
			call(p, q);
	}
	if (!more)
		p->uncalled = 0;
}

void port_release(struct port *p, uint32_t queue)
{
	p->released[queue] = p->in[queue].at;
	if (lane_release(&p->in[queue]))
		call(p, queue);
}

void port_wake(struct port *p)
{
	for (uint32_t q = 0; q < p->n_queues; q++)
		call(p, q);
}

bool port_await(struct port *p)
{
	bool nothing = true;

	for (uint32_t q = 0; q < p->n_queues; q++)
		if (!lane_await(&p->in[q]))
			nothing = false;
	return nothing && !(port_is_stream(p) && p->stream_readable);
}

bool port_any(const struct port *p)
{
	for (uint32_t q = 0; q < p->n_queues; q++)
		if (lane_any(&p->in[q]))
			return true;
	return port_is_stream(p) && p->stream_readable;
}
