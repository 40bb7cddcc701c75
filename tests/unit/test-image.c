/* The session's image as a successor finds it: only what a session can be passes. */
#include <sys/mman.h>
#include <unistd.h>

#include "devices/vhost/image.h"
#include "devices/virtio/inflight.h"
#include "tests/unit/unit.h"

enum {
	QUEUES = 2,
	SIZE = 128,
	FILE_LEN = 16384,
	OFFSET = 4096 + 64, /* in no way special, but aligned as it has to be */
};

static struct image im;
static struct image_limits limits;
static int file;

static int set_up(void **unused)
{
	file = memfd_create("image", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, FILE_LEN) < 0)
		return -1;
	limits = (struct image_limits){ .n_vrings = QUEUES,
					.max_size = SIZE,
					.fd_min = 0,
					.fd_limit = 1024,
					.features = 0xff,
					.protocol_features = 0xf };
	image_init(&im);
	im.connection = STDIN_FILENO;
	im.inflight_fd = file;
	im.inflight_queues = QUEUES;
	im.inflight_size = SIZE;
	im.inflight_len = QUEUES * inflight_queue_len(SIZE);
	im.inflight_offset = OFFSET;
	return 0;
}

static int tear_down(void **unused)
{
	return close(file);
}

static void refused(void)
{
	assert_false(image_check(&im, &limits));
}

static void a_fresh_image_passes(void **unused)
{
	image_init(&im);
	assert_true(image_check(&im, &limits));
}

static void an_inflight_region_inside_its_file_passes(void **unused)
{
	assert_true(image_check(&im, &limits));
	im.inflight_offset = FILE_LEN - im.inflight_len;
	assert_true(image_check(&im, &limits));
}

static void an_inflight_region_that_is_not_aligned_is_refused(void **unused)
{
	for (uint64_t i = 1; i < 8; i++) {
		im.inflight_offset = OFFSET + i;
		refused();
	}
}

static void an_inflight_region_beyond_its_file_is_refused(void **unused)
{
	im.inflight_offset = FILE_LEN - im.inflight_len + 8;
	refused();
	im.inflight_offset = FILE_LEN + 8;
	refused();
	im.inflight_offset = UINT64_MAX - 7;
	refused();
	im.inflight_offset = OFFSET;
	im.inflight_len = UINT64_MAX;
	refused();
}

static void an_inflight_region_whose_file_was_truncated_is_refused(void **unused)
{
	assert_int_equal(ftruncate(file, 4096), 0);
	refused();
}

static void an_inflight_region_too_small_for_its_queues_is_refused(void **unused)
{
	im.inflight_len--;
	refused();
	im.inflight_len++;
	im.inflight_queues = QUEUES + 1;
	refused();
	im.inflight_queues = QUEUES;
	im.inflight_size = 2 * SIZE;
	refused();
}

static void a_descriptor_that_is_not_open_is_refused(void **unused)
{
	im.vrings[1].kick = 999;
	refused();
	im.vrings[1].kick = 1024;
	refused();
}

static void a_descriptor_of_the_contract_is_refused(void **unused)
{
	limits.fd_min = file + 1;
	refused();
}

static void a_started_ring_without_size_or_address_is_refused(void **unused)
{
	im.vrings[0].started = 1;
	refused();
	im.vrings[0].size = SIZE;
	refused();
	im.vrings[0].addr_set = 1;
	assert_true(image_check(&im, &limits));
	im.vrings[0].size = 2 * SIZE;
	refused();
	im.vrings[0].size = SIZE - 1;
	refused();
}

static void a_ring_that_the_device_lacks_is_refused_once_started(void **unused)
{
	im.vrings[QUEUES] = (struct image_vring){
		.size = SIZE, .addr_set = 1, .kick = -1, .call = -1, .err = -1
	};
	assert_true(image_check(&im, &limits));
	im.vrings[QUEUES].started = 1;
	refused();
}

static void a_feature_that_was_not_offered_is_refused(void **unused)
{
	im.features = 0x100;
	refused();
	im.features = 0;
	im.protocol_features = 0x10;
	refused();
}

static void more_regions_than_there_are_places_are_refused(void **unused)
{
	im.n_regions = IMAGE_MAX_REGIONS + 1;
	refused();
}

static void a_flag_that_is_neither_0_nor_1_is_refused(void **unused)
{
	uint8_t *const flags[] = { &im.owned,
				   &im.features_set,
				   &im.vrings[0].addr_set,
				   &im.vrings[0].log_used,
				   &im.vrings[0].enabled,
				   &im.vrings[1].started,
				   &im.vrings[63].event_idx,
				   &im.vrings[1].indirect };

	for (unsigned i = 0; i < UNIT_N(flags); i++) {
		*flags[i] = 2;
		refused();
		*flags[i] = 0;
	}
	assert_true(image_check(&im, &limits));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_fresh_image_passes),
		TEST(an_inflight_region_inside_its_file_passes),
		TEST(an_inflight_region_that_is_not_aligned_is_refused),
		TEST(an_inflight_region_beyond_its_file_is_refused),
		TEST(an_inflight_region_whose_file_was_truncated_is_refused),
		TEST(an_inflight_region_too_small_for_its_queues_is_refused),
		TEST(a_descriptor_that_is_not_open_is_refused),
		TEST(a_descriptor_of_the_contract_is_refused),
		TEST(a_started_ring_without_size_or_address_is_refused),
		TEST(a_ring_that_the_device_lacks_is_refused_once_started),
		TEST(a_feature_that_was_not_offered_is_refused),
		TEST(more_regions_than_there_are_places_are_refused),
		TEST(a_flag_that_is_neither_0_nor_1_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
