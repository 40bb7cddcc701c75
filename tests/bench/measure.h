/* Work per second, latency, and CPU of the processes that did it. For the load generators. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	MEASURE_BUCKETS = 65536, /* of latency: MEASURE_BUCKET_NS each, the last one open */
	MEASURE_BUCKET_NS = 500,
	MEASURE_MAX_PIDS = 16,
};

struct measure {
	double seconds;		      /* after a warm-up */
	pid_t pids[MEASURE_MAX_PIDS]; /* whose CPU is counted; 0: none */
	uint64_t n_done;	      /* units of work */
	uint64_t n_timed;
	uint64_t buckets[MEASURE_BUCKETS];
	uint64_t begin_ns, end_ns, cpu_begin_ns, cpu_end_ns;
	uint64_t first_ns;
	bool measuring;
};

uint64_t measure_now_ns(void);

/* Called now and then with the time: begins and ends the measurement. False when it is over. */
bool measure_goes_on(struct measure *m, uint64_t now);

/* n units of work are done, begun at started_ns. */
void measure_count(struct measure *m, uint64_t n, uint64_t started_ns, uint64_t now);

/* For who measures by himself: nothing is done or timed yet; CPU so far; of what was timed. */
void measure_reset(struct measure *m);
uint64_t measure_cpu_ns(const struct measure *m);
double measure_percentile_us(const struct measure *m, double p);

/* One JSON object, on a line of its own. */
void measure_report(const struct measure *m);
