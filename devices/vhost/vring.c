/*
 * Requests about one ring: geometry, descriptors, start, stop, enable (vhost-user.rst "Ring
 * states").
 *
 * Runs in: worker's main thread. Trusts: nothing in the payload beyond what the request table
 * checked.
 *
 * A ring starts when SET_VRING_KICK comes and stops with GET_VRING_BASE. User Mode Linux never
 * sends the latter: it disables the ring and sets it up anew. So SET_VRING_NUM, SET_VRING_BASE and
 * SET_INFLIGHT_FD stop a ring that is disabled, and are refused on one that runs; SET_VRING_ADDR
 * stops one that is disabled if it puts the ring elsewhere.
 */
#include "devices/vhost/request.h"
#include "devices/virtio/feature.h"
#include "devices/virtio/queue.h"
#include "devices/virtio/ring.h"

static struct image_vring *vring_at(struct request *r, uint64_t index)
{
	if (index >= r->session->device->n_queues) {
		r->session->detail = "no such ring";
		return NULL;
	}
	return &r->next->vrings[index];
}

/* By whatever it is stopped: a front-end may ask later where it stood (GET_VRING_BASE). */
static void vring_stop(struct request *r, struct image_vring *v)
{
	struct device *d = r->session->device;

	if (v->started)
		v->base = d->ops->ring_base(d, (uint32_t)(v - r->next->vrings));
	v->started = 0;
}

void vring_stop_all(struct request *r)
{
	struct image *im = r->next;
	bool start_enabled = !feature_has(im->features, FEATURE_VHOST_PROTOCOL_FEATURES);

	for (uint32_t i = 0; i < IMAGE_MAX_VRINGS; i++) {
		vring_stop(r, &im->vrings[i]);
		im->vrings[i].enabled = start_enabled && im->features_set;
	}
}

/* A ring that may be set up: stopped, or stopped now because it is disabled. */
static bool vring_setting_up(struct request *r, struct image_vring *v)
{
	if (v->started && v->enabled) {
		r->session->detail = "the ring is running";
		return false;
	}
	vring_stop(r, v);
	return true;
}

bool vring_setting_up_all(struct request *r)
{
	for (uint32_t i = 0; i < r->session->device->n_queues; i++)
		if (!vring_setting_up(r, &r->next->vrings[i]))
			return false;
	return true;
}

enum session_verdict vring_num_set(struct request *r)
{
	const struct proto_vring_state *p = &r->message->payload.state;
	struct image_vring *v = vring_at(r, p->index);

	if (!v)
		return SESSION_VALUE;
	if (!ring_size_ok(p->num) || p->num > r->session->device->queue_size) {
		r->session->detail =
			"ring size is no power of 2 or larger than the device's queue-size";
		return SESSION_VALUE;
	}
	if (v->started && v->size == p->num)
		return SESSION_OK;
	if (!vring_setting_up(r, v))
		return SESSION_PHASE;
	v->size = p->num;
	return SESSION_OK;
}

/* On a started ring: QEMU sends it again to turn logging of the used ring on and off. */
enum session_verdict vring_addr_set(struct request *r)
{
	const struct proto_vring_addr *p = &r->message->payload.addr;
	struct image_vring *v = vring_at(r, p->index);

	if (!v || (p->flags & ~PROTO_VRING_F_LOG))
		return SESSION_VALUE;
	if (!v->enabled && (v->desc != p->desc || v->avail != p->avail || v->used != p->used))
		vring_stop(r, v);
	v->desc = p->desc;
	v->avail = p->avail;
	v->used = p->used;
	v->log = p->log;
	v->log_used = (p->flags & PROTO_VRING_F_LOG) != 0;
	v->addr_set = 1;
	return SESSION_OK;
}

enum session_verdict vring_base_set(struct request *r)
{
	const struct proto_vring_state *p = &r->message->payload.state;
	struct image_vring *v = vring_at(r, p->index);

	if (!v || p->num > UINT16_MAX)
		return SESSION_VALUE;
	if (!vring_setting_up(r, v))
		return SESSION_PHASE;
	v->base = (uint16_t)p->num;
	return SESSION_OK;
}

enum session_verdict vring_base_get(struct request *r)
{
	struct proto_vring_state p = r->message->payload.state;
	struct image_vring *v = vring_at(r, p.index);

	if (!v)
		return SESSION_VALUE;
	vring_stop(r, v);
	request_close_later(r, v->kick);
	v->kick = IMAGE_NO_FD;
	p.num = v->base;
	request_answer(r, &p, sizeof(p));
	return SESSION_OK;
}

/* SET_VRING_KICK, _CALL, _ERR: replace *fd by what came, or by nothing where the flag says so. */
static enum session_verdict replace_fd(struct request *r, int32_t *fd)
{
	bool none = (r->message->payload.u64 & PROTO_VRING_NOFD) != 0;

	if (r->message->payload.u64 & ~(uint64_t)(PROTO_VRING_IDX_MASK | PROTO_VRING_NOFD))
		return SESSION_VALUE;
	if (none != (r->message->n_fds == 0))
		return SESSION_FDS;
	request_close_later(r, *fd);
	*fd = none ? IMAGE_NO_FD : request_take_fd(r, 0);
	return SESSION_OK;
}

static struct image_vring *vring_of_fd(struct request *r)
{
	return vring_at(r, r->message->payload.u64 & PROTO_VRING_IDX_MASK);
}

/*
 * A kick for a started ring replaces the descriptor; for any other it starts the ring. With the
 * front-end's in-flight region, its record decides where the ring goes on. Without, what our own
 * region holds is of the ring's earlier life, and matters only if it goes on from there; else it is
 * emptied before the commit, so that a successor begins there too.
 */
enum session_verdict vring_kick_set(struct request *r)
{
	struct image_vring *v = vring_of_fd(r);
	struct device *d = r->session->device;
	enum session_verdict verdict;

	if (!v)
		return SESSION_VALUE;
	if (v->size == 0 || !v->addr_set) {
		r->session->detail = "the ring has no size or no addresses yet";
		return SESSION_PHASE;
	}
	verdict = replace_fd(r, &v->kick);
	if (verdict != SESSION_OK || v->started)
		return verdict;
	v->event_idx = feature_has(r->next->features, FEATURE_RING_EVENT_IDX);
	v->indirect = feature_has(r->next->features, FEATURE_RING_INDIRECT_DESC);
	v->started = 1;
	if (r->next->inflight_fd == IMAGE_NO_FD)
		d->ops->ring_begin(d, (uint32_t)(v - r->next->vrings), v->size,
				   queue_n_unanswered(r->session->memory,
						      (struct user_addr){ v->used }, v->base));
	return SESSION_OK;
}

enum session_verdict vring_call_set(struct request *r)
{
	struct image_vring *v = vring_of_fd(r);

	return v ? replace_fd(r, &v->call) : SESSION_VALUE;
}

enum session_verdict vring_err_set(struct request *r)
{
	struct image_vring *v = vring_of_fd(r);

	return v ? replace_fd(r, &v->err) : SESSION_VALUE;
}

enum session_verdict vring_enable_set(struct request *r)
{
	const struct proto_vring_state *p = &r->message->payload.state;
	struct image_vring *v = vring_at(r, p->index);

	if (!v || p->num > 1)
		return SESSION_VALUE;
	/* QEMU enables a network card's rings before it acknowledges features. */
	if (r->next->features_set &&
	    !feature_has(r->next->features, FEATURE_VHOST_PROTOCOL_FEATURES))
		return SESSION_FEATURE;
	v->enabled = (uint8_t)p->num;
	return SESSION_OK;
}
