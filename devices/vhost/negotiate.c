/*
 * Requests about the device as a whole: owner, features, status, reset, configuration space.
 *
 * Runs in: worker's main thread. Trusts: nothing in the payload beyond what the request table
 * checked.
 */
#include <assert.h>
#include <string.h>

#include "devices/vhost/request.h"
#include "devices/virtio/feature.h"

static uint64_t offered(const struct request *r)
{
	return r->session->device->features | FEATURE_VHOST_LOG_ALL |
	       FEATURE_VHOST_PROTOCOL_FEATURES;
}

enum session_verdict feature_get(struct request *r)
{
	request_answer_u64(r, offered(r));
	return SESSION_OK;
}

/*
 * While rings run only the logging bit changes what we do; the ring features that a ring was
 * started with stay (vring_kick_set). vhost-user.rst, "Ring states": without PROTOCOL_FEATURES
 * rings start enabled.
 */
enum session_verdict feature_set(struct request *r)
{
	uint64_t features = r->message->payload.u64;

	if (features & ~offered(r)) {
		r->session->detail = "features that were not offered";
		return SESSION_VALUE;
	}
	r->next->features = features;
	r->next->features_set = 1;
	if (!feature_has(features, FEATURE_VHOST_PROTOCOL_FEATURES))
		for (uint32_t i = 0; i < r->session->device->n_queues; i++)
			r->next->vrings[i].enabled = 1;
	r->session->memory->log.all = feature_has(features, FEATURE_VHOST_LOG_ALL);
	return SESSION_OK;
}

enum session_verdict owner_set(struct request *r)
{
	r->next->owned = 1;
	return SESSION_OK;
}

/* vhost-user.rst calls it deprecated and unsafe: all rings stop, nothing else is forgotten. */
enum session_verdict owner_reset(struct request *r)
{
	r->next->owned = 0;
	vring_stop_all(r);
	return SESSION_OK;
}

static uint64_t protocol_offered(const struct request *r)
{
	return session_protocol_features(r->session->device);
}

enum session_verdict protocol_feature_get(struct request *r)
{
	request_answer_u64(r, protocol_offered(r));
	return SESSION_OK;
}

enum session_verdict protocol_feature_set(struct request *r)
{
	uint64_t features = r->message->payload.u64;

	if (features & ~protocol_offered(r)) {
		r->session->detail = "protocol features that were not offered";
		return SESSION_VALUE;
	}
	r->next->protocol_features = features;
	return SESSION_OK;
}

/*
 * Virtqueues. (QEMU takes it for pairs of a network card, and wants at least as many as it has;
 * User Mode Linux takes it as it is, and wants the control queue to be among them.)
 */
enum session_verdict queue_num_get(struct request *r)
{
	request_answer_u64(r, r->session->device->n_queues);
	return SESSION_OK;
}

static void reset(struct request *r)
{
	struct device *d = r->session->device;

	vring_stop_all(r);
	d->ops->reset(d, r->next);
	r->next->status = 0;
}

enum session_verdict device_reset(struct request *r)
{
	reset(r);
	return SESSION_OK;
}

enum session_verdict status_get(struct request *r)
{
	request_answer_u64(r, r->next->status);
	return SESSION_OK;
}

/* VIRTIO 1.3 §2.1: a driver writes 0 to reset the device. */
enum session_verdict status_set(struct request *r)
{
	uint64_t status = r->message->payload.u64;

	if (status > UINT8_MAX)
		return SESSION_VALUE;
	if (status == 0)
		reset(r);
	r->next->status = (uint8_t)status;
	return SESSION_OK;
}

/* vhost-user.rst: the payload repeats the header's length; beyond the space, nothing. */
static bool config_range(const struct request *r, uint32_t *ret_offset, uint32_t *ret_len)
{
	const struct proto_config *c = &r->message->payload.config;

	if (c->size > PROTO_CONFIG_MAX_LEN ||
	    r->message->header.size != PROTO_CONFIG_HEADER_LEN + c->size)
		return false;
	*ret_offset = c->offset;
	*ret_len = c->size;
	return true;
}

/*
 * A front-end may ask for more than the device has (each knows another version of the structure):
 * the rest reads as zero. One that asks beyond the maximum is answered with size 0, which is the
 * error reply of vhost-user.rst.
 */
enum session_verdict config_get(struct request *r)
{
	struct device *d = r->session->device;
	struct proto_config answer = { 0 };
	uint32_t offset, len, have;

	if (!config_range(r, &offset, &len))
		return SESSION_VALUE;
	if (offset > PROTO_CONFIG_MAX_LEN || len > PROTO_CONFIG_MAX_LEN - offset) {
		request_answer(r, &answer, 0);
		return SESSION_OK;
	}
	answer.offset = offset;
	answer.size = len;
	have = offset < d->config_len ? d->config_len - offset : 0;
	if (have > 0)
		d->ops->config_read(d, r->next, offset, len < have ? len : have, answer.bytes);
	request_answer(r, &answer, PROTO_CONFIG_HEADER_LEN + len);
	return SESSION_OK;
}

/*
 * What the driver wrote, or after a migration the whole space as it was (vhost-user.rst): then what
 * cannot be written has to be as it is here.
 */
static bool config_take(struct request *r, uint32_t offset, uint32_t len, bool migrated)
{
	const uint8_t *bytes = r->message->payload.config.bytes;
	struct device *d = r->session->device;
	uint8_t here[PROTO_CONFIG_MAX_LEN];

	if (offset > d->config_len || len > d->config_len - offset)
		return false;
	if (!migrated)
		return d->ops->config_write(d, r->next, offset, len, bytes);
	d->ops->config_read(d, r->next, offset, len, here);
	for (uint32_t i = 0; i < len; i++)
		if (here[i] != bytes[i] &&
		    !d->ops->config_write(d, r->next, offset + i, 1, &bytes[i]))
			return false;
	return true;
}

enum session_verdict config_set(struct request *r)
{
	uint32_t flags = r->message->payload.config.flags, offset, len;

	if (!config_range(r, &offset, &len) || flags > PROTO_CONFIG_MIGRATED)
		return SESSION_VALUE;
	if (config_take(r, offset, len, flags == PROTO_CONFIG_MIGRATED))
		return SESSION_OK;
	r->session->detail = "nothing that can be written there";
	return SESSION_DECLINED;
}

enum session_verdict backreq_fd_set(struct request *r)
{
	request_close_later(r, r->next->backreq);
	r->next->backreq = request_take_fd(r, 0);
	return SESSION_OK;
}

/* A type that offers the protocol features has the operations. */
enum session_verdict mtu_set(struct request *r)
{
	struct device *d = r->session->device;

	return d->ops->mtu_set(d, r->next, r->message->payload.u64) ? SESSION_OK : SESSION_DECLINED;
}

/* The address is in the first six bytes of the payload. */
enum session_verdict rarp_send(struct request *r)
{
	struct device *d = r->session->device;

	return d->ops->announce(d, r->message->payload.bytes) ? SESSION_OK : SESSION_DECLINED;
}
