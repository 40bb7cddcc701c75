/*
 * guest-load: what a test guest does with its disk.
 *
 *	guest-load --device=/dev/vda [--seconds=N] [--seed=N] [--depth=N] [--threads=N]
 *[--len=BYTES] guest-load --files=DIR [--remount=DEVICE] [--seconds=N] [--seed=N] [--threads=N]
 *	guest-load --tree=DIR [--known=N] [--seconds=N] [--seed=N] [--threads=N]
 *	guest-load --examine-tree=DIR		on the host: what is there
 *	guest-load --examine=IMAGE --seed=N	on the host: what an image holds
 *	guest-load --self-test=FILE		on the host: is damage of every kind found?
 *
 * Ends after --seconds (0: never) or when "stop" comes in on standard input, checks all that there
 *is, and prints one JSON line (report.h). Exit status: 0 nothing lost, 1 something was, 2 could not
 *run, 3 stuck.
 *
 * Runs in: the test guest, static; the last two on the host.
 * Trusts:  its arguments.
 */
#include "tests/e2e/guest/disk.h"
#include "tests/e2e/guest/files.h"
#include "tests/e2e/guest/self-test.h"
#include "tests/e2e/guest/tree.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_WRONG = 1, EXIT_CANNOT = 2, EXIT_STUCK = 3 };

struct options {
	const char *device, *files, *remount, *tree, *examine, *examine_tree, *self_test;
	unsigned long long seconds, stall, seed, depth, threads, len, known;
};

static int run_disk(const struct options *o)
{
	static struct report report;
	static struct disk disk;
	const struct disk_spec spec = {
		.path = o->device,
		.seed = o->seed,
		.depth = (unsigned)o->depth,
		.threads = (unsigned)o->threads,
		.len = o->len,
	};
	int r;

	report_init(&report, (unsigned)o->seconds, (unsigned)o->stall);
	r = disk_open(&disk, &spec, &report);
	if (r < 0) {
		printf("@wrong cannot use %s: %s\n", o->device, strerror(-r));
		return EXIT_CANNOT;
	}
	r = disk_load(&disk);
	if (disk.stalled) {
		(void)disk_result(&disk);
		_exit(EXIT_STUCK);
	}
	if (r == 0)
		r = disk_verify(&disk);
	if (r < 0) {
		atomic_fetch_add(&report.n_errors, 1);
		report_complain(&report, "%s", strerror(-r));
	}
	r = disk_result(&disk);
	disk_close(&disk);
	return r;
}

static int run_files(const struct options *o)
{
	static struct report report;
	const struct files_spec spec = {
		.dir = o->files,
		.remount_dev = o->remount,
		.seed = o->seed,
		.threads = (unsigned)o->threads,
	};
	int r;

	if (o->threads < 1 || o->threads > 16)
		return EXIT_CANNOT;
	report_init(&report, (unsigned)o->seconds, (unsigned)o->stall);
	r = files_load(&spec, &report);
	fflush(stdout);
	_exit(r); /* a stuck thread must not hold the end up */
}

static int run_tree(const struct options *o)
{
	static struct report report;
	const struct tree_spec spec = { .dir = o->tree,
					.seed = o->seed,
					.threads = (unsigned)o->threads,
					.known = (unsigned)o->known };
	int r;

	if (o->threads < 1 || o->threads > 16)
		return EXIT_CANNOT;
	report_init(&report, (unsigned)o->seconds, (unsigned)o->stall);
	r = tree_load(&spec, &report);
	fflush(stdout);
	_exit(r); /* a stuck thread must not hold the end up */
}

static int parse_number(const char *text, unsigned long long *ret_v)
{
	char *end;

	*ret_v = strtoull(text, &end, 10);
	return *text && !*end ? 0 : -1;
}

static int parse(int argc, char *argv[], struct options *o)
{
	const struct {
		const char *name;
		const char **text;
		unsigned long long *number;
	} rows[] = {
		{ "device", &o->device, NULL },
		{ "files", &o->files, NULL },
		{ "remount", &o->remount, NULL },
		{ "tree", &o->tree, NULL },
		{ "examine", &o->examine, NULL },
		{ "examine-tree", &o->examine_tree, NULL },
		{ "self-test", &o->self_test, NULL },
		{ "seconds", NULL, &o->seconds },
		{ "stall", NULL, &o->stall },
		{ "seed", NULL, &o->seed },
		{ "depth", NULL, &o->depth },
		{ "threads", NULL, &o->threads },
		{ "len", NULL, &o->len },
		{ "known", NULL, &o->known },
	};
	enum { N_ROWS = sizeof(rows) / sizeof(*rows) };
	struct option options[N_ROWS + 1] = { 0 };
	int idx;

	for (unsigned i = 0; i < N_ROWS; i++)
		options[i] = (struct option){ rows[i].name, required_argument, NULL, 1 };
	for (int c; (c = getopt_long(argc, argv, "", options, &idx)) != -1;) {
		if (c != 1)
			return -1;
		if (rows[idx].text)
			*rows[idx].text = optarg;
		else if (parse_number(optarg, rows[idx].number) < 0)
			return -1;
	}
	return optind == argc ? 0 : -1;
}

int main(int argc, char *argv[])
{
	struct options o = { .seconds = 10, .stall = 60, .seed = 1, .depth = 32, .threads = 2 };

	if (parse(argc, argv, &o) == 0) {
		if (o.device)
			return run_disk(&o);
		if (o.files)
			return run_files(&o);
		if (o.tree)
			return run_tree(&o);
		if (o.examine_tree)
			return tree_examine(o.examine_tree);
		if (o.examine)
			return disk_examine(o.examine, o.seed);
		if (o.self_test)
			return self_test(o.self_test);
	}
	fprintf(stderr, "usage: see the head of tests/e2e/guest/load.c\n");
	return EXIT_CANNOT;
}
