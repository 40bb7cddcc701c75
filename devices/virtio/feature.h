/*
 * Feature bits of VIRTIO 1.3 §6 that every device type shares, and how they combine.
 *
 * Runs in: worker. Trusts: nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FEATURE_BIT(n) (UINT64_C(1) << (n))

#define FEATURE_RING_INDIRECT_DESC FEATURE_BIT(28) /* VIRTIO 1.3 §2.7.5.3 */
#define FEATURE_RING_EVENT_IDX	   FEATURE_BIT(29) /* VIRTIO 1.3 §2.7.7, §2.7.10 */
#define FEATURE_VERSION_1	   FEATURE_BIT(32) /* VIRTIO 1.3 §6.1 */

/* vhost-user.rst: bits of the same word that are the transport's, not the driver's. */
#define FEATURE_VHOST_LOG_ALL		FEATURE_BIT(26)
#define FEATURE_VHOST_PROTOCOL_FEATURES FEATURE_BIT(30)

static inline bool feature_has(uint64_t features, uint64_t bit)
{
	return (features & bit) != 0;
}
