/* The session: load, and the steps of a request. See session.h. */
#include "devices/vhost/session.h"

#include <assert.h>
#include <string.h>

#include "devices/base/crash.h"
#include "devices/base/fd.h"
#include "devices/base/log.h"
#include "devices/vhost/request.h"
#include "devices/virtio/feature.h"

const char *session_verdict_to_string(enum session_verdict v)
{
	static const char *const names[] = {
		[SESSION_OK] = "ok",
		[SESSION_CLOSED] = "the front-end has closed the connection",
		[SESSION_MESSAGE] = "not a vhost-user message",
		[SESSION_UNKNOWN] = "unknown request",
		[SESSION_SIZE] = "payload size does not fit the request",
		[SESSION_FDS] = "number of file descriptors does not fit the request",
		[SESSION_PHASE] = "request not allowed now",
		[SESSION_FEATURE] = "request belongs to a feature that was not negotiated",
		[SESSION_VALUE] = "value out of range",
		[SESSION_MEMORY] = "memory region cannot be used",
		[SESSION_REFUSED] = "request cannot be fulfilled",
		[SESSION_DECLINED] = "request declined",
	};

	_Static_assert(sizeof(names) / sizeof(*names) == SESSION_DECLINED + 1, "a name for each");
	return names[v];
}

static void slot_reset(struct image_store *store, uint32_t i)
{
	message_rx_reset(&store->rx[i]);
	message_tx_reset(&store->tx[i]);
}

void session_store_init(struct image_store *store, struct device *device)
{
	memset(store, 0, sizeof(*store));
	for (uint32_t i = 0; i < 2; i++) {
		image_init(&store->image[i]);
		device->ops->reset(device, &store->image[i]);
		slot_reset(store, i);
	}
}

static bool map_memory(struct session *s, const struct image *im)
{
	for (uint32_t i = 0; i < im->n_regions; i++) {
		const struct image_region *r = &im->regions[i];

		if (memory_add(s->memory, (struct guest_addr){ r->guest },
			       (struct user_addr){ r->user }, r->size, r->offset,
			       r->fd) != MEMORY_OK)
			return false;
	}
	s->memory->log.all = feature_has(im->features, FEATURE_VHOST_LOG_ALL);
	if (im->log_fd == IMAGE_NO_FD)
		return true;
	return memory_log_set(s->memory, im->log_len, im->log_offset, im->log_fd) == MEMORY_OK;
}

static bool slot_good(struct session *s, uint32_t i)
{
	struct message_rx *rx = &s->store->rx[i];

	if (!message_rx_recover(rx) || !message_tx_recover(&s->store->tx[i]))
		return false;
	for (uint32_t n = 0; n < rx->part.n_fds; n++)
		if (rx->fds[n] < s->limits.fd_min || rx->fds[n] >= s->limits.fd_limit)
			return false;
	return true;
}

enum session_loaded session_load(struct session *s, struct image_store *store,
				 struct device *device, struct memory *memory, int fd_min,
				 int fd_limit)
{
	*s = (struct session){
		.store = store,
		.device = device,
		.memory = memory,
		.limits = { .n_vrings = device->n_queues,
			    .max_size = device->queue_size,
			    .fd_min = fd_min,
			    .fd_limit = fd_limit,
			    .features = device->features | FEATURE_VHOST_LOG_ALL |
					FEATURE_VHOST_PROTOCOL_FEATURES,
			    .protocol_features = session_protocol_features(device) },
	};
	/* The image that is not current may be half written: it is never read. */
	s->current = __atomic_load_n(&store->current, __ATOMIC_ACQUIRE);
	if (s->current > 1 || !slot_good(s, s->current))
		return SESSION_UNUSABLE;
	s->image = store->image[s->current];
	if (!image_check(&s->image, &s->limits))
		return SESSION_UNUSABLE;
	return map_memory(s, session_image(s)) ? SESSION_LOADED : SESSION_MEMORY_GONE;
}

/* The image and slots that the next commit makes current, as a copy of today's. */
static struct image *begin(struct session *s)
{
	s->next = s->image;
	slot_reset(s->store, 1 - s->current);
	s->n_closing = 0;
	CRASH_POINT("session.begun");
	return &s->next;
}

static void commit(struct session *s)
{
	s->current = 1 - s->current;
	s->image = s->next;
	s->store->image[s->current] = s->next;
	CRASH_POINT("session.prepared");
	__atomic_store_n(&s->store->current, s->current, __ATOMIC_RELEASE);
	CRASH_POINT("session.committed");
}

static void close_later_ones(struct session *s)
{
	for (uint32_t i = 0; i < s->n_closing; i++)
		fd_close(s->closing[i]);
	s->n_closing = 0;
	CRASH_POINT("session.closed");
}

void session_connect(struct session *s, int socket)
{
	struct image *im = begin(s);

	assert(im->connection == IMAGE_NO_FD);
	im->connection = socket;
	commit(s);
}

/*
 * vhost-user.rst, REPLY_ACK: has the front-end asked for an ack, where there is no reply? User Mode
 * Linux does with the very request that acknowledges REPLY_ACK: im is what it has led to.
 */
static bool wants_ack(const struct image *im, const struct request_row *row,
		      const struct message *m)
{
	return row && row->reply == REQUEST_ACK && m->header.flags & PROTO_FLAG_NEED_REPLY &&
	       im->protocol_features & PROTO_F_REPLY_ACK;
}

/* Make the next image by the row's handler, with the ack. A refusal changes nothing. */
static enum session_verdict handle(struct request *r, const struct request_row *row)
{
	struct session *s = r->session;
	enum session_verdict v = row->handle(r);
	bool ack = wants_ack(r->next, row, r->message);

	if (v == SESSION_REFUSED || v == SESSION_DECLINED) {
		r->next = begin(s);
		if (ack || v == SESSION_DECLINED) {
			log_debug("request %s: declined: %s", row->name,
				  s->detail ? s->detail : "it cannot be fulfilled");
			if (ack)
				request_answer_u64(r, 1);
			return SESSION_OK;
		}
	}
	if (v == SESSION_OK && ack)
		request_answer_u64(r, 0);
	return v;
}

/*
 * The session ends by this request; who waits for an ack gets one. It is part of no image: a
 * successor would find the request again, and end the session by it again.
 */
static void last_words(struct session *s, const struct request_row *row, const struct message *m)
{
	struct message_tx tx;
	uint64_t failed = 1;

	if (!wants_ack(session_image(s), row, m))
		return;
	message_tx_reset(&tx);
	message_reply(&tx, m, &failed, sizeof(failed), IMAGE_NO_FD);
	(void)message_send(&tx, session_image(s)->connection);
}

static enum session_verdict run(struct session *s, const struct request_row *row,
				const struct message *m)
{
	struct request r = { .session = s, .message = m };
	struct device *d = s->device;
	enum session_verdict v;

	s->last_request = m->header.request;
	s->detail = NULL;
	if (!row)
		return SESSION_UNKNOWN;
	v = request_check(row, m, session_image(s));
	if (v == SESSION_PHASE)
		s->detail = "SET_FEATURES has to come first";
	if (v != SESSION_OK)
		return v;
	if (row->still != DEVICE_RUNNING)
		d->ops->still(d, row->still);
	memcpy(r.fds, m->fds, sizeof(r.fds));
	r.next = begin(s);
	r.tx = &s->store->tx[1 - s->current];
	v = handle(&r, row);
	if (v != SESSION_OK)
		return v;
	for (uint32_t i = 0; i < m->n_fds; i++)
		request_close_later(&r, r.fds[i]);
	commit(s);
	if (row->still != DEVICE_RUNNING)
		d->ops->apply(d, session_image(s));
	return SESSION_OK;
}

static enum session_verdict send_reply(struct session *s, bool *ret_blocked)
{
	struct message_tx *tx = &s->store->tx[s->current];
	enum message_verdict v = message_send(tx, session_image(s)->connection);

	*ret_blocked = v == MESSAGE_AGAIN;
	return v == MESSAGE_CLOSED ? SESSION_CLOSED : SESSION_OK;
}

static enum session_verdict receive(struct session *s, struct message *m, bool *ret_again)
{
	struct message_rx *rx = &s->store->rx[s->current];
	enum message_verdict v = message_receive(rx, session_image(s)->connection, m);

	*ret_again = v == MESSAGE_AGAIN;
	if (v == MESSAGE_CLOSED)
		return SESSION_CLOSED;
	if (v == MESSAGE_OK || v == MESSAGE_AGAIN)
		return SESSION_OK;
	s->detail = message_verdict_to_string(v);
	return SESSION_MESSAGE;
}

enum session_verdict session_step(struct session *s, bool *ret_blocked)
{
	enum { BURST = 16 };

	for (int i = 0; i < BURST; i++) {
		const struct request_row *row;
		struct message m;
		bool again;
		enum session_verdict v = send_reply(s, ret_blocked);

		if (v != SESSION_OK || *ret_blocked)
			return v;
		v = receive(s, &m, &again);
		if (v != SESSION_OK || again)
			return v;
		row = request_find(m.header.request);
		v = run(s, row, &m);
		if (v != SESSION_OK) {
			last_words(s, row, &m);
			return v;
		}
		v = send_reply(s, ret_blocked);
		close_later_ones(s);
		if (v != SESSION_OK || *ret_blocked)
			return v;
	}
	return SESSION_OK;
}

void session_for_each_fd(const struct session *s, void (*fn)(int fd, void *arg), void *arg)
{
	const struct message_rx *rx = &s->store->rx[s->current];

	uint32_t n_fds = __atomic_load_n(&rx->part.n_fds, __ATOMIC_RELAXED);

	image_for_each_fd(session_image(s), fn, arg);
	for (uint32_t i = 0; i < n_fds && i < PROTO_FDS_MAX; i++)
		fn(rx->fds[i], arg);
}
