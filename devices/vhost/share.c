/*
 * Requests that share memory with us: guest memory, the dirty log, the in-flight region.
 *
 * Runs in: worker's main thread. Trusts: nothing in the payload beyond what the request table
 * checked.
 *
 * The worker's map (struct memory) is changed here, before the commit; if the worker dies in
 * between, the successor maps what the image says. If the request is refused, either nothing was
 * changed or the session is closed.
 */
#include <string.h>
#include <sys/mman.h>

#include "devices/base/fd.h"
#include "devices/vhost/request.h"
#include "devices/virtio/inflight.h"

enum { PAGE_LEN = 4096, INFLIGHT_ALIGN = 8 /* its counters */ };

static enum session_verdict refuse(struct request *r, enum memory_verdict v)
{
	r->session->detail = memory_verdict_to_string(v);
	return SESSION_MEMORY;
}

/* Map p with descriptor i of the message, and append it to the image. */
static enum memory_verdict add_region(struct request *r, const struct proto_region *p, uint32_t i)
{
	struct image *im = r->next;
	enum memory_verdict v;

	if (im->n_regions == IMAGE_MAX_REGIONS)
		return MEMORY_FULL;
	v = memory_add(r->session->memory, (struct guest_addr){ p->guest_addr },
		       (struct user_addr){ p->user_addr }, p->size, p->mmap_offset, r->fds[i]);
	if (v != MEMORY_OK)
		return v;
	im->regions[im->n_regions++] = (struct image_region){
		.guest = p->guest_addr,
		.user = p->user_addr,
		.size = p->size,
		.offset = p->mmap_offset,
		.fd = request_take_fd(r, i),
	};
	return MEMORY_OK;
}

/*
 * User Mode Linux 6.1 sends the size of all eight regions though it has one, so the payload may be
 * longer than its regions, but never shorter.
 */
enum session_verdict mem_table_set(struct request *r)
{
	const struct proto_mem_table *p = &r->message->payload.table;
	uint32_t n = p->n_regions;

	if (n > PROTO_MEM_TABLE_MAX || r->message->header.size < 8 + n * sizeof(p->regions[0]))
		return SESSION_VALUE;
	if (r->message->n_fds != n)
		return SESSION_FDS;
	for (uint32_t i = 0; i < r->next->n_regions; i++)
		request_close_later(r, r->next->regions[i].fd);
	r->next->n_regions = 0;
	memory_clear(r->session->memory);
	for (uint32_t i = 0; i < n; i++) {
		enum memory_verdict v = add_region(r, &p->regions[i], i);

		if (v != MEMORY_OK)
			return refuse(r, v);
	}
	return SESSION_OK;
}

enum session_verdict mem_slots_get(struct request *r)
{
	request_answer_u64(r, IMAGE_MAX_REGIONS);
	return SESSION_OK;
}

/* Is it there as it is? -1: no. */
static int find_region(const struct image *im, const struct proto_region *p)
{
	for (uint32_t i = 0; i < im->n_regions; i++)
		if (im->regions[i].guest == p->guest_addr && im->regions[i].user == p->user_addr &&
		    im->regions[i].size == p->size)
			return (int)i;
	return -1;
}

enum session_verdict mem_reg_add(struct request *r)
{
	const struct proto_region *p = &r->message->payload.mem_reg.region;
	enum memory_verdict v;

	/* Its descriptor, of the same memory, is closed with the message. */
	if (r->session->device->regions_repeated && find_region(r->next, p) >= 0)
		return SESSION_OK;
	v = add_region(r, p, 0);
	if (v == MEMORY_OK)
		return SESSION_OK;
	refuse(r, v);
	return SESSION_REFUSED;
}

enum session_verdict mem_reg_remove(struct request *r)
{
	const struct proto_region *p = &r->message->payload.mem_reg.region;
	struct image *im = r->next;
	int i = find_region(im, p);
	enum memory_verdict v;

	if (i < 0 && r->session->device->regions_repeated)
		return SESSION_OK;
	if (i < 0) {
		refuse(r, MEMORY_UNKNOWN);
		return SESSION_REFUSED;
	}
	v = memory_remove(r->session->memory, (struct guest_addr){ p->guest_addr },
			  (struct user_addr){ p->user_addr }, p->size);
	if (v != MEMORY_OK)
		return refuse(r, v);
	request_close_later(r, im->regions[i].fd);
	im->regions[i] = im->regions[--im->n_regions];
	return SESSION_OK;
}

/*
 * The answer tells that the new log is in use. Its length is nowhere written: QEMU takes any, Cloud
 * Hypervisor waits for what it has sent.
 */
enum session_verdict log_base_set(struct request *r)
{
	const struct proto_log *p = &r->message->payload.log;
	enum memory_verdict v;

	v = memory_log_set(r->session->memory, p->mmap_size, p->mmap_offset, r->fds[0]);
	if (v != MEMORY_OK)
		return refuse(r, v);
	request_close_later(r, r->next->log_fd);
	r->next->log_fd = request_take_fd(r, 0);
	r->next->log_len = p->mmap_size;
	r->next->log_offset = p->mmap_offset;
	request_answer(r, p, sizeof(*p));
	return SESSION_OK;
}

/* An eventfd of old front-ends, that no front-end reads and no back-end has to signal. */
enum session_verdict log_fd_set(struct request *r)
{
	return SESSION_OK;
}

static uint64_t region_len(const struct proto_inflight *p)
{
	return (uint64_t)p->n_queues * inflight_queue_len(p->queue_size);
}

static bool inflight_shape_ok(struct request *r, const struct proto_inflight *p)
{
	const struct device *d = r->session->device;

	if (p->n_queues == 0 || p->n_queues > d->n_queues || p->queue_size == 0 ||
	    p->queue_size > d->queue_size) {
		r->session->detail = "number of queues or queue size beyond the device's";
		return false;
	}
	return true;
}

/*
 * Whoever asks for a region has forgotten the last one, if there was one: after a reset of its
 * machine. One that rings still use stays as it is. False: it cannot be mapped.
 */
static bool inflight_empty(struct request *r, const struct proto_inflight *p)
{
	const struct image *im = r->next;
	void *map;

	for (uint32_t i = 0; i < IMAGE_MAX_VRINGS; i++)
		if (im->vrings[i].started && im->inflight_fd != IMAGE_NO_FD)
			return true;
	map = mmap(NULL, p->mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, r->session->inflight_fd,
		   (off_t)p->mmap_offset);
	if (map == MAP_FAILED)
		return false;
	memset(map, 0, p->mmap_size);
	munmap(map, p->mmap_size);
	return true;
}

/*
 * The region is the device's own memfd. vhost-user.rst describes 20 bytes, QEMU sends and expects
 * 24 (its structure is padded): the answer is as long as the question.
 */
enum session_verdict inflight_fd_get(struct request *r)
{
	struct proto_inflight p = r->message->payload.inflight;

	if (!inflight_shape_ok(r, &p))
		return SESSION_VALUE;
	p.mmap_size = region_len(&p);
	p.mmap_offset = r->session->inflight_offset;
	if (!inflight_empty(r, &p))
		return refuse(r, MEMORY_UNMAPPABLE);
	message_reply(r->tx, r->message, &p, r->message->header.size, r->session->inflight_fd);
	return SESSION_OK;
}

/* Can it be mapped as it will be? A descriptor that cannot be written, say, is refused here. */
static bool inflight_mappable(int fd, const struct proto_inflight *p)
{
	uint64_t slack = p->mmap_offset % PAGE_LEN;
	void *map = mmap(NULL, p->mmap_size + slack, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			 (off_t)(p->mmap_offset - slack));

	if (map == MAP_FAILED)
		return false;
	munmap(map, p->mmap_size + slack);
	return true;
}

enum session_verdict inflight_fd_set(struct request *r)
{
	const struct proto_inflight *p = &r->message->payload.inflight;
	uint64_t size;

	if (!inflight_shape_ok(r, p) || p->mmap_size < region_len(p))
		return SESSION_VALUE;
	if (fd_size(r->fds[0], &size) < 0 || p->mmap_offset > size ||
	    p->mmap_size > size - p->mmap_offset)
		return refuse(r, MEMORY_SHORT);
	if (p->mmap_offset % INFLIGHT_ALIGN || !inflight_mappable(r->fds[0], p))
		return refuse(r, MEMORY_UNMAPPABLE);
	if (!vring_setting_up_all(r))
		return SESSION_PHASE;
	request_close_later(r, r->next->inflight_fd);
	r->next->inflight_fd = request_take_fd(r, 0);
	r->next->inflight_len = p->mmap_size;
	r->next->inflight_offset = p->mmap_offset;
	r->next->inflight_queues = p->n_queues;
	r->next->inflight_size = p->queue_size;
	return SESSION_OK;
}
