/*
 * What the load says on its console: see report.h.
 *
 * Runs in: the test guest.
 * Trusts:  standard input.
 */
#include "tests/e2e/guest/report.h"

#include <dirent.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)

enum { MAX_COMPLAINTS = 20, PROGRESS_MS = 500 };

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void report_init(struct report *r, unsigned seconds, unsigned stall_seconds)
{
	*r = (struct report){ .start_ns = now_ns() };
	r->end_ns = seconds ? r->start_ns + seconds * NS_PER_S : 0;
	r->stall_ns = stall_seconds * NS_PER_S;
	atomic_store(&r->last_done_ns, r->start_ns);
}

void report_done(struct report *r, uint64_t sent_ns)
{
	uint64_t now = now_ns();
	uint_fast64_t slowest = atomic_load(&r->slowest_ns);

	atomic_store(&r->last_done_ns, now);
	while (now - sent_ns > slowest &&
	       !atomic_compare_exchange_weak(&r->slowest_ns, &slowest, now - sent_ns))
		;
}

void report_complain(struct report *r, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (atomic_fetch_add(&r->n_complaints, 1) >= MAX_COMPLAINTS)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	printf("@wrong %s\n", text);
	fflush(stdout);
}

uint64_t report_n_ios(struct report *r)
{
	return atomic_load(&r->n_reads) + atomic_load(&r->n_writes) + atomic_load(&r->n_flushes) +
	       atomic_load(&r->n_discards) + atomic_load(&r->n_zeroes);
}

/* True when the host said stop. A closed input says nothing: then the time limit ends the run. */
static bool told_to_stop(int timeout_ms, bool *input_open)
{
	static char line[64];
	static size_t line_len;
	struct pollfd p = { .fd = *input_open ? 0 : -1, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, timeout_ms) <= 0)
		return false;
	n = read(0, line + line_len, sizeof(line) - 1 - line_len);
	if (n <= 0) {
		*input_open = false;
		return false;
	}
	line_len += (size_t)n;
	line[line_len] = '\0';
	if (strstr(line, "stop"))
		return true;
	if (line_len > sizeof(line) / 2)
		line_len = 0;
	return false;
}

static void progress(struct report *r, uint64_t n_mismatches)
{
	printf("@load {\"seconds\":%.1f,\"ios\":%llu,\"flushes\":%llu,\"errors\":%llu,"
	       "\"mismatches\":%llu}\n",
	       (double)(now_ns() - r->start_ns) / NS_PER_S, (unsigned long long)report_n_ios(r),
	       (unsigned long long)atomic_load(&r->n_flushes),
	       (unsigned long long)atomic_load(&r->n_errors), (unsigned long long)n_mismatches);
	fflush(stdout);
}

static bool stalled_since(struct report *r, uint64_t since_ns)
{
	uint64_t last_ns = atomic_load(&r->last_done_ns);

	/* The clock is read after: it is not before either. */
	return now_ns() - (last_ns > since_ns ? last_ns : since_ns) > r->stall_ns;
}

bool report_wait(struct report *r, uint64_t (*get_mismatches)(void *), void *userdata)
{
	bool input_open = true;
	uint64_t next_ns = now_ns();

	for (;;) {
		uint64_t now = now_ns();

		if (r->end_ns && now >= r->end_ns)
			break;
		if (stalled_since(r, r->start_ns))
			return false;
		if (now >= next_ns) {
			progress(r, get_mismatches(userdata));
			next_ns = now + PROGRESS_MS * (NS_PER_S / 1000);
		}
		if (told_to_stop(PROGRESS_MS / 5, &input_open))
			break;
	}
	atomic_store(&r->stop, true);
	return true;
}

bool report_drain(struct report *r)
{
	uint64_t since_ns = now_ns();

	while (atomic_load(&r->n_running) > 0) {
		if (stalled_since(r, since_ns))
			return false;
		usleep(5000);
	}
	return true;
}

/* How many queues the disk's driver really uses; 0 where that cannot be seen. */
static unsigned disk_queues(void)
{
	DIR *dir = opendir("/sys/block/vda/mq");
	unsigned n = 0;

	if (!dir)
		return 0;
	for (struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* Requests that the disk has completed by its driver's count; 0 where that cannot be seen. */
static unsigned long long disk_requests(void)
{
	unsigned long long v[17] = { 0 };
	FILE *f = fopen("/sys/block/vda/stat", "re");
	unsigned n = 0;

	if (!f)
		return 0;
	while (n < 17 && fscanf(f, "%llu", &v[n]) == 1)
		n++;
	fclose(f);
	return v[0] + v[4] + v[11] + v[15]; /* reads, writes, discards, flushes */
}

int report_result(struct report *r, const struct report_result *x)
{
	uint64_t n_errors = atomic_load(&r->n_errors);
	bool good = !x->stalled && n_errors == 0 && x->n_mismatches == 0 && report_n_ios(r) > 0;

	printf("@done {\"kind\":\"%s\",\"ios\":%llu,\"disk_requests\":%llu,\"reads\":%llu,"
	       "\"writes\":%llu,\"flushes\":%llu,\"discards\":%llu,\"zeroes\":%llu,"
	       "\"unsupported\":%llu,\"errors\":%llu,\"mismatches\":%llu,\"lost_flushed\":%llu,%s"
	       "\"slowest_ms\":%.2f,\"seconds\":%.2f,\"queues\":%u,\"digest\":\"%016llx\","
	       "\"blocks\":%llu,\"stalled\":%s}\n",
	       x->kind, (unsigned long long)report_n_ios(r), disk_requests(),
	       (unsigned long long)r->n_reads, (unsigned long long)r->n_writes,
	       (unsigned long long)r->n_flushes, (unsigned long long)r->n_discards,
	       (unsigned long long)r->n_zeroes, (unsigned long long)r->n_unsupported,
	       (unsigned long long)n_errors, (unsigned long long)x->n_mismatches,
	       (unsigned long long)x->n_lost_flushed, x->verdicts, (double)r->slowest_ns / 1e6,
	       (double)(now_ns() - r->start_ns) / NS_PER_S, disk_queues(),
	       (unsigned long long)x->digest, (unsigned long long)x->n_blocks,
	       x->stalled ? "true" : "false");
	fflush(stdout);
	return good ? 0 : 1;
}
