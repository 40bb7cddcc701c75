/* See outside.h. */
#include "tests/frontend/outside.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

void outside_begin(struct outside *o, const struct claim_context *x)
{
	int fd;

	snprintf(o->dir, sizeof(o->dir), "%s/outside", x->backend.dir);
	snprintf(o->canary, sizeof(o->canary), "%s/canary", o->dir);
	expect(mkdir(o->dir, 0755) == 0 || errno == EEXIST, "%s", strerror(errno));
	fd = open(o->canary, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	expect(fd >= 0 && write(fd, "alive", 5) == 5, "%s", strerror(errno));
	close(fd);
	o->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	expect(inotify_add_watch(o->watch, o->dir, IN_ALL_EVENTS) >= 0, "%s", strerror(errno));
}

void outside_end(struct outside *o)
{
	struct inotify_event event[16];
	ssize_t n = read(o->watch, event, sizeof(event));

	expect(n < 0 && errno == EAGAIN, "the canary was touched: event %x", event[0].mask);
	/* And the watch works: this is seen. */
	n = open(o->canary, O_RDONLY | O_CLOEXEC);
	close((int)n);
	expect(read(o->watch, event, sizeof(event)) > 0, "the watch sees nothing");
	close(o->watch);
}
