/* What the scripts share. See fs-script.h. */
#include "tests/frontend/fs-script.h"

#include "tests/frontend/backend.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void fs_script_must(struct fs_script *s, const char *step, int r)
{
	if (r == 0)
		return;
	fprintf(stderr, "    %s: %d (%s)\n", step, r, r < 0 ? strerror(-r) : "?");
	_exit(1);
}

/* Batch by batch; the first files twice if the number does not come out even. */
static void know(struct fs_script *s)
{
	struct fuse_entry_out known;
	char name[FS_SCRIPT_BATCH][16];

	if (s->n_known == 0)
		return;
	MUST(fc_lookup(&s->c, FC_ROOT, "known", &known));
	for (unsigned at = 0; at < s->n_known; at += FS_SCRIPT_BATCH) {
		for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++) {
			struct fc_op op = { .opcode = FUSE_LOOKUP,
					    .nodeid = known.nodeid,
					    .n_parts = 1,
					    .room = sizeof(known) };

			snprintf(name[i], sizeof(name[i]), "%u", (at + i) % s->n_known);
			op.part[0].p = name[i];
			op.part[0].len = strlen(name[i]) + 1;
			fc_add(&s->c, s->c.queue, &s->calls[i], &op);
		}
		fc_kick(&s->c, s->c.queue);
		for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
			MUST(fc_wait(&s->c, s->c.queue, &s->calls[i]));
	}
}

void fs_script_begin(struct fs_script *s, const char *name)
{
	struct fc_spec spec = { .session = { .inflight = true } };
	struct fuse_entry_out e;
	char dir[64];

	snprintf(dir, sizeof(dir), "%s-%u", name, s->round);
	snprintf(s->path, sizeof(s->path), "%s/%s", s->share, dir);
	CLAIM(mkdir(s->path, 0755) == 0);
	MUST(fc_begin(&s->c, s->socket, &spec));
	for (unsigned i = 0; i < FS_SCRIPT_BATCH; i++)
		fc_call_init(&s->calls[i], &s->c.fe.mem);
	MUST(fc_lookup(&s->c, FC_ROOT, dir, &e));
	s->dir = e.nodeid;
	know(s);
	if (s->begun)
		s->begun(s);
}

/* Open descriptors of the worker that lead to the share: what it has kept for the guest. */
static unsigned count_kept(const struct fs_script *s)
{
	char path[64], link[512];
	pid_t worker = backend_worker_await(s->keeper, 0, 2000);
	size_t share_len = strlen(s->share);
	const struct dirent *e;
	unsigned n = 0;
	ssize_t len;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", worker);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		len = readlinkat(dirfd(d), e->d_name, link, sizeof(link));
		n += len > (ssize_t)share_len && memcmp(link, s->share, share_len) == 0;
	}
	if (d)
		closedir(d);
	return d ? n : UINT32_MAX;
}

/* But for those known before, with their directory, the script's own directory is the last that the device keeps. */
void fs_script_end(struct fs_script *s)
{
	unsigned kept = s->n_known > 0 ? s->n_known + 1 : 0;
	struct fe *fe = &s->c.fe;

	fs_script_forget(s, s->dir, 1);
	/* A forgotten file is closed just after the answer; and what we see may be a dead worker that is not gone. */
	for (int i = 0; i < 1000 && count_kept(s) != kept; i++)
		usleep(1000);
	MUST((int)count_kept(s) - (int)kept);
	for (unsigned k = 0; k < fe->n_queues; k++) {
		CLAIM(fe->queues[k].n_bogus == 0);
		CLAIM(fe_queue_outstanding(&fe->queues[k]) == 0);
	}
	CLAIM(!fe_gone(fe));
	fc_end(&s->c);
}

static void kill_worker(struct fs_script *s)
{
	pid_t worker = backend_worker_await(s->keeper, 0, 2000);

	s->kill_too = false;
	CLAIM(worker > 0);
	kill(worker, SIGKILL);
}

void fs_script_run(struct fs_script *s, const char *step)
{
	unsigned i;

	fc_kick(&s->c, s->c.queue);
	if (s->kill_too)
		kill_worker(s);
	if (s->sent)
		s->sent(s);
	for (i = 0; i < FS_SCRIPT_BATCH; i++)
		fs_script_must(s, step, fc_wait(&s->c, s->c.queue, &s->calls[i]));
}

int fs_script_stat(const struct fs_script *s, const char *name, struct stat *ret)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", s->path, name);
	return lstat(path, ret) < 0 ? -errno : 0;
}

void fs_script_forget(struct fs_script *s, uint64_t nodeid, uint64_t n)
{
	MUST(fc_getattr(&s->c, nodeid, NULL));
	if (n > 1) {
		fc_forget(&s->c, nodeid, n - 1);
		MUST(fc_getattr(&s->c, nodeid, NULL));
	}
	fc_forget(&s->c, nodeid, 1);
	CLAIM(fc_getattr(&s->c, nodeid, NULL) == -ESTALE);
}
