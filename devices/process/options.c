/* The shared options: a table of rows, and its parser. See options.h. */
#include "devices/process/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/base/log.h"
#include "devices/base/parse.h"
#include "devices/process/contract.h"
#include "devices/vhost/image.h"
#include "devices/virtio/queue.h"

enum { MAX_ARGS = 64, NS_PER_US = 1000 };

_Static_assert((int)CONTRACT_QUEUE_SIZE_MAX <= (int)QUEUE_MAX_SIZE &&
		       (int)CONTRACT_MAX_QUEUES <= (int)IMAGE_MAX_VRINGS,
	       "what may be asked for, there is room for");

static int set_u32(uint32_t *ret, const char *value, uint64_t min, uint64_t max)
{
	uint64_t v;
	int r = parse_u64(value, min, max, &v);

	if (r == 0)
		*ret = (uint32_t)v;
	return r;
}

static int set_usec(uint64_t *ret_ns, const char *value)
{
	uint64_t v;
	int r = parse_u64(value, 0, UINT64_MAX / NS_PER_US, &v);

	if (r == 0)
		*ret_ns = v * NS_PER_US;
	return r;
}

static int set_contract(void *o, const char *v)
{
	((struct options *)o)->mode = OPTIONS_CONTRACT;
	return 0;
}

static int set_arranged(void *o, const char *v)
{
	((struct options *)o)->mode = OPTIONS_ARRANGED;
	return 0;
}

static int set_connected(void *o, const char *v)
{
	((struct options *)o)->connected = true;
	return 0;
}

static int set_name(void *o, const char *v)
{
	((struct options *)o)->name = v;
	return 0;
}

static int set_socket_path(void *o, const char *v)
{
	((struct options *)o)->socket_path = v;
	return *v ? 0 : -EINVAL;
}

static int set_fd(void *o, const char *v)
{
	uint32_t fd;
	int r = set_u32(&fd, v, 0, INT32_MAX);

	if (r == 0)
		((struct options *)o)->fd = (int)fd;
	return r;
}

static int set_queues(void *o, const char *v)
{
	return set_u32(&((struct options *)o)->queues, v, 1, CONTRACT_MAX_QUEUES);
}

static int set_queue_size(void *o, const char *v)
{
	uint32_t size = 0;
	int r = set_u32(&size, v, CONTRACT_QUEUE_SIZE_MIN, CONTRACT_QUEUE_SIZE_MAX);

	if (r < 0 || !ring_size_ok(size))
		return -EINVAL;
	((struct options *)o)->queue_size = size;
	return 0;
}

static int set_limit(void *o, const char *v)
{
	return set_u32(&((struct options *)o)->restart_limit, v, 0, UINT32_MAX);
}

static int set_interval(void *o, const char *v)
{
	return set_usec(&((struct options *)o)->restart_interval_ns, v);
}

static int set_backoff(void *o, const char *v)
{
	return set_usec(&((struct options *)o)->restart_backoff_ns, v);
}

static int set_hang(void *o, const char *v)
{
	return set_usec(&((struct options *)o)->hang_timeout_ns, v);
}

static int set_no_io_uring(void *o, const char *v)
{
	((struct options *)o)->no_io_uring = true;
	return 0;
}

static int set_opcodes(void *o, const char *v)
{
	return parse_u64(v, 0, UINT64_MAX, &((struct options *)o)->uring_opcodes);
}

static int set_print(void *o, const char *v)
{
	((struct options *)o)->print_capabilities = true;
	return 0;
}

static int set_list_crash_points(void *o, const char *v)
{
	((struct options *)o)->list_crash_points = true;
	return 0;
}

static int set_help(void *o, const char *v)
{
	((struct options *)o)->help = true;
	return 0;
}

/*
 * GENERATION:THREADS:FAULTS:INTERVAL_START:STILLBORN:SESSIONS_PAID:WORKER, from options_for_exec().
 */
static int set_resume(void *o, const char *v)
{
	struct options_resume *r = &((struct options *)o)->resume;
	int end = 0;

	if (sscanf(v,
		   "%" SCNu32 ":%" SCNu32 ":%" SCNu32 ":%" SCNu64 ":%" SCNu32 ":%" SCNu64 ":%d%n",
		   &r->generation, &r->n_threads, &r->n_faults, &r->interval_start_ns,
		   &r->n_stillborn, &r->sessions_paid_ns, &r->worker, &end) != 7 ||
	    v[end] || r->n_threads == 0 || r->n_threads > CONTRACT_MAX_THREADS)
		return -EINVAL;
	r->set = true;
	return 0;
}

static const struct options_row shared[] = {
	{ "socket-path", "PATH", "listen on this Unix socket", set_socket_path },
	{ "fd", "N", "use this socket, listening or connected", set_fd },
	{ "name", "VM/DEVICE", "name in log records", set_name },
	{ "queues", "N", "queues for the guest, of net: pairs (default 1, at most 64 or fewer)",
	  set_queues },
	{ "queue-size", "N", "largest virtqueue, a power of 2 from 4 to 1024 (default 256)",
	  set_queue_size },
	{ "restart-limit", "N", "crashes in an interval after which to give up (default 10)",
	  set_limit },
	{ "restart-interval", "USEC", "that interval (default 60 s)", set_interval },
	{ "restart-backoff", "USEC", "first delay after repeated crashes (default 100 ms)",
	  set_backoff },
	{ "hang-timeout", "USEC", "kill a worker that makes no progress; 0: never (default 10 s)",
	  set_hang },
	{ "io-uring-opcodes", "NUMBER",
	  "of those that the device uses, only these: the sum of 2^opcode", set_opcodes },
	{ "no-io-uring", NULL, "use preadv2 and pwritev2 instead of io_uring", set_no_io_uring },
	{ "print-capabilities", NULL, "print what this program can do, as JSON", set_print },
	{ "help", NULL, "print this help", set_help },
	{ "contract", NULL, NULL, set_contract }, /* without help: not for people */
	{ "arranged", NULL, NULL, set_arranged },
	{ "connected", NULL, NULL, set_connected },
	{ "resume", "NUMBERS", NULL, set_resume },
	{ "list-crash-points", NULL, NULL, set_list_crash_points },
	{ NULL, NULL, NULL, NULL },
};

/* The row that arg names, and its value; NULL if none does or the value is missing or too much. */
static const struct options_row *find(const struct options_row *rows, const char *arg,
				      const char **ret_value)
{
	const char *equals = strchr(arg, '=');
	size_t len = equals ? (size_t)(equals - arg) : strlen(arg);

	for (const struct options_row *r = rows; r->name; r++) {
		if (strlen(r->name) != len || memcmp(r->name, arg, len) != 0)
			continue;
		if ((r->value != NULL) != (equals != NULL))
			return NULL;
		*ret_value = equals ? equals + 1 : NULL;
		return r;
	}
	return NULL;
}

static int parse_one(struct options *o, const struct options_row *rows, void *config,
		     const char *arg)
{
	const struct options_row *row = NULL;
	const char *value = NULL;
	void *target = o;

	if (strncmp(arg, "--", 2) == 0) {
		row = find(shared, arg + 2, &value);
		if (!row) {
			row = find(rows, arg + 2, &value);
			target = config;
		}
	}
	if (!row) {
		log_error("unknown argument '%s' (see --help)", arg);
		return -EINVAL;
	}
	if (row->set(target, value) < 0) {
		log_error("'%s' cannot be used: --%s takes %s: %s", arg, row->name,
			  row->value ? row->value : "no value", row->help ? row->help : "internal");
		return -EINVAL;
	}
	return 0;
}

int options_parse(struct options *o, const struct options_row *rows, void *config,
		  char *const *argv)
{
	*o = (struct options){
		.name = "device",
		.fd = -1,
		.queues = 1,
		.queue_size = 256,
		.restart_limit = 10,
		.uring_opcodes = UINT64_MAX,
		.restart_interval_ns = UINT64_C(60000000000),
		.restart_backoff_ns = UINT64_C(100000000),
		.hang_timeout_ns = UINT64_C(10000000000),
	};
	for (int i = 1; argv[i]; i++) {
		int r = i < MAX_ARGS - 4 ? parse_one(o, rows, config, argv[i]) : -E2BIG;

		if (r < 0)
			return r;
	}
	return 0;
}

static void help_rows(const struct options_row *rows)
{
	for (const struct options_row *r = rows; r->name; r++) {
		char left[64];

		if (!r->help)
			continue;
		snprintf(left, sizeof(left), "--%s%s%s", r->name, r->value ? "=" : "",
			 r->value ? r->value : "");
		printf("  %-28s %s\n", left, r->help);
	}
}

void options_help(const char *program, const struct options_row *rows)
{
	printf("%s: a vhost-user back-end that outlives its own crashes\n\n", program);
	help_rows(rows);
	help_rows(shared);
}

static bool is_ours(const char *arg)
{
	return strncmp(arg, "--resume=", 9) == 0 || strcmp(arg, "--arranged") == 0 ||
	       strcmp(arg, "--connected") == 0;
}

char *const *options_for_exec(char *const *argv, const struct options *o)
{
	static char *args[MAX_ARGS];
	static char resume[128];
	const struct options_resume *r = &o->resume;
	int n = 0;

	for (int i = 0; argv[i]; i++)
		if (!is_ours(argv[i]))
			args[n++] = argv[i];
	if (o->mode == OPTIONS_ARRANGED)
		args[n++] = (char *)(uintptr_t) "--arranged";
	if (o->connected)
		args[n++] = (char *)(uintptr_t) "--connected";
	if (r->set) {
		snprintf(resume, sizeof(resume),
			 "--resume=%" PRIu32 ":%" PRIu32 ":%" PRIu32 ":%" PRIu64 ":%" PRIu32
			 ":%" PRIu64 ":%d",
			 r->generation, r->n_threads, r->n_faults, r->interval_start_ns,
			 r->n_stillborn, r->sessions_paid_ns, r->worker);
		args[n++] = resume;
	}
	args[n] = NULL;
	return args;
}
