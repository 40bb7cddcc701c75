/*
 * Claims that no path leads out of a shared directory, with a canary outside that is watched.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 *
 * The device runs by hand here, without the sandbox that would hold by itself: its own care is what is tried.
 */
#include "tests/frontend/fs-claim.h"
#include "tests/frontend/outside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { ROUNDS = 3000 };

static const struct backend_spec plain = { .share = "", .n_queues = 1 };

/* A directory and a symbolic link to the outside, changing places as fast as that goes. */
struct swapper {
	const struct fs_claim *f;
	atomic_bool stop;
	pthread_t thread;
};

static void *swap(void *arg)
{
	struct swapper *s = arg;
	char a[500], b[500];

	snprintf(a, sizeof(a), "%s/a", s->f->path);
	snprintf(b, sizeof(b), "%s/b", s->f->path);
	while (!atomic_load(&s->stop))
		syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
	return NULL;
}

static void swap_begin(struct swapper *s, const struct fs_claim *f, const struct outside *o)
{
	*s = (struct swapper){ .f = f };
	expect(mkdir(fs_claim_path(f, "a"), 0755) == 0, "%s", strerror(errno));
	expect(symlink(o->dir, fs_claim_path(f, "b")) == 0, "%s", strerror(errno));
	expect_is(pthread_create(&s->thread, NULL, swap, s), 0);
}

static void swap_end(struct swapper *s)
{
	atomic_store(&s->stop, true);
	pthread_join(s->thread, NULL);
}

/* Whatever a node found under a changing name is good for. Any answer is right that does not touch the outside. */
static void use_node(struct fs_claim *f, uint64_t node)
{
	struct fuse_setattr_in set = { .valid = FATTR_MODE, .mode = 0700 };
	struct fuse_open_out open;
	struct fc_opened opened;

	(void)fc_lookup(&f->c, node, "canary", NULL);
	(void)fc_unlink(&f->c, node, "canary");
	(void)fc_mkdir(&f->c, node, "made", 0755, NULL);
	(void)fc_rmdir(&f->c, node, "made");
	if (fc_create(&f->c, node, "created", O_RDWR | O_CREAT, S_IFREG | 0644, &opened) == 0)
		(void)fc_release(&f->c, opened.entry.nodeid, opened.open.fh);
	(void)fc_unlink(&f->c, node, "created");
	(void)fc_setattr(&f->c, node, &set, NULL);
	(void)fc_setxattr(&f->c, node, "user.x", "y", 1, 0);
	if (fc_opendir(&f->c, node, &open) == 0)
		(void)fc_releasedir(&f->c, node, open.fh);
	if (fc_open(&f->c, node, O_RDWR, &open) == 0)
		(void)fc_release(&f->c, node, open.fh);
}

static void a_name_that_changes_leads_nowhere_else(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "changing", NULL);
	struct outside o;
	struct swapper s;

	outside_begin(&o, x);
	swap_begin(&s, f, &o);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct fuse_entry_out e;

		if (fc_lookup(&f->c, f->dir, i % 2 ? "a" : "b", &e) == 0) {
			use_node(f, e.nodeid);
			fc_forget(&f->c, e.nodeid, 1);
		}
		(void)fc_create(&f->c, f->dir, i % 2 ? "a" : "b", O_RDWR | O_CREAT | O_TRUNC,
				S_IFREG | 0644, NULL);
	}
	swap_end(&s);
	outside_end(&o);
	fs_claim_end(f);
}

static void a_link_is_never_followed(struct claim_context *x)
{
	static const char *const magic[] = { "/proc/self/root", "/proc/self/cwd", "/proc/1/root",
					     "/proc/self/fd/10" };
	struct fs_claim *f = fs_claim_begin(x, "links", NULL);
	struct fuse_entry_out e;
	struct outside o;

	outside_begin(&o, x);
	expect_ok(fc_symlink(&f->c, f->dir, "absolute", o.canary, &e));
	use_node(f, e.nodeid);
	expect_is(fc_open(&f->c, e.nodeid, O_RDONLY, NULL), -ELOOP);
	expect(fc_create(&f->c, f->dir, "absolute", O_RDWR | O_CREAT, S_IFREG | 0644, NULL) < 0,
	       "a link was opened by CREATE");
	expect_ok(fc_symlink(&f->c, f->dir, "relative", "../../outside", &e));
	use_node(f, e.nodeid);
	for (unsigned i = 0; i < sizeof(magic) / sizeof(*magic); i++) {
		expect_ok(fc_symlink(&f->c, f->dir, "magic", magic[i], &e));
		use_node(f, e.nodeid);
		expect_is(fc_lookup(&f->c, e.nodeid, "etc", NULL), -ENOTDIR);
		expect_ok(fc_unlink(&f->c, f->dir, "magic"));
	}
	outside_end(&o);
	fs_claim_end(f);
}

/* Made by the host, for the guest cannot: opened, one would hang and the other would be the host's device. */
static void pipes_and_devices_are_not_opened(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "special", NULL);
	static const char *const names[] = { "pipe", "null" };

	expect(mkfifo(fs_claim_path(f, "pipe"), 0644) == 0, "%s", strerror(errno));
	expect(mknod(fs_claim_path(f, "null"), S_IFCHR | 0666, makedev(1, 3)) == 0, "%s",
	       strerror(errno));
	for (unsigned i = 0; i < 2; i++) {
		struct fuse_entry_out e;

		expect_ok(fc_lookup(&f->c, f->dir, names[i], &e));
		expect(fc_open(&f->c, e.nodeid, O_RDWR, NULL) < 0, "%s was opened", names[i]);
		expect(fc_create(&f->c, f->dir, names[i], O_RDWR | O_CREAT, S_IFREG | 0644, NULL) <
			       0,
		       "%s was opened by CREATE", names[i]);
	}
	expect_is(fc_mknod(&f->c, f->dir, "sda", S_IFBLK | 0666, makedev(8, 0), NULL), -EPERM);
	expect(!fs_claim_exists(f, "sda"), "a device node was made");
	fs_claim_end(f);
}

#define CLAIM(name)                                                                                \
	{                                                                                          \
#name, name, &plain                                                                \
	}

static const struct claim claims[] = {
	CLAIM(a_name_that_changes_leads_nowhere_else),
	CLAIM(a_link_is_never_followed),
	CLAIM(pipes_and_devices_are_not_opened),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
