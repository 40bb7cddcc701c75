/*
 * What a session asks of the device type and of the worker that run behind it.
 *
 * Runs in: worker's main thread. Trusts: its caller; every argument has been checked by then.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/vhost/image.h"

/* How still the I/O threads stand while a request changes what they look at. */
enum device_stillness {
	DEVICE_RUNNING, /* they go on */
	DEVICE_PAUSED,	/* no thread touches rings, memory or image; I/O may be in flight */
	DEVICE_DRAINED, /* paused, no I/O in flight, all that was done is published */
};

struct device;

struct device_ops {
	/* Copy len bytes at offset of the device configuration space; they lie inside it. */
	void (*config_read)(struct device *d, const struct image *im, uint32_t offset, uint32_t len,
			    uint8_t *ret_bytes);
	/* The driver writes there: change what is writable in im->device. False: not writable. */
	bool (*config_write)(struct device *d, struct image *im, uint32_t offset, uint32_t len,
			     const uint8_t *bytes);
	/* Device reset (VIRTIO 1.3 §2.4.1): put im->device to its initial state. */
	void (*reset)(struct device *d, struct image *im);

	/* Returns when the I/O threads stand still; apply() lets them go on. */
	void (*still)(struct device *d, enum device_stillness s);
	/* Bring threads, memory and rings to what im says, and let the threads run. */
	void (*apply)(struct device *d, const struct image *im);
	/*
	 * A ring is about to start, without a region of the front-end's. By its indices it goes on
	 * from where that many requests were unanswered: where just as many are on record in its
	 * own region, they are taken up again; else that is emptied.
	 */
	void (*ring_begin)(struct device *d, uint32_t index, uint32_t size, uint32_t n_unanswered);
	/* Next available index of a started ring, drained (GET_VRING_BASE). */
	uint16_t (*ring_base)(struct device *d, uint32_t index);

	/* NET_SET_MTU: the largest packet that the guest is told of. False: it cannot be. */
	bool (*mtu_set)(struct device *d, struct image *im, uint64_t mtu);
	/* SEND_RARP: tell the network where this address is now. False: it cannot be. */
	bool (*announce)(struct device *d, const uint8_t mac[6]);
};

struct device {
	const struct device_ops *ops;
	uint64_t features;	    /* offered, without FEATURE_VHOST_PROTOCOL_FEATURES */
	uint64_t protocol_features; /* of this type, beside those of all (request.h) */
	/*
	 * The front-end may tell each region of memory once for each pair of queues: so do QEMU's devices that are a
	 * vhost device for each, up to QEMU 9.
	 */
	bool regions_repeated;
	uint32_t n_queues;
	uint32_t queue_size; /* largest accepted */
	uint32_t config_len; /* bytes of the configuration space */
};
