/* What the session asks of us (vhost/device.h). See worker-private.h. */
#include "devices/process/worker-private.h"

static void op_config_read(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
			   uint8_t *ret_bytes)
{
	the_worker.model->ops->config_read(d, im, offset, len, ret_bytes);
}

static bool op_config_write(struct device *d, struct image *im, uint32_t offset, uint32_t len,
			    const uint8_t *bytes)
{
	return the_worker.model->ops->config_write(d, im, offset, len, bytes);
}

static void op_reset(struct device *d, struct image *im)
{
	the_worker.model->ops->reset(d, im);
}

static bool op_mtu_set(struct device *d, struct image *im, uint64_t mtu)
{
	return the_worker.model->ops->mtu_set(d, im, mtu);
}

static bool op_announce(struct device *d, const uint8_t mac[6])
{
	return the_worker.model->ops->announce(d, mac);
}

/* Waiting for I/O is not hanging: the watchdog looks at the I/O threads meanwhile. */
static void op_still(struct device *d, enum device_stillness s)
{
	struct state_thread *me = &the_worker.shared[0];

	state_thread_blocks(me);
	thread_still(the_worker.threads, the_worker.n_threads, s);
	state_thread_goes_on(me);
}

static void op_apply(struct device *d, const struct image *im)
{
	struct worker *w = &the_worker;

	w->model->ops->configure(d, im);
	rings_apply(&w->rings, im);
	thread_run(w->threads, w->n_threads);
}

static void op_ring_begin(struct device *d, uint32_t index, uint32_t size, uint32_t n_unanswered)
{
	rings_begin(&the_worker.rings, index, size, n_unanswered);
}

static uint16_t op_ring_base(struct device *d, uint32_t index)
{
	return rings_base(&the_worker.rings, index);
}

const struct device_ops worker_device_ops = {
	.config_read = op_config_read,
	.config_write = op_config_write,
	.reset = op_reset,
	.mtu_set = op_mtu_set,
	.announce = op_announce,
	.still = op_still,
	.apply = op_apply,
	.ring_begin = op_ring_begin,
	.ring_base = op_ring_base,
};
