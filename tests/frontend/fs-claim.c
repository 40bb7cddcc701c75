/* See fs-claim.h. */
#include "tests/frontend/fs-claim.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct fs_claim *fs_claim_begin(struct claim_context *x, const char *name,
				const struct fc_spec *spec)
{
	static const struct fc_spec everything;
	static struct fs_claim f;
	struct fuse_entry_out e;

	snprintf(f.path, sizeof(f.path), "%s/%s", x->backend.share, name);
	expect(mkdir(f.path, 0755) == 0, "%s: %s", f.path, strerror(errno));
	expect_ok(fc_begin(&f.c, x->backend.socket, spec ? spec : &everything));
	expect_ok(fc_lookup(&f.c, FC_ROOT, name, &e));
	f.dir = e.nodeid;
	return &f;
}

void fs_claim_end(struct fs_claim *f)
{
	for (unsigned k = 0; k < f->c.fe.n_queues; k++)
		expect_is(f->c.fe.queues[k].n_bogus, 0);
	expect(!fe_gone(&f->c.fe), "the back-end has hung up");
	fc_end(&f->c);
}

const char *fs_claim_path(const struct fs_claim *f, const char *name)
{
	static char path[8][700];
	static unsigned next;
	char *p = path[next++ % 8];

	snprintf(p, sizeof(path[0]), "%s/%s", f->path, name);
	return p;
}

struct stat fs_claim_stat(const struct fs_claim *f, const char *name)
{
	struct stat st;

	expect(lstat(fs_claim_path(f, name), &st) == 0, "%s: %s", name, strerror(errno));
	return st;
}

bool fs_claim_exists(const struct fs_claim *f, const char *name)
{
	struct stat st;

	return lstat(fs_claim_path(f, name), &st) == 0;
}

void fs_claim_write(const struct fs_claim *f, const char *name, const char *text)
{
	int fd = open(fs_claim_path(f, name), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);

	expect(fd >= 0, "%s: %s", name, strerror(errno));
	expect_is(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

bool fs_claim_holds(const struct fs_claim *f, const char *name, const char *text)
{
	int fd = open(fs_claim_path(f, name), O_RDONLY | O_CLOEXEC);
	char got[4096];
	ssize_t len;

	expect(fd >= 0, "%s: %s", name, strerror(errno));
	len = read(fd, got, sizeof(got));
	close(fd);
	return len == (ssize_t)strlen(text) && memcmp(got, text, (size_t)len) == 0;
}
