/* The network device model. See net.h. */
#include "devices/net/net.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/base/crash.h"
#include "devices/net/net-private.h"
#include "devices/process/contract.h"
#include "devices/process/worker.h"
#include "devices/virtio/iov.h"

enum {
	NS_PER_S = 1000000000,
	DROPS_TOLD = 5,		   /* records about dropped frames, a pair and minute */
	NET_CONTROL_SEGMENTS = 64, /* descriptors of a command */
	IMAGE_MTU = 0,		   /* image.device[0..1]: as NET_SET_MTU said; 0: our own */
};

static struct net the_net;

static struct net *net_of(struct device *d)
{
	return (struct net *)(void *)d;
}

void *net_room(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void net_drop(struct net_pair *p, enum net_drop drop, const char *why)
{
	uint32_t n_dropped;

	p->counters->dropped[drop]++;
	if (log_rate_pass(&p->drop_rate, &n_dropped))
		log_notice("a frame %s is dropped: %s%s",
			   drop < NET_DROP_HOST ? "from the guest" : "for the guest", why,
			   n_dropped ? " (and others before)" : "");
}

/* Configuration space */

static uint32_t mtu_of(const struct net *net, const struct image *im)
{
	uint16_t told;

	memcpy(&told, &im->device[IMAGE_MTU], sizeof(told));
	return told ? told : net->config.mtu;
}

static void config_read(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
			uint8_t *ret_bytes)
{
	const struct net *net = net_of(d);
	struct net_config_space c = { .status = NET_STATUS_LINK_UP,
				      .max_pairs = (uint16_t)net->n_pairs,
				      .mtu = (uint16_t)mtu_of(net, im),
				      .speed = net->config.speed,
				      .duplex = NET_DUPLEX_FULL };

	memcpy(c.mac, net->config.mac, sizeof(c.mac));
	memcpy(ret_bytes, (const uint8_t *)&c + offset, len);
}

/* VIRTIO 1.3 §5.1.4: nothing there is to be written. */
static bool config_write(struct device *d, struct image *im, uint32_t offset, uint32_t len,
			 const uint8_t *bytes)
{
	return false;
}

static void reset(struct device *d, struct image *im)
{
}

static bool mtu_set(struct device *d, struct image *im, uint64_t mtu)
{
	uint32_t max = net_of(d)->config.mtu ? net_of(d)->config.mtu : NET_MTU_MAX;
	uint16_t told = (uint16_t)mtu;

	if (mtu < NET_MTU_MIN || mtu > max)
		return false;
	memcpy(&im->device[IMAGE_MTU], &told, sizeof(told));
	return true;
}

/* A reverse ARP request of the address for itself (RFC 903): bridges learn where it is now. */
static bool announce(struct device *d, const uint8_t mac[6])
{
	uint8_t frame[60] = { [12] = FRAME_RARP >> 8,
			      [13] = FRAME_RARP & 0xff,
			      [15] = 1,
			      [16] = FRAME_IPV4 >> 8,
			      [18] = 6,
			      [19] = 4,
			      [21] = 3 };

	/* Who is held to an address is held to it here too, whoever asks. */
	if (net_of(d)->config.bound && memcmp(mac, net_of(d)->config.mac, 6) != 0)
		return false;
	memset(frame, 0xff, 6);
	memcpy(frame + 6, mac, 6);
	memcpy(frame + 22, mac, 6);
	memcpy(frame + 32, mac, 6);
	tx_own_frame(net_of(d), frame, sizeof(frame));
	return true;
}

/* What has been agreed on */

static struct header_rules rules_out(uint64_t f)
{
	return (struct header_rules){ .csum = feature_has(f, NET_F_CSUM),
				      .tso4 = feature_has(f, NET_F_HOST_TSO4),
				      .tso6 = feature_has(f, NET_F_HOST_TSO6),
				      .ecn = feature_has(f, NET_F_HOST_ECN),
				      .uso4 = feature_has(f, NET_F_HOST_USO),
				      .uso6 = feature_has(f, NET_F_HOST_USO) };
}

static struct header_rules rules_in(uint64_t f)
{
	return (struct header_rules){ .csum = feature_has(f, NET_F_GUEST_CSUM),
				      .tso4 = feature_has(f, NET_F_GUEST_TSO4),
				      .tso6 = feature_has(f, NET_F_GUEST_TSO6),
				      .ecn = feature_has(f, NET_F_GUEST_ECN),
				      .uso4 = feature_has(f, NET_F_GUEST_USO4),
				      .uso6 = feature_has(f, NET_F_GUEST_USO6) };
}

void net_follow_control(struct net *net, struct net_pair *p)
{
	uint32_t seq = __atomic_load_n(&net->control_seq, __ATOMIC_ACQUIRE);

	if (p->control_seen == seq)
		return;
	pthread_mutex_lock(&net->control_lock);
	p->control_seen = __atomic_load_n(&net->control_seq, __ATOMIC_RELAXED);
	p->control = *control_current(&net->store->control);
	pthread_mutex_unlock(&net->control_lock);
	p->in = rules_in(p->control.offloads_set ? net->features & p->control.offloads
						 : net->features);
}

static bool pair_usable(const struct image *im, uint32_t pair)
{
	return im->vrings[2 * pair].started && im->vrings[2 * pair].enabled;
}

/* Pairs that the driver uses: by the control queue where that is ours, else by enabling them. */
static uint32_t n_active(const struct net *net)
{
	uint32_t asked = control_current(&net->store->control)->pairs;

	if (net->control_ours && asked > 0 && asked < net->n_usable)
		return asked;
	return net->n_usable;
}

/*
 * The host side spreads frames over all its queues, whatever the driver uses: those of unused pairs feed
 * the first one.
 */
static uint32_t sources_of(const struct net *net, uint32_t pair, uint32_t active)
{
	uint32_t all = (uint32_t)((UINT64_C(1) << net->n_pairs) - 1);
	uint32_t used = (uint32_t)((UINT64_C(1) << active) - 1);

	if (pair >= active)
		return 0;
	return UINT32_C(1) << pair | (pair == 0 ? all & ~used : 0);
}

static void set_sources(struct net *net, uint32_t pair, uint32_t sources)
{
	struct net_pair *p = &net->pairs[pair];
	uint32_t changed = p->sources ^ sources;

	p->sources = sources;
	for (uint32_t i = 0; i < net->n_pairs; i++) {
		int fd = net->host->side->event_fd(net->host, i);

		if (fd < 0 || !(changed >> i & 1))
			continue;
		if (!(sources >> i & 1))
			thread_unwatch_host(net->threads[pair], fd);
		else if (thread_watch_host(net->threads[pair], fd) < 0)
			log_warning("the host side's queue %u cannot be watched", i);
	}
}

/* Does each pair have the host queues that it is to have? */
static bool pairs_settled(const struct net *net)
{
	uint32_t active = n_active(net);

	for (uint32_t i = 0; i < net->n_pairs; i++)
		if (net->pairs[i].sources != sources_of(net, i, active))
			return false;
	return true;
}

/* Main thread, while no I/O thread runs: a queue has one reader, which has published what it has read. */
static void follow_pairs(struct net *net)
{
	uint32_t active = n_active(net);

	for (uint32_t i = 0; i < net->n_pairs; i++) {
		if (net->pairs[i].sources && !sources_of(net, i, active))
			rx_abandon(net, i);
		set_sources(net, i, sources_of(net, i, active));
	}
}

static void settle(struct device *d)
{
	follow_pairs(net_of(d));
}

static uint32_t count_usable(const struct net *net, const struct image *im)
{
	uint32_t max = feature_has(im->features, NET_F_MQ) ? net->n_pairs : 1, n = 0;

	while (n < max && pair_usable(im, n))
		n++;
	return n;
}

/* VIRTIO 1.3 §5.1.2: it is the last one; behind the first pair if there are no others. */
static uint32_t control_index(const struct net *net, uint64_t features)
{
	return feature_has(features, NET_F_MQ) ? 2 * net->n_pairs : 2;
}

/* VIRTIO 1.3 §5.1.6.5.5: with MQ a driver begins with one pair. */
static void begin_control(struct net *net)
{
	control_reset(&net->store->control, feature_has(net->features, NET_F_MQ) ? 1 : 0);
}

/*
 * A driver that begins finds nothing of another's; a queue that goes on from where it was stopped has the same driver.
 * That it has begun is on record, last: a successor does again what its predecessor may not have done.
 */
static void follow_control(struct net *net, const struct image *im)
{
	const struct image_vring *v = &im->vrings[net->control_ring];

	net->control_ours = v->started;
	if (v->started && !net->store->control_begun && v->base == 0)
		begin_control(net);
	CRASH_POINT("net.control.begun");
	net->store->control_begun = v->started;
}

/* What the host side has kept for nobody is not for the driver that comes. On record like the above. */
static void follow_usable(struct net *net, const struct image *im)
{
	net->n_usable = count_usable(net, im);
	for (uint32_t i = net->store->n_usable; i < net->n_usable; i++)
		rx_flush(net, i);
	net->store->n_usable = net->n_usable;
}

/* Called before the rings follow the image, also by a worker that takes over: it finds what began as it is. */
static void configure(struct device *d, const struct image *im)
{
	struct net *net = net_of(d);

	net->features = im->features;
	net->mergeable = feature_has(im->features, NET_F_MRG_RXBUF);
	net->hdr_len = net->mergeable || feature_has(im->features, FEATURE_VERSION_1)
			       ? NET_HDR_LEN
			       : NET_HDR_LEN_LEGACY;
	net->mtu = feature_has(im->features, NET_F_MTU) ? mtu_of(net, im) : 0;
	net->out = rules_out(im->features);
	net->control_ring = control_index(net, im->features);
	follow_control(net, im);
	follow_usable(net, im);
	net->control_seq++;
	follow_pairs(net);
}

/* Queues */

static void answer(struct thread *t, struct vring *r, const struct chain *c, uint8_t ack)
{
	iov_write(c->iov + c->n_readable, c->n_writable, 0, &ack, sizeof(ack));
	if (memory_logs(r->queue.memory))
		memory_log_host(r->queue.memory, c->iov[c->n_readable].iov_base, sizeof(ack));
	CRASH_POINT("net.control.acknowledged");
	thread_push(t, r, c->head, sizeof(ack));
}

/*
 * VIRTIO 1.3 §5.1.6.5.6.1: once it is answered that there are to be fewer pairs, nothing comes in the others any more. Until
 * their threads stand still, it is not.
 */
static void obey(struct net *net, struct thread *t, struct vring *r, const struct chain *c)
{
	struct control_rules rules = { .features = net->features,
				       .max_pairs = net->n_pairs,
				       .bound_mac = net->config.bound ? net->config.mac : NULL };
	uint8_t ack;

	if (c->writable_len < sizeof(ack)) {
		thread_push(t, r, c->head, 0);
		return;
	}
	pthread_mutex_lock(&net->control_lock);
	ack = control_command(&net->store->control, &rules, c->iov, c->n_readable, c->readable_len);
	__atomic_add_fetch(&net->control_seq, 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&net->control_lock);
	if (pairs_settled(net)) {
		answer(t, r, c, ack);
		return;
	}
	net->unanswered.there = true;
	net->unanswered.head = c->head;
	worker_ask_settle(t->worker);
}

/* What was left unanswered was right; its chain is loaded again, as memory may have moved meanwhile. */
static void answer_late(struct net *net, struct thread *t, struct vring *r)
{
	struct iovec iov[NET_CONTROL_SEGMENTS];
	struct chain c = { .iov = iov, .iov_max = NET_CONTROL_SEGMENTS };
	uint16_t head = net->unanswered.head;

	net->unanswered.there = false;
	thread_take_up(t, r, head);
	if (queue_load_again(&r->queue, head, &c) == QUEUE_OK && c.writable_len > 0)
		answer(t, r, &c, CONTROL_OK);
	else
		thread_push(t, r, head, 0);
	thread_set_down(t);
}

/* An acknowledgement is what the driver spins for: one command a turn. */
static uint32_t take_control(struct net *net, struct thread *t, struct vring *r)
{
	struct iovec iov[NET_CONTROL_SEGMENTS];
	struct chain c = { .iov = iov, .iov_max = NET_CONTROL_SEGMENTS };

	if (net->unanswered.there && !pairs_settled(net))
		return 0;
	if (net->unanswered.there) {
		answer_late(net, t, r);
		return 1;
	}
	if (queue_pop(&r->queue, &c) != QUEUE_OK)
		return 0;
	thread_taken(t, r);
	thread_take_up(t, r, c.head);
	obey(net, t, r, &c);
	thread_set_down(t);
	return 1;
}

static void resubmit_control(struct net *net, struct thread *t, struct vring *r, uint16_t head)
{
	struct iovec iov[NET_CONTROL_SEGMENTS];
	struct chain c = { .iov = iov, .iov_max = NET_CONTROL_SEGMENTS };

	if (net->unanswered.there)
		answer_late(net, t, r);
	thread_take_up(t, r, head);
	if (queue_load_again(&r->queue, head, &c) == QUEUE_OK)
		obey(net, t, r, &c);
	else
		thread_push(t, r, head, 0);
	thread_set_down(t);
}

static uint32_t take(struct device *d, struct thread *t, struct vring *r)
{
	struct net *net = net_of(d);

	switch (net_role(net, r)) {
	case NET_ROLE_CONTROL:
		return take_control(net, t, r);
	case NET_ROLE_RX:
		return rx_take(net, t, r);
	case NET_ROLE_TX:
		return tx_take(net, t, r);
	case NET_ROLE_NONE:
		break;
	}
	return 0;
}

static uint32_t discard(struct device *d, struct thread *t, struct vring *r)
{
	struct net *net = net_of(d);

	return net_role(net, r) == NET_ROLE_TX ? tx_discard(net, t, r) : 0;
}

static bool wants(struct device *d, const struct thread *t, const struct vring *r)
{
	const struct net *net = net_of(d);

	enum net_role role = net_role(net, r);

	if (role == NET_ROLE_CONTROL)
		return !net->unanswered.there;
	return role != NET_ROLE_NONE && !net->pairs[r->index / 2].waiting[r->index % 2];
}

/* Frames that have come for the pair, room that it was out of. */
static bool pair_pending(const struct net *net, const struct net_pair *p, uint32_t pair,
			 bool sleeps)
{
	const struct host_side *side = net->host->side;
	uint32_t sources = p->sources;

	for (; p->wants_frame && sources; sources &= sources - 1) {
		uint32_t queue = (uint32_t)__builtin_ctz(sources);

		if (sleeps && side->await_frame
			    ? !side->await_frame(net->host, queue)
			    : side->has_frame && side->has_frame(net->host, queue))
			return true;
	}
	return p->wants_room && sleeps && side->await_room && !side->await_room(net->host, pair);
}

/* Also of a queue that has been stopped. */
static void flush(const struct net *net, const struct thread *t)
{
	for (uint32_t i = 0; net->host->side->flush && i < t->n_vrings; i++)
		if (t->vrings[i]->index < 2 * net->n_pairs && !net_is_rx(t->vrings[i]->index))
			net->host->side->flush(net->host, t->vrings[i]->index / 2);
}

static bool pending(struct device *d, const struct thread *t, bool sleeps)
{
	const struct net *net = net_of(d);

	if (sleeps)
		flush(net, t);
	for (uint32_t i = 0; i < t->n_vrings; i++) {
		const struct vring *r = t->vrings[i];

		if (r->attached && r->enabled && net_role(net, r) == NET_ROLE_RX &&
		    pair_pending(net, &net->pairs[r->index / 2], r->index / 2, sleeps))
			return true;
	}
	return false;
}

static void published(struct device *d, struct thread *t)
{
	struct net *net = net_of(d);

	for (uint32_t i = 0; i < t->n_vrings; i++) {
		enum net_role role = net_role(net, t->vrings[i]);

		if (role == NET_ROLE_RX)
			rx_published(net, t->vrings[i]->index / 2);
		else if (role == NET_ROLE_TX)
			tx_published(&net->pairs[t->vrings[i]->index / 2]);
	}
}

static void give_up(struct device *d, struct thread *t)
{
	for (uint32_t i = 0; i < t->n_vrings; i++) {
		struct vring *r = t->vrings[i];

		if (r->attached && net_role(net_of(d), r) == NET_ROLE_TX)
			tx_give_up(net_of(d), t, r);
		/* The main thread waits for us, and settles nothing. */
		if (r->attached && net_role(net_of(d), r) == NET_ROLE_CONTROL &&
		    net_of(d)->unanswered.there)
			answer_late(net_of(d), t, r);
	}
}

static void ring_attached(struct device *d, struct thread *t, struct vring *r)
{
	struct net *net = net_of(d);

	enum net_role role = net_role(net, r);

	if (role == NET_ROLE_TX)
		tx_attached(net, r);
	else if (role == NET_ROLE_RX)
		rx_attached(net, t, r);
	else if (role == NET_ROLE_CONTROL)
		net->unanswered.there = false;
}

static void resubmit(struct device *d, struct thread *t, struct vring *r, uint16_t head)
{
	struct net *net = net_of(d);

	enum net_role role = net_role(net, r);

	if (role == NET_ROLE_CONTROL)
		resubmit_control(net, t, r, head);
	else if (role == NET_ROLE_TX)
		tx_resubmit(net, t, r, head);
	else
		thread_push(t, r, head, 0);
}

static void poison(struct device *d, struct thread *t, struct vring *r, uint16_t head)
{
	thread_push(t, r, head, 0);
}

/* Set-up */

static int pair_init(struct net *net, struct thread *t, uint32_t i)
{
	struct net_pair *p = &net->pairs[i];

	net->threads[i] = t;
	p->tx = tx_new();
	p->rx = rx_new();
	p->drop_rate =
		(struct log_rate){ .interval_ns = UINT64_C(60) * NS_PER_S, .burst = DROPS_TOLD };
	return p->tx && p->rx ? 0 : -ENOMEM;
}

static int thread_init(struct device *d, struct thread *t)
{
	struct net *net = net_of(d);
	int r = 0;

	for (uint32_t i = 0; i < t->n_vrings && r == 0; i++)
		if (t->vrings[i]->index < 2 * net->n_pairs && net_is_rx(t->vrings[i]->index))
			r = pair_init(net, t, t->vrings[i]->index / 2);
	return r;
}

static int thread_open_side(struct device *d, struct thread *t)
{
	struct net *net = net_of(d);

	batch_open(&net->batches[t->index], net->host, net->opcodes);
	return 0;
}

static int attach(struct device *d, void *state)
{
	struct net *net = net_of(d);

	net->store = state;
	if (!control_check(&net->store->control, net->n_pairs) ||
	    net->store->n_usable > net->n_pairs)
		return -EBADMSG;
	for (uint32_t i = 0; i < net->n_pairs; i++) {
		net->pairs[i].counters = &net->store->counters[i];
		net->pairs[i].again = &net->store->again[i];
		net->pairs[i].given = net->host->side->received ? NULL : &net->store->given[i];
	}
	if (net->host->side->begin)
		net->host->side->begin(net->host);
	return 0;
}

static void for_each_fd(struct device *d, void (*found)(int fd, void *arg), void *arg)
{
	struct host *host = net_of(d)->host;

	if (host->side->for_each_fd)
		host->side->for_each_fd(host, found, arg);
}

static const struct uring_spec *uring_spec(struct device *d, bool aside)
{
	return NULL;
}

static const struct model_ops net_ops = {
	.config_read = config_read,
	.config_write = config_write,
	.reset = reset,
	.mtu_set = mtu_set,
	.announce = announce,
	.attach = attach,
	.for_each_fd = for_each_fd,
	.configure = configure,
	.settle = settle,
	.thread_init = thread_init,
	.thread_open = thread_open_side,
	.ring_attached = ring_attached,
	.take = take,
	.discard = discard,
	.wants = wants,
	.pending = pending,
	.published = published,
	.give_up = give_up,
	.resubmit = resubmit,
	.poison = poison,
	.uring_spec = uring_spec,
};

uint64_t net_state_len(void)
{
	return sizeof(struct net_store);
}

uint32_t net_thread_of(uint32_t ring, uint32_t n_rings, uint32_t n_threads)
{
	return ring == n_rings - 1 ? 0 : ring / 2 % n_threads;
}

static uint64_t features(const struct net *net)
{
	uint64_t f = FEATURE_VERSION_1 | FEATURE_RING_EVENT_IDX | FEATURE_RING_INDIRECT_DESC |
		     NET_F_MAC | NET_F_STATUS | NET_F_MRG_RXBUF | NET_F_SPEED_DUPLEX |
		     NET_F_GUEST_ANNOUNCE | NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_RX_EXTRA |
		     NET_F_CTRL_VLAN | NET_F_CTRL_MAC_ADDR | net->host->features;

	if (net->host->features & NET_F_GUEST_OFFLOADS)
		f |= NET_F_CTRL_GUEST_OFFLOADS;

	if (net->config.mtu)
		f |= NET_F_MTU;
	if (net->n_pairs > 1)
		f |= NET_F_MQ;
	return f;
}

struct model *net_create(void *config, const struct options *o)
{
	struct net *net = &the_net;
	const struct host_side *side;

	net->config = *(const struct net_config *)config;
	net->filter.bound = net->config.bound;
	net->filter.n_addresses = net->config.n_addresses;
	memcpy(net->filter.addresses, net->config.addresses, sizeof(net->filter.addresses));
	memcpy(net->filter.mac, net->config.mac, sizeof(net->filter.mac));
	net->n_pairs = net_n_pairs(o);
	net->opcodes = o->no_io_uring ? 0 : o->uring_opcodes;
	net->config.host.n_queues = net->n_pairs;
	if (net->config.n_addresses > 0 && !net->config.bound) {
		log_error("--address needs --mac-filter with it (see --help)");
		return NULL;
	}
	side = host_side_find(net->config.host.side);
	net->host = side ? side->open(&net->config.host) : NULL;
	if (!net->host)
		return NULL;
	pthread_mutex_init(&net->control_lock, NULL);
	throttle_init(&net->sending, net->config.iops, net->config.bandwidth);
	throttle_init(&net->receiving, net->config.iops, net->config.bandwidth);
	net->model = (struct model){
		.device = { .features = features(net),
			    .protocol_features = PROTO_F_NET_MTU | PROTO_F_RARP,
			    .regions_repeated = true,
			    .n_queues = o->queues,
			    .queue_size = o->queue_size,
			    .config_len = sizeof(struct net_config_space) },
		.ops = &net_ops,
	};
	return &net->model;
}
