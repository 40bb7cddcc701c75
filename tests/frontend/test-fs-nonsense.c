/*
 * Claims that a guest may ask for anything: it gets nothing that is outside, and takes nobody down.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 *
 * Requests of every kind are made of parts that might fit: node ids and handles that the device gave out or that were guessed, names that are none,
 * lengths and flags of any value; some are mere noise. Eight are in flight on each of two queues, while somebody on the host moves
 * a directory and a link to the outside around. Each has to be answered, by the worker that was there in the beginning.
 */
#include "tests/frontend/fill.h"
#include "tests/frontend/fs-claim.h"
#include "tests/frontend/outside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	N_REQUESTS = 20000,
	N_KEPT = 64, /* ids that are remembered */
	IN_HAND = 8, /* on each queue */
	N_QUEUES = 2,
	ARGS_MAX = 512,
	ROOM = 4096,
};

static const struct backend_spec plain = { .share = "",
					   .n_queues = N_QUEUES,
					   .args = (const char *const[]){ "--xattr", NULL } };
static const struct backend_spec all = {
	.share = "",
	.n_queues = N_QUEUES,
	.cache = "always",
	.args = (const char *const[]){ "--xattr-map=user.x.", "--xattr", "--writeback",
				       "--posix-acl", "--announce-submounts", "--direct-io", NULL }
};

/* What follows the header: bytes of fixed arguments, names after them. */
static const struct shape {
	uint32_t opcode, fixed, n_names;
} shapes[] = {
	{ FUSE_LOOKUP, 0, 1 },
	{ FUSE_FORGET, sizeof(struct fuse_forget_in), 0 },
	{ FUSE_BATCH_FORGET, sizeof(struct fuse_batch_forget_in) + 32, 0 },
	{ FUSE_GETATTR, sizeof(struct fuse_getattr_in), 0 },
	{ FUSE_SETATTR, sizeof(struct fuse_setattr_in), 0 },
	{ FUSE_READLINK, 0, 0 },
	{ FUSE_SYMLINK, 0, 2 },
	{ FUSE_MKNOD, sizeof(struct fuse_mknod_in), 1 },
	{ FUSE_MKDIR, sizeof(struct fuse_mkdir_in), 1 },
	{ FUSE_UNLINK, 0, 1 },
	{ FUSE_RMDIR, 0, 1 },
	{ FUSE_RENAME, sizeof(struct fuse_rename_in), 2 },
	{ FUSE_RENAME2, sizeof(struct fuse_rename2_in), 2 },
	{ FUSE_LINK, sizeof(struct fuse_link_in), 1 },
	{ FUSE_OPEN, sizeof(struct fuse_open_in), 0 },
	{ FUSE_READ, sizeof(struct fuse_read_in), 0 },
	{ FUSE_WRITE, sizeof(struct fuse_write_in), 1 },
	{ FUSE_STATFS, 0, 0 },
	{ FUSE_RELEASE, sizeof(struct fuse_release_in), 0 },
	{ FUSE_FSYNC, sizeof(struct fuse_fsync_in), 0 },
	{ FUSE_SETXATTR, sizeof(struct fuse_setxattr_in), 2 },
	{ FUSE_GETXATTR, sizeof(struct fuse_getxattr_in), 1 },
	{ FUSE_LISTXATTR, sizeof(struct fuse_getxattr_in), 0 },
	{ FUSE_REMOVEXATTR, 0, 1 },
	{ FUSE_FLUSH, sizeof(struct fuse_flush_in), 0 },
	{ FUSE_OPENDIR, sizeof(struct fuse_open_in), 0 },
	{ FUSE_READDIR, sizeof(struct fuse_read_in), 0 },
	{ FUSE_READDIRPLUS, sizeof(struct fuse_read_in), 0 },
	{ FUSE_RELEASEDIR, sizeof(struct fuse_release_in), 0 },
	{ FUSE_FSYNCDIR, sizeof(struct fuse_fsync_in), 0 },
	{ FUSE_GETLK, sizeof(struct fuse_lk_in), 0 },
	{ FUSE_SETLK, sizeof(struct fuse_lk_in), 0 },
	{ FUSE_ACCESS, sizeof(struct fuse_access_in), 0 },
	{ FUSE_CREATE, sizeof(struct fuse_create_in), 1 },
	{ FUSE_TMPFILE, sizeof(struct fuse_create_in), 1 },
	{ FUSE_INTERRUPT, sizeof(struct fuse_interrupt_in), 0 },
	{ FUSE_FALLOCATE, sizeof(struct fuse_fallocate_in), 0 },
	{ FUSE_LSEEK, sizeof(struct fuse_lseek_in), 0 },
	{ FUSE_COPY_FILE_RANGE, sizeof(struct fuse_copy_file_range_in), 0 },
	{ 52, 32, 0 },	 /* STATX */
	{ 60, 64, 1 },	 /* none */
	{ 4096, 64, 1 }, /* CUSE_INIT */
};

static const char *const names[] = {
	"a",
	"b",
	"c",
	"file",
	"..",
	".",
	"",
	"/",
	"/etc/passwd",
	"../outside/canary",
	"a/../../outside",
	"b/canary",
	"\xff\xfe",
	"user.x",
	"user.x.security.capability",
	"security.capability",
	"trusted.overlay.opaque",
	"system.posix_acl_access",
	"name\n",
	"CON",
};

struct nonsense {
	struct fs_claim *f;
	struct outside outside;
	struct fill_random chance;
	uint64_t kept[N_KEPT]; /* node ids */
	struct {
		uint64_t node, fh;
	} open[N_KEPT];
	struct fc_call call[N_QUEUES][IN_HAND];
};

static uint32_t below(struct nonsense *n, uint32_t limit)
{
	return (uint32_t)fill_below(&n->chance, limit);
}

static uint64_t some_id(struct nonsense *n)
{
	switch (below(n, 8)) {
	case 0:
		return below(n, 3);
	case 1:
		return UINT64_MAX - below(n, 2);
	case 2:
		return n->kept[below(n, N_KEPT)] ^ UINT64_C(1) << below(n, 40);
	case 3:
		return n->f->dir;
	default:
		return n->kept[below(n, N_KEPT)];
	}
}

static uint32_t some_word(struct nonsense *n)
{
	static const uint32_t likely[] = { 0,
					   1,
					   2,
					   3,
					   4,
					   8,
					   512,
					   4096,
					   65536,
					   UINT32_MAX,
					   S_IFREG | 0644,
					   S_IFDIR | 0755,
					   S_IFIFO | 0644,
					   S_IFBLK | 0666,
					   S_IFCHR | 0666,
					   06777,
					   O_RDWR | O_CREAT,
					   O_WRONLY | O_TRUNC,
					   O_DIRECT | O_RDWR,
					   O_PATH | O_DIRECTORY,
					   0x80000000 };

	return below(n, 4) ? likely[below(n, sizeof(likely) / sizeof(*likely))]
			   : (uint32_t)fill_below(&n->chance, UINT32_MAX);
}

static size_t put_name(struct nonsense *n, uint8_t *to)
{
	const char *name = names[below(n, below(n, 2) ? 4 : sizeof(names) / sizeof(*names))];
	size_t len = strlen(name) + 1;

	if (below(n, 32) == 0)
		name = n->f->path, len = strlen(name) + 1;
	memcpy(to, name, len);
	/* Now and then it has no end. */
	return below(n, 32) ? len : len - 1;
}

/* Arguments of this shape; their length. */
static size_t compose(struct nonsense *n, const struct shape *s, uint8_t *args)
{
	size_t len = s->fixed;

	for (size_t at = 0; at + 4 <= len; at += 4) {
		uint32_t word = some_word(n);

		memcpy(args + at, &word, 4);
	}
	/* Most structures begin with an id; of those that do not, some have one at 8. */
	for (size_t at = 0; at <= 8 && at + 8 <= len; at += 8) {
		uint64_t id = some_id(n);

		if (below(n, 4))
			memcpy(args + at, &id, 8);
	}
	if (s->opcode == FUSE_FALLOCATE)
		memset(args + offsetof(struct fuse_fallocate_in, length) + 3, 0,
		       5); /* the disk is real */
	if (s->opcode == FUSE_COPY_FILE_RANGE)
		memset(args + offsetof(struct fuse_copy_file_range_in, len) + 3, 0, 5);
	for (uint32_t i = 0; i < s->n_names; i++)
		len += put_name(n, args + len);
	return below(n, 16) ? len : below(n, (uint32_t)len + 1);
}

static void ask(struct nonsense *n, unsigned queue, struct fc_call *call)
{
	const struct shape *s = &shapes[below(n, sizeof(shapes) / sizeof(*shapes))];
	uint8_t args[ARGS_MAX * 4];
	struct fc_op op = { .opcode = s->opcode,
			    .nodeid = some_id(n),
			    .part = { { args, compose(n, s, args) } },
			    .n_parts = 1,
			    .extension_len = (uint16_t)(below(n, 64) ? 0 : below(n, 100)),
			    .room = below(n, 16) ? ROOM : below(n, 200),
			    .no_answer = s->opcode == FUSE_FORGET || s->opcode == FUSE_INTERRUPT ||
					 s->opcode == FUSE_BATCH_FORGET };

	/* An open file, of the node that it was opened by. */
	if (s->fixed >= 8 && below(n, 2)) {
		unsigned i = below(n, N_KEPT);

		op.nodeid = n->open[i].node;
		memcpy(args, &n->open[i].fh, 8);
	}
	n->f->c.uid = below(n, 4) ? 0 : some_word(n);
	n->f->c.gid = below(n, 4) ? 0 : some_word(n);
	fc_add(&n->f->c, queue, call, &op);
}

static void keep_open(struct nonsense *n, uint64_t node, const struct fuse_open_out *open)
{
	unsigned i = below(n, N_KEPT);

	n->open[i].node = node;
	n->open[i].fh = open->fh;
}

/* Ids in the answer are kept for later requests. */
static void learn(struct nonsense *n, const struct fc_call *call)
{
	const struct fc_opened *opened = (const void *)call->reply;

	if (call->error != 0)
		return;
	if (call->header->opcode == FUSE_OPEN || call->header->opcode == FUSE_OPENDIR)
		keep_open(n, call->header->nodeid, (const void *)call->reply);
	if (call->reply_len == sizeof(*opened))
		keep_open(n, opened->entry.nodeid, &opened->open);
	if (call->reply_len == sizeof(*opened) || call->reply_len == sizeof(opened->entry))
		n->kept[below(n, N_KEPT)] = opened->entry.nodeid;
}

static void host_moves(const struct nonsense *n)
{
	char a[500], b[500];

	snprintf(a, sizeof(a), "%s/a", n->f->path);
	snprintf(b, sizeof(b), "%s/b", n->f->path);
	syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
	(void)mkdir(a, 0755);
	if (symlink(n->outside.dir, b) == 0)
		(void)mkfifo(fs_claim_path(n->f, "c"), 0666);
}

static void run(struct nonsense *n)
{
	for (unsigned done = 0; done < N_REQUESTS; done += N_QUEUES * IN_HAND) {
		for (unsigned q = 0; q < N_QUEUES; q++) {
			for (unsigned i = 0; i < IN_HAND; i++)
				ask(n, FC_REQUESTS + q, &n->call[q][i]);
			fc_kick(&n->f->c, FC_REQUESTS + q);
		}
		host_moves(n);
		for (unsigned q = 0; q < N_QUEUES; q++)
			for (unsigned i = 0; i < IN_HAND; i++) {
				(void)fc_wait(&n->f->c, FC_REQUESTS + q, &n->call[q][i]);
				learn(n, &n->call[q][i]);
			}
	}
}

static void nonsense(struct claim_context *x, const char *name, uint64_t seed)
{
	static struct nonsense n;
	struct fc_spec spec = { .session = { .n_queues = N_QUEUES, .queue_size = 256 } };
	pid_t worker;

	n = (struct nonsense){ .chance = { .state = seed } };
	n.f = fs_claim_begin(x, name, &spec);
	worker = backend_worker_await(x->backend.pid, 0, 5000);
	outside_begin(&n.outside, x);
	for (unsigned q = 0; q < N_QUEUES; q++)
		for (unsigned i = 0; i < IN_HAND; i++)
			fc_call_init(&n.call[q][i], &n.f->c.fe.mem);
	for (unsigned i = 0; i < N_KEPT; i++)
		n.kept[i] = n.f->dir;
	run(&n);
	outside_end(&n.outside);
	expect_is(backend_worker_await(x->backend.pid, 0, 5000), worker);
	fs_claim_end(n.f);
}

static void nothing_outside_is_reached(struct claim_context *x)
{
	nonsense(x, "nonsense", 1);
}

static void nothing_outside_is_reached_with_all_options(struct claim_context *x)
{
	nonsense(x, "nonsense", 2);
}

/* In the same back-end: an honest guest sees nothing of what was before. */
static void the_next_guest_is_served(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "honest", NULL);
	struct fc_opened o;

	expect_ok(fc_create(&f->c, f->dir, "file", O_CREAT | O_RDWR, S_IFREG | 0644, &o));
	expect_is(fc_write(&f->c, o.entry.nodeid, o.open.fh, 0, "text", 4), 4);
	expect(fs_claim_holds(f, "file", "text"), "another text");
	fs_claim_end(f);
}

static const struct claim claims[] = {
	{ "nothing_outside_is_reached", nothing_outside_is_reached, &plain },
	{ "the_next_guest_is_served", the_next_guest_is_served, &plain },
	{ "nothing_outside_is_reached_with_all_options",
	  nothing_outside_is_reached_with_all_options, &all },
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
