/*
 * What the load says on its console: a line for progress, a line per thing gone wrong, one JSON
 * line at the end. Also the end itself: a time limit, or the word "stop" on standard input.
 *
 * Runs in: the test guest.
 * Trusts:  standard input.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct report {
	uint64_t start_ns;
	uint64_t end_ns;   /* 0: no limit */
	uint64_t stall_ns; /* without any completion for so long, the run has failed */
	atomic_bool stop;
	atomic_uint_fast64_t n_reads, n_writes, n_flushes, n_discards, n_zeroes;
	atomic_uint_fast64_t n_unsupported;
	atomic_uint_fast64_t n_errors;
	atomic_uint_fast64_t slowest_ns;
	atomic_uint_fast64_t last_done_ns; /* when the last request completed */
	atomic_uint n_complaints;
	atomic_uint n_running; /* threads that have not seen the stop yet, or wait for the disk */
};

uint64_t now_ns(void);
void report_init(struct report *r, unsigned seconds, unsigned stall_seconds);
/* A request that was sent at sent_ns has completed. */
void report_done(struct report *r, uint64_t sent_ns);
/* One line about something wrong; the first few only. */
void report_complain(struct report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t report_n_ios(struct report *r);
/*
 * Waits until the run is to end, with a line of progress twice a second; get_mismatches counts
 * them. False: nothing completed for too long, and nothing can be joined any more.
 */
bool report_wait(struct report *r, uint64_t (*get_mismatches)(void *), void *userdata);

/* After that: waits until no thread runs any more. False as above. */
bool report_drain(struct report *r);

struct report_result {
	const char *kind;
	uint64_t n_mismatches;
	uint64_t n_lost_flushed;
	uint64_t digest;
	uint64_t n_blocks;    /* that hold data */
	const char *verdicts; /* JSON members, or "" */
	bool stalled;
};

/* The last line. Returns the exit status: 0 only when nothing was wrong. */
int report_result(struct report *r, const struct report_result *result);
