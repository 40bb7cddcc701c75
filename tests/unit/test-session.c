/* A session over two workers: what the second makes of a store that something still writes to. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/vhost/request.h"
#include "devices/vhost/session.h"
#include "tests/unit/unit.h"

enum { N_QUEUES = 2, QUEUE_SIZE = 128, FD_LIMIT = 1024 };

static void no_reset(struct device *d, struct image *im)
{
}

static const struct device_ops ops = { .reset = no_reset };
static struct device device = { .ops = &ops, .n_queues = N_QUEUES, .queue_size = QUEUE_SIZE };
static struct image_store store;
static struct memory memory;
static struct session session;

static int set_up(void **unused)
{
	memset(&memory, 0, sizeof(memory));
	session_store_init(&store, &device);
	return session_load(&session, &store, &device, &memory, 3, FD_LIMIT) == SESSION_LOADED ? 0
											       : -1;
}

static unsigned n_fds;

static void count_fd(int fd, void *arg)
{
	n_fds++;
}

/* As a read does that a worker had begun into its map of the state before it died. */
static void what_lands_in_the_store_after_the_check_is_not_used(void **unused)
{
	n_fds = 0;
	memset(&store, 0x11, sizeof(store));
	assert_int_equal(session_image(&session)->connection, IMAGE_NO_FD);
	assert_int_equal(session_image(&session)->n_regions, 0);
	assert_int_equal(session_image(&session)->vrings[1].size, 0);
	session_for_each_fd(&session, count_fd, NULL);
	assert_true(n_fds <= PROTO_FDS_MAX);
}

static void what_is_committed_is_what_was_checked(void **unused)
{
	int pair[2];
	struct session next;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	store.image[0].n_regions = IMAGE_MAX_REGIONS + 1;
	store.image[1].vrings[0].size = 3;
	session_connect(&session, pair[0]);
	assert_int_equal(session_image(&session)->connection, pair[0]);
	/* A third worker finds that, and nothing else. */
	memset(&memory, 0, sizeof(memory));
	assert_int_equal(session_load(&next, &store, &device, &memory, 3, FD_LIMIT),
			 SESSION_LOADED);
	assert_int_equal(session_image(&next)->connection, pair[0]);
	assert_int_equal(session_image(&next)->n_regions, 0);
	assert_int_equal(session_image(&next)->vrings[0].size, 0);
	close(pair[0]);
	close(pair[1]);
}

static void a_store_that_names_no_image_is_unusable(void **unused)
{
	store.current = 2;
	assert_int_equal(session_load(&session, &store, &device, &memory, 3, FD_LIMIT),
			 SESSION_UNUSABLE);
}

static enum session_verdict check(const struct request_row *row, uint32_t size, uint32_t fds,
				  const struct image *im)
{
	struct message m = { .header.size = size, .n_fds = (uint16_t)fds };

	return request_check(row, &m, im);
}

static void each_row_of_the_table_is_kept_to(void **state)
{
	static struct image im, none;

	im.features_set = 1;
	im.protocol_features = UINT64_MAX;
	for (uint32_t i = 0; i < PROTO_REQUEST_LIMIT; i++) {
		const struct request_row *r = request_find(i);
		uint32_t size = r ? r->size_min : 0, fds = r ? r->fds_min : 0;

		if (!r)
			continue;
		assert_int_equal(check(r, size, fds, &im), SESSION_OK);
		assert_int_equal(check(r, r->size_max, r->fds_max, &im), SESSION_OK);
		assert_int_equal(check(r, r->size_max + 1, fds, &im), SESSION_SIZE);
		assert_int_equal(check(r, size, r->fds_max + 1, &im), SESSION_FDS);
		if (size > 0)
			assert_int_equal(check(r, size - 1, fds, &im), SESSION_SIZE);
		if (fds > 0)
			assert_int_equal(check(r, size, fds - 1, &im), SESSION_FDS);
		if (r->phase == REQUEST_FEATURES)
			assert_int_equal(check(r, size, fds, &none), SESSION_PHASE);
		else if (r->protocol_feature)
			assert_int_equal(check(r, size, fds, &none), SESSION_FEATURE);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_lands_in_the_store_after_the_check_is_not_used, set_up),
		cmocka_unit_test_setup(what_is_committed_is_what_was_checked, set_up),
		cmocka_unit_test_setup(a_store_that_names_no_image_is_unusable, set_up),
		cmocka_unit_test(each_row_of_the_table_is_kept_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
