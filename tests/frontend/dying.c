/* See dying.h. */
#include "tests/frontend/dying.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * Flags of a thread that runs no more code of its own; the first one is set when do_exit() begins
 * (Linux 5.17).
 */
#define PF_POSTCOREDUMP 0x8ul
#define PF_EXITING	0x4ul
#define PF_IO_WORKER	0x10ul /* an io-wq thread never does */

/* Whether it can publish no more, if it ever could. */
static bool never_publishes(int fd)
{
	char text[512], *at;
	unsigned long flags;
	ssize_t n;

	n = pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return true;
	text[n] = 0;
	at = strrchr(text, ')');
	/* Field 9 of stat(5): the kernel's flags of the thread. */
	if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %lu", &flags) != 1)
		errx(99, "unreadable stat: %s", text);
	return flags & (PF_POSTCOREDUMP | PF_EXITING | PF_IO_WORKER);
}

/*
 * Threads of io-wq are left out: each look after the kill takes processor time from those who
 * recover.
 */
void dying_open(struct dying *d, pid_t pid)
{
	char path[300];
	struct dirent *e;
	DIR *dir;

	d->n = 0;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && d->n < DYING_MAX_THREADS && (e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", pid, e->d_name);
		d->fds[d->n] = open(path, O_RDONLY | O_CLOEXEC);
		if (d->fds[d->n] >= 0 && !never_publishes(d->fds[d->n]))
			d->n++;
		else
			close(d->fds[d->n]);
	}
	if (dir)
		closedir(dir);
}

void dying_await(struct dying *d)
{
	const struct timespec pause = { .tv_nsec = 20000 };
	unsigned i;

	for (i = 0; i < d->n; i++) {
		while (!never_publishes(d->fds[i]))
			nanosleep(&pause, NULL);
		close(d->fds[i]);
	}
}
