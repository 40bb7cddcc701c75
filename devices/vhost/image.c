/* The session's image: what it owns, and whether it can be. See image.h. */
#include "devices/vhost/image.h"

#include <fcntl.h>
#include <string.h>

#include "devices/base/fd.h"
#include "devices/virtio/inflight.h"
#include "devices/virtio/ring.h"

void image_init(struct image *im)
{
	memset(im, 0, sizeof(*im));
	im->connection = IMAGE_NO_FD;
	im->backreq = IMAGE_NO_FD;
	im->log_fd = IMAGE_NO_FD;
	im->inflight_fd = IMAGE_NO_FD;
	for (uint32_t i = 0; i < IMAGE_MAX_VRINGS; i++) {
		im->vrings[i].kick = IMAGE_NO_FD;
		im->vrings[i].call = IMAGE_NO_FD;
		im->vrings[i].err = IMAGE_NO_FD;
	}
}

static void visit(int fd, void (*fn)(int fd, void *arg), void *arg)
{
	if (fd != IMAGE_NO_FD)
		fn(fd, arg);
}

void image_for_each_fd(const struct image *im, void (*fn)(int fd, void *arg), void *arg)
{
	visit(im->connection, fn, arg);
	visit(im->backreq, fn, arg);
	visit(im->log_fd, fn, arg);
	visit(im->inflight_fd, fn, arg);
	for (uint32_t i = 0; i < im->n_regions && i < IMAGE_MAX_REGIONS; i++)
		visit(im->regions[i].fd, fn, arg);
	for (uint32_t i = 0; i < IMAGE_MAX_VRINGS; i++) {
		visit(im->vrings[i].kick, fn, arg);
		visit(im->vrings[i].call, fn, arg);
		visit(im->vrings[i].err, fn, arg);
	}
}

struct fd_check {
	const struct image_limits *limits;
	bool good;
};

static void check_fd(int fd, void *arg)
{
	struct fd_check *c = arg;

	if (fd < c->limits->fd_min || fd >= c->limits->fd_limit || fcntl(fd, F_GETFD) < 0)
		c->good = false;
}

static bool vring_good(const struct image_vring *v, const struct image_limits *l)
{
	if (v->size != 0 && (!ring_size_ok(v->size) || v->size > l->max_size))
		return false;
	if (v->addr_set > 1 || v->log_used > 1 || v->started > 1 || v->enabled > 1 ||
	    v->event_idx > 1 || v->indirect > 1)
		return false;
	return !v->started || (v->size != 0 && v->addr_set);
}

static bool inflight_good(const struct image *im, const struct image_limits *l)
{
	uint64_t size;

	if (im->inflight_fd == IMAGE_NO_FD)
		return true;
	if (im->inflight_queues > l->n_vrings || im->inflight_size > l->max_size)
		return false;
	if (fd_size(im->inflight_fd, &size) < 0 || im->inflight_offset % 8 ||
	    im->inflight_offset > size || im->inflight_len > size - im->inflight_offset)
		return false;
	return im->inflight_len >=
	       (uint64_t)im->inflight_queues * inflight_queue_len(im->inflight_size);
}

bool image_check(const struct image *im, const struct image_limits *l)
{
	struct fd_check fds = { .limits = l, .good = true };

	if (im->n_regions > IMAGE_MAX_REGIONS || im->owned > 1 || im->features_set > 1)
		return false;
	if ((im->features & ~l->features) || (im->protocol_features & ~l->protocol_features))
		return false;
	if (!inflight_good(im, l))
		return false;
	for (uint32_t i = 0; i < IMAGE_MAX_VRINGS; i++)
		if (!vring_good(&im->vrings[i], l) || (i >= l->n_vrings && im->vrings[i].started))
			return false;
	if (im->connection == IMAGE_NO_FD && im->n_regions > 0)
		return false;
	image_for_each_fd(im, check_fd, &fds);
	return fds.good;
}
