/* Forwarding. See fabric.h. */
#include "devices/net/switch/fabric.h"

#include <errno.h>

#include "devices/net/switch/head.h"

_Static_assert((int)CONTRACT_SWITCH_MAX_PORTS <= (int)TABLE_MAX_PORTS, "the table counts by port");

#define MAC_GROUP    (UINT64_C(1) << 40)
#define MAC_BRIDGES  UINT64_C(0x0180c2000000)
#define BRIDGES_MASK UINT64_C(0xfffffffffff0)

/* A frame on its way. */
struct passage {
	struct port *from;
	uint32_t queue;
	uint16_t vlan;
	bool nested;	     /* there is another tag behind the VLAN's */
	uint32_t n_bytes;    /* that this queue's frames have made so far in this turn */
	const uint8_t *rest; /* what is not in the head, in the port's memory */
	struct head head;
};

void fabric_init(struct fabric *f, uint64_t secret)
{
	memset(f->ports, 0, sizeof(f->ports));
	f->n_ports = f->now_s = f->aged_s = 0;
	table_init(&f->table, secret);
}

/* ---- ports ---- */

static int place_of(const struct fabric *f, uint32_t id)
{
	int place = -ENOSPC;

	for (uint32_t i = CONTRACT_SWITCH_MAX_PORTS; i-- > 0;) {
		if (f->ports[i] && f->ports[i]->id == id)
			return -EEXIST;
		if (!f->ports[i])
			place = (int)i;
	}
	return place;
}

int fabric_add(struct fabric *f, struct port *p)
{
	int place = place_of(f, p->id);

	if (place < 0) {
		port_free(p);
		return place;
	}
	p->index = (uint16_t)place;
	if (p->filter.bound && !table_bind(&f->table, head_mac(p->filter.mac), p->index)) {
		port_free(p);
		return -EADDRINUSE;
	}
	f->ports[place] = p;
	if ((uint32_t)place >= f->n_ports)
		f->n_ports = (uint32_t)place + 1;
	return 0;
}

bool fabric_remove(struct fabric *f, uint32_t id)
{
	for (uint32_t i = 0; i < f->n_ports; i++) {
		if (!f->ports[i] || f->ports[i]->id != id)
			continue;
		table_forget(&f->table, (uint16_t)i);
		f->ports[i] = port_free(f->ports[i]);
		while (f->n_ports > 0 && !f->ports[f->n_ports - 1])
			f->n_ports--;
		return true;
	}
	return false;
}

/* ---- out ---- */

/*
 * With a tag, or without, as the port has the frame's VLAN; but never without if another tag would thereby become the first, and
 * the frame one of a VLAN that its sender is not in. False: it cannot go there.
 */
static bool dress(struct passage *g, const struct port *to)
{
	bool tag = !(to->flags & CONTRACT_PORT_UNTAGGED) || g->vlan != to->native || g->nested;
	struct head *h = &g->head;

	if (tag && !(to->flags & CONTRACT_PORT_TAGGED))
		return false;
	if (h->tagged && !tag)
		head_untag(h);
	else if (!h->tagged && tag)
		head_tag(h, (uint16_t)((h->tag & ~HEAD_VLAN_MASK) | g->vlan));
	return true;
}

static void put_ring(struct passage *g, struct port *to)
{
	const struct head *h = &g->head;
	uint32_t len = h->len + h->rest, q = port_queue(to, g->queue);
	uint8_t *record = len <= LANE_MAX_LEN ? lane_reserve(&to->out[q], len) : NULL;

	if (!record) {
		to->counters.n_full++;
		return;
	}
	head_store(h, record);
	if (h->rest)
		memcpy(record + h->len, g->rest, h->rest);
	lane_commit(&to->out[q], len);
	to->unseen |= 1u << q;
	to->counters.n_out++;
}

static void put_stream(struct passage *g, struct port *to)
{
	const struct head *h = &g->head;
	enum stream_verdict v;

	if (to->stream_ended)
		return;
	/* flags and gso_type: never offered to the guest behind such a port */
	if (h->p[0] || h->p[1]) {
		to->counters.n_offload++;
		return;
	}
	v = stream_send(to->stream, head_frame(h), h->len - LANE_HEADER_LEN, g->rest, h->rest);
	if (v == STREAM_ENDED)
		to->stream_ended = true;
	if (v == STREAM_OK)
		to->counters.n_out++;
	else
		to->counters.n_full++;
}

static void put(struct passage *g, struct port *to)
{
	if (!dress(g, to)) {
		to->counters.n_vlan++;
		return;
	}
	g->n_bytes += g->head.len + g->head.rest;
	if (port_is_stream(to))
		put_stream(g, to);
	else
		put_ring(g, to);
}

static void flood(struct fabric *f, struct passage *g, bool to_bound)
{
	struct port *to;

	fabric_for_each(f, to) if (to != g->from && port_has_vlan(to, g->vlan) &&
				   (to_bound || !to->filter.bound)) put(g, to);
}

/* ---- where to ---- */

static bool has_tag(const struct head *h)
{
	uint16_t type = head_type(h);

	return type == HEAD_TYPE_VLAN || type == HEAD_TYPE_VLAN_SERVICE;
}

/*
 * The frame's VLAN by its tag, which is taken off, or by its port. A tag of VLAN 0 gives a priority
 * and no VLAN. From a port without tags no other may hide behind it.
 */
static bool classify(struct passage *g)
{
	struct head *h = &g->head;
	const struct port *from = g->from;
	uint16_t vlan = 0;

	if (h->tagged) {
		head_untag(h);
		vlan = h->tag & HEAD_VLAN_MASK;
		if (vlan != 0 && !(from->flags & CONTRACT_PORT_TAGGED))
			return false;
	}
	if (vlan == 0) {
		if (!(from->flags & CONTRACT_PORT_UNTAGGED))
			return false;
		if (!(from->flags & CONTRACT_PORT_TAGGED) && has_tag(h))
			return false;
		vlan = from->native;
	}
	g->vlan = vlan;
	g->nested = has_tag(h);
	return port_has_vlan(from, vlan);
}

static bool is_genuine(struct fabric *f, const struct passage *g)
{
	const struct port *from = g->from;
	const uint8_t *bytes = head_frame(&g->head);
	uint64_t source = head_mac(bytes + 6);
	const struct filter_frame frame = {
		.source = bytes + 6,
		.type = head_type(&g->head),
		.packet = bytes + LANE_ETHER_LEN,
		.len = g->head.len - LANE_HEADER_LEN - LANE_ETHER_LEN,
	};

	if ((source & MAC_GROUP) || source == 0 || !filter_pass(&from->filter, &frame))
		return false;
	return from->filter.bound ||
	       table_learn(&f->table, table_key(source, g->vlan), from->index, f->now_s);
}

static uint16_t find(struct fabric *f, const struct passage *g, uint64_t mac)
{
	struct port_cache *c = &g->from->cache[g->queue];
	uint64_t key = table_key(mac, g->vlan);

	if (c->key != key || c->n_changes != f->table.n_changes || c->now_s != f->now_s)
		*c = (struct port_cache){
			.key = key,
			.n_changes = f->table.n_changes,
			.now_s = f->now_s,
			.port = table_find(&f->table, key, f->now_s),
		};
	return c->port;
}

static void forward(struct fabric *f, struct passage *g)
{
	uint64_t mac = head_mac(head_frame(&g->head));
	uint16_t to;

	if ((mac & BRIDGES_MASK) == MAC_BRIDGES)
		return;
	if (mac & MAC_GROUP) {
		flood(f, g, true);
		return;
	}
	to = find(f, g, mac);
	if (to == TABLE_NOWHERE)
		flood(f, g, false);
	else if (to != g->from->index && port_has_vlan(f->ports[to], g->vlan))
		put(g, f->ports[to]);
}

/* ---- in ---- */

static void pass(struct fabric *f, struct passage *g, const uint8_t *record, uint32_t len)
{
	struct port_counters *c = &g->from->counters;

	c->n_in++;
	head_load(&g->head, record, len);
	g->rest = record + g->head.len;
	if (!head_check_offloads(&g->head))
		c->n_malformed++;
	else if (!classify(g))
		c->n_vlan++;
	else if (!is_genuine(f, g))
		c->n_forged++;
	else
		forward(f, g);
}

static uint32_t drain_queue(struct fabric *f, struct port *from, uint32_t queue)
{
	struct lane *in = &from->in[queue];
	struct passage g;
	uint32_t n = 0, len;
	const uint8_t *record;

	g.from = from;
	g.queue = queue;
	g.n_bytes = 0;
	while (n < FABRIC_BATCH && g.n_bytes < FABRIC_BATCH_LEN &&
	       (record = lane_look(in, &len)) != NULL) {
		pass(f, &g, record, len);
		lane_next(in);
		n++;
	}
	f->more |= n == FABRIC_BATCH || g.n_bytes >= FABRIC_BATCH_LEN;
	from->counters.n_malformed += in->n_resets;
	in->n_resets = 0;
	return n;
}

/* A frame of the stream lies unaligned: it is moved to where head_load may read whole blocks. */
static uint32_t drain_stream(struct fabric *f, struct port *from)
{
	struct passage g;
	uint32_t n = 0, len;
	enum stream_verdict v = STREAM_OK;

	g.from = from;
	g.queue = 0;
	g.n_bytes = 0;
	while (n < FABRIC_BATCH && g.n_bytes < FABRIC_BATCH_LEN && !from->stream_ended) {
		const void *record;

		v = stream_look(from->stream, &record, &len);
		if (v == STREAM_OK) {
			pass(f, &g, record, len);
			stream_next(from->stream);
			n++;
			continue;
		}
		if (v == STREAM_AGAIN)
			v = stream_receive(from->stream);
		if (v != STREAM_OK)
			break;
	}
	from->stream_readable = v == STREAM_OK && !from->stream_ended;
	if (v == STREAM_ENDED || v == STREAM_BAD_LEN)
		from->stream_ended = true;
	return n;
}

static uint32_t drain_port(struct fabric *f, struct port *from)
{
	uint32_t n = 0;

	if (port_is_stream(from)) {
		if (!from->stream_readable)
			return 0;
		return drain_stream(f, from);
	}
	for (uint32_t q = 0; q < from->n_queues; q++)
		n += drain_queue(f, from, q);
	return n;
}

/* After what was taken is visible elsewhere, its place is free. */
static void settle(struct fabric *f, bool more)
{
	struct port *p;

	fabric_for_each(f, p) if (p->unseen | p->uncalled) port_publish(p, more);
	fabric_for_each(f, p) for (uint32_t q = 0; q < p->n_queues;
				   q++) if (p->in[q].at != p->released[q]) port_release(p, q);
}

uint32_t fabric_turn(struct fabric *f, uint32_t now_s)
{
	struct port *p;
	uint32_t n = 0;

	f->now_s = now_s;
	if (now_s - f->aged_s >= FABRIC_AGE_EVERY_S) {
		table_age(&f->table, now_s);
		f->aged_s = now_s;
	}
	f->more = false;
	fabric_for_each(f, p) n += drain_port(f, p);
	settle(f, f->more);
	return n;
}
