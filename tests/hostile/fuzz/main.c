/*
 * Replays a corpus: each argument is a file or a directory of files. Then --mutations=N inputs
 * that are made of those, the same ones on each run.
 *
 * Runs in: tests, where the compiler has no libFuzzer. Trusts: nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/parse.h"
#include "devices/base/scope.h"
#include "tests/hostile/fuzz/fuzz.h"

enum { MAX_INPUTS = 4096, MAX_LEN = 65536 };

static struct input {
	uint8_t *data;
	size_t len;
} inputs[MAX_INPUTS];
static size_t n_inputs;

/* In memory of exactly this length, so that the sanitizer sees a byte read beyond it. */
static void run(const uint8_t *data, size_t len)
{
	scope_free uint8_t *copy = malloc(len ? len : 1);

	CLAIM(copy);
	if (len)
		memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the analyzer does not know scope_free */
}

static int load_file(int dir, const char *name)
{
	scope_fd int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	scope_free uint8_t *data = malloc(MAX_LEN);
	ssize_t len;

	if (fd < 0 || !data)
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it does not know scope_free */
		return -errno;
	len = read(fd, data, MAX_LEN);
	if (len < 0)
		return -errno;
	if (n_inputs == MAX_INPUTS)
		return -E2BIG;
	inputs[n_inputs++] = (struct input){ .data = take_ptr(data), .len = (size_t)len };
	return 0;
}

static int compare(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int load_dir(const char *path)
{
	scope_fd int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **names;
	int r = 0, n;

	if (dir < 0)
		return -errno;
	/* Sorted: mutations are the same wherever the files lie. */
	n = scandirat(dir, ".", &names, NULL, compare);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (r == 0 && names[i]->d_name[0] != '.')
			r = load_file(dir, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return r;
}

static uint64_t random_state = UINT64_C(0x9e3779b97f4a7c15);

/* xorshift64*: any sequence does that is the same on each run. */
static size_t random_below(size_t n)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (size_t)((random_state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % n;
}

/* One change of some bytes, or of the length. */
static size_t mutate(uint8_t *data, size_t len)
{
	static const uint8_t interesting[] = { 0, 1, 2, 4, 8, 0x10, 0x7f, 0x80, 0xff };
	size_t at = len ? random_below(len) : 0;

	switch (len ? random_below(6) : 5) {
	case 0:
		data[at] ^= (uint8_t)(1u << random_below(8));
		return len;
	case 1:
		data[at] = interesting[random_below(sizeof(interesting))];
		return len;
	case 2:
		data[at] = (uint8_t)random_below(256);
		return len;
	case 3:
		return at;
	case 4: {
		size_t from = random_below(len),
		       n = random_below(len - (at > from ? at : from)) + 1;

		memmove(data + at, data + from, n);
		return len;
	}
	default:
		if (len == MAX_LEN)
			return len;
		memmove(data + at + 1, data + at, len - at);
		data[at] = (uint8_t)random_below(256);
		return len + 1;
	}
}

static void run_mutations(uint64_t n)
{
	static uint8_t data[MAX_LEN];

	for (uint64_t i = 0; i < n; i++) {
		const struct input *input = &inputs[random_below(n_inputs)];
		size_t len = input->len;

		memcpy(data, input->data, len);
		for (size_t changes = random_below(8) + 1; changes > 0; changes--)
			len = mutate(data, len);
		run(data, len);
	}
}

static int load(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? load_dir(path) : load_file(AT_FDCWD, path);
}

int main(int argc, char **argv)
{
	static const char option[] = "--mutations=";
	uint64_t n_mutations = 0;

	for (int i = 1; i < argc; i++) {
		int r = strncmp(argv[i], option, strlen(option)) == 0
				? parse_u64(argv[i] + strlen(option), 0, UINT32_MAX, &n_mutations)
				: load(argv[i]);

		if (r < 0) {
			fprintf(stderr, "%s: %s\n", argv[i], error_text(r));
			return 1;
		}
	}
	if (n_inputs == 0) {
		fprintf(stderr, "usage: %s [--mutations=N] FILE|DIRECTORY...\n", argv[0]);
		return 2;
	}
	for (size_t i = 0; i < n_inputs; i++)
		run(inputs[i].data, inputs[i].len);
	run_mutations(n_mutations);
	printf("%zu inputs, %llu mutations\n", n_inputs, (unsigned long long)n_mutations);
	for (size_t i = 0; i < n_inputs; i++)
		free(inputs[i].data);
	return 0;
}
