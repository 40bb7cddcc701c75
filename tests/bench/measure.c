/*
 * Measuring. See measure.h.
 *
 * Runs in: the load generators. Trusts: its caller.
 *
 * CPU is the process CPU clock of the back-end's processes (for our own programs keeper and worker): it has
 * nanoseconds, and counts io-wq threads and threads that have ended.
 */
#include "tests/bench/measure.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define WARM_UP_NS UINT64_C(300000000)

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t = {};

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t measure_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t measure_cpu_ns(const struct measure *m)
{
	uint64_t sum = 0;
	clockid_t clock;

	for (unsigned i = 0; i < MEASURE_MAX_PIDS; i++)
		if (m->pids[i] && clock_getcpuclockid(m->pids[i], &clock) == 0)
			sum += clock_ns(clock);
	return sum;
}

void measure_reset(struct measure *m)
{
	m->n_done = m->n_timed = 0;
	memset(m->buckets, 0, sizeof(m->buckets));
}

bool measure_goes_on(struct measure *m, uint64_t now)
{
	if (!m->first_ns)
		m->first_ns = now;
	if (!m->measuring && now - m->first_ns > WARM_UP_NS) {
		m->measuring = true;
		measure_reset(m);
		m->begin_ns = now;
		m->cpu_begin_ns = measure_cpu_ns(m);
	}
	if (m->measuring && (double)(now - m->begin_ns) > m->seconds * 1e9) {
		m->cpu_end_ns = measure_cpu_ns(m);
		m->end_ns = now;
		return false;
	}
	return true;
}

void measure_count(struct measure *m, uint64_t n, uint64_t started_ns, uint64_t now)
{
	uint64_t bucket = (now - started_ns) / MEASURE_BUCKET_NS;

	m->buckets[bucket < MEASURE_BUCKETS ? bucket : MEASURE_BUCKETS - 1]++;
	m->n_timed++;
	m->n_done += n;
}

double measure_percentile_us(const struct measure *m, double p)
{
	uint64_t sum = 0, i;

	for (i = 0; i < MEASURE_BUCKETS; i++) {
		sum += m->buckets[i];
		if ((double)sum >= p * (double)m->n_timed)
			break;
	}
	return ((double)i + 0.5) * MEASURE_BUCKET_NS / 1e3;
}

void measure_report(const struct measure *m)
{
	double seconds = (double)(m->end_ns - m->begin_ns) / 1e9, n = (double)m->n_done;

	printf("{\"requests\":%lu,\"seconds\":%.3f,\"per_second\":%.1f,\"cpu_us\":%.4f,"
	       "\"latency_us\":{\"p50\":%.1f,\"p99\":%.1f}}\n",
	       m->n_done, seconds, n / seconds, (double)(m->cpu_end_ns - m->cpu_begin_ns) / n / 1e3,
	       measure_percentile_us(m, 0.5), measure_percentile_us(m, 0.99));
}
