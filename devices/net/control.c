/* What the driver has asked for by the control queue. See control.h. */
#include "devices/net/control.h"

#include <string.h>

#include "devices/base/crash.h"
#include "devices/net/host.h"
#include "devices/virtio/iov.h"

enum {
	CLASS_RX = 0,
	CLASS_MAC = 1,
	CLASS_VLAN = 2,
	CLASS_ANNOUNCE = 3,
	CLASS_MQ = 4,
	CLASS_OFFLOADS = 5,
	RX_ALLMULTI = 1,
	RX_NOBCAST = 5,
	MAC_TABLE_SET = 0,
	MAC_ADDR_SET = 1,
	VLAN_ADD = 0,
	VLAN_DEL = 1,
	VLAN_LIMIT = 4096,
	HEADER_LEN = 2, /* class and command */
};

/* One command on its way in. */
struct command {
	const struct control_rules *rules;
	const struct iovec *iov;
	uint32_t n_iov;
	uint32_t len; /* of the data behind the header */
	uint8_t number;
};

static bool read_data(const struct command *c, uint32_t offset, void *ret, uint32_t len)
{
	return offset <= c->len && c->len - offset >= len &&
	       iov_read(c->iov, c->n_iov, HEADER_LEN + offset, ret, len) == len;
}

bool control_check(const struct control_store *s, uint32_t max_pairs)
{
	const struct control_state *c = &s->slot[s->current & 1];

	return s->current <= 1 && c->pairs <= max_pairs && c->unicast.n <= CONTROL_MAX_MACS &&
	       c->multicast.n <= CONTROL_MAX_MACS;
}

static struct control_state *begin(struct control_store *s)
{
	struct control_state *next = &s->slot[1 - (s->current & 1)];

	*next = s->slot[s->current & 1];
	return next;
}

static void commit(struct control_store *s)
{
	CRASH_POINT("net.control.prepared");
	__atomic_store_n(&s->current, 1 - (s->current & 1), __ATOMIC_RELEASE);
	CRASH_POINT("net.control.committed");
}

void control_reset(struct control_store *s, uint32_t pairs)
{
	struct control_state *next = begin(s);

	*next = (struct control_state){ .pairs = pairs };
	commit(s);
}

static bool rx_command(const struct command *c, struct control_state *next)
{
	uint8_t *const modes[] = { &next->promisc, &next->allmulti, &next->alluni,
				   &next->nomulti, &next->nouni,    &next->nobcast };
	uint8_t on;

	if (c->len != 1 || !read_data(c, 0, &on, 1) || on > 1)
		return false;
	*modes[c->number] = on;
	next->filters = 1;
	return true;
}

/* One table at *offset, which moves behind it. */
static bool read_macs(const struct command *c, uint32_t *offset, struct control_macs *ret)
{
	uint32_t n;

	if (!read_data(c, *offset, &n, sizeof(n)))
		return false;
	*offset += (uint32_t)sizeof(n);
	if (n > (c->len - *offset) / NET_MAC_LEN)
		return false;
	ret->n = n < CONTROL_MAX_MACS ? n : CONTROL_MAX_MACS;
	ret->overflow = n > CONTROL_MAX_MACS;
	if (!read_data(c, *offset, ret->mac, ret->n * NET_MAC_LEN))
		return false;
	*offset += n * NET_MAC_LEN;
	return true;
}

static bool set_mac(const struct command *c, struct control_state *next)
{
	uint8_t mac[NET_MAC_LEN];

	if (c->len != sizeof(mac) || !read_data(c, 0, mac, sizeof(mac)) || (mac[0] & 1))
		return false;
	if (c->rules->bound_mac && memcmp(mac, c->rules->bound_mac, sizeof(mac)) != 0)
		return false;
	memcpy(next->mac, mac, sizeof(mac));
	next->mac_set = 1;
	return true;
}

static bool mac_table_command(const struct command *c, struct control_state *next)
{
	uint32_t offset = 0;

	next->filters = 1;
	return read_macs(c, &offset, &next->unicast) && read_macs(c, &offset, &next->multicast) &&
	       offset == c->len;
}

static bool vlan_command(const struct command *c, struct control_state *next)
{
	uint16_t id;

	if (c->len != sizeof(id) || !read_data(c, 0, &id, sizeof(id)) || id >= VLAN_LIMIT)
		return false;
	if (c->number == VLAN_ADD)
		next->vlans[id / 64] |= UINT64_C(1) << (id % 64);
	else
		next->vlans[id / 64] &= ~(UINT64_C(1) << (id % 64));
	return true;
}

static bool announce_command(const struct command *c, struct control_state *next)
{
	return true;
}

static bool mq_command(const struct command *c, struct control_state *next)
{
	uint16_t pairs;

	if (c->len != sizeof(pairs) || !read_data(c, 0, &pairs, sizeof(pairs)) || pairs == 0 ||
	    pairs > c->rules->max_pairs)
		return false;
	next->pairs = pairs;
	return true;
}

static bool offloads_command(const struct command *c, struct control_state *next)
{
	uint64_t bits;

	if (c->len != sizeof(bits) || !read_data(c, 0, &bits, sizeof(bits)) ||
	    (bits & ~(c->rules->features & NET_F_GUEST_OFFLOADS)))
		return false;
	next->offloads = bits;
	next->offloads_set = 1;
	return true;
}

/* VIRTIO 1.3 §5.1.6.5; the last number of each row's commands, which begin behind the row before. */
static const struct control_row {
	uint8_t class, last;
	uint64_t feature;
	bool (*run)(const struct command *c, struct control_state *next);
} rows[] = {
	{ CLASS_RX, RX_ALLMULTI, NET_F_CTRL_RX, rx_command },
	{ CLASS_RX, RX_NOBCAST, NET_F_CTRL_RX_EXTRA, rx_command },
	{ CLASS_MAC, MAC_TABLE_SET, NET_F_CTRL_RX, mac_table_command },
	{ CLASS_MAC, MAC_ADDR_SET, NET_F_CTRL_MAC_ADDR, set_mac },
	{ CLASS_VLAN, VLAN_DEL, NET_F_CTRL_VLAN, vlan_command },
	{ CLASS_ANNOUNCE, 0, NET_F_GUEST_ANNOUNCE, announce_command },
	{ CLASS_MQ, 0, NET_F_MQ, mq_command },
	{ CLASS_OFFLOADS, 0, NET_F_CTRL_GUEST_OFFLOADS, offloads_command },
};

static const struct control_row *row_of(const uint8_t header[HEADER_LEN])
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (rows[i].class == header[0] && header[1] <= rows[i].last)
			return &rows[i];
	return NULL;
}

uint8_t control_command(struct control_store *s, const struct control_rules *rules,
			const struct iovec *iov, uint32_t n, uint32_t len)
{
	struct command c = { .rules = rules, .iov = iov, .n_iov = n };
	const struct control_row *row;
	uint8_t header[HEADER_LEN];

	if (len < HEADER_LEN || iov_read(iov, n, 0, header, HEADER_LEN) != HEADER_LEN)
		return CONTROL_ERR;
	c.len = len - HEADER_LEN;
	c.number = header[1];
	row = row_of(header);
	if (!row || !(rules->features & row->feature) || !row->run(&c, begin(s)))
		return CONTROL_ERR;
	commit(s);
	return CONTROL_OK;
}

static bool has_mac(const struct control_macs *macs, const uint8_t *mac)
{
	for (uint32_t i = 0; i < macs->n; i++)
		if (memcmp(macs->mac[i], mac, NET_MAC_LEN) == 0)
			return true;
	return macs->overflow;
}

static bool accepts_address(const struct control_state *c, const uint8_t *own, const uint8_t *mac)
{
	static const uint8_t broadcast[NET_MAC_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (memcmp(mac, broadcast, NET_MAC_LEN) == 0)
		return !c->nobcast;
	if (mac[0] & 1)
		return !c->nomulti && (c->allmulti || has_mac(&c->multicast, mac));
	if (c->nouni)
		return false;
	return c->alluni || memcmp(mac, c->mac_set ? c->mac : own, NET_MAC_LEN) == 0 ||
	       has_mac(&c->unicast, mac);
}

static bool accepts_vlan(const struct control_state *c, const uint8_t *head, uint32_t len)
{
	uint16_t type = frame_u16(head + NET_ETH_LEN - 2), id;

	if ((type != FRAME_VLAN && type != FRAME_QINQ) || len < NET_ETH_LEN + 2)
		return true;
	id = frame_u16(head + NET_ETH_LEN) & (VLAN_LIMIT - 1);
	return c->vlans[id / 64] >> (id % 64) & 1;
}

bool control_accepts(const struct control_state *c, uint64_t features, const uint8_t *mac,
		     const uint8_t *head, uint32_t len)
{
	if (!c->filters || c->promisc)
		return true;
	return accepts_address(c, mac, head) &&
	       (!feature_has(features, NET_F_CTRL_VLAN) || accepts_vlan(c, head, len));
}
