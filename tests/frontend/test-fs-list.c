/*
 * Claims about reading the directories of a shared directory.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/fs-claim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const struct backend_spec plain = { .share = "", .n_queues = 3 };

enum {
	PAGE = 4096,
	N_MANY = 3000,
};

/* One that was listed, and how often. */
struct seen {
	unsigned n_by_number[N_MANY]; /* of "entry-NUMBER" */
	unsigned n_others, n_dots;
	uint64_t last_offset;
};

struct listing {
	struct fs_claim *f;
	uint64_t node, fh, offset;
	uint32_t opcode, room;
	unsigned queue;
	bool ended;
	struct seen seen;
};

static struct listing list_open(struct fs_claim *f, uint64_t node, uint32_t opcode, uint32_t room)
{
	struct fuse_open_out o;

	expect_ok(fc_opendir(&f->c, node, &o));
	return (struct listing){ .f = f,
				 .node = node,
				 .fh = o.fh,
				 .opcode = opcode,
				 .room = room,
				 .queue = FC_REQUESTS };
}

/* One answer, in f->c.call. */
static int list_ask(struct listing *l)
{
	struct fuse_read_in in = { .fh = l->fh, .offset = l->offset, .size = l->room };
	struct fc_op op = { .opcode = l->opcode,
			    .nodeid = l->node,
			    .part = { { &in, sizeof(in) } },
			    .n_parts = 1,
			    .room = l->room };

	l->f->c.queue = l->queue;
	return fc_run(&l->f->c, &op);
}

static void note(struct seen *s, const char *name)
{
	unsigned number;
	int end = 0;

	if (!strcmp(name, ".") || !strcmp(name, ".."))
		s->n_dots++;
	else if (sscanf(name, "entry-%u%n", &number, &end) == 1 && !name[end] && number < N_MANY)
		s->n_by_number[number]++;
	else
		s->n_others++;
}

typedef void (*each_fn)(struct listing *l, const struct fuse_direntplus *e, const char *name,
			void *arg);

/* The entries of the answer; false at the end of the directory. Without PLUS what comes with them is zero. */
static bool list_next(struct listing *l, each_fn each, void *arg)
{
	const uint8_t *p = l->f->c.call.reply;
	bool plus = l->opcode == FUSE_READDIRPLUS;
	uint32_t header = plus ? offsetof(struct fuse_direntplus, dirent) : 0, at = 0;

	expect_ok(list_ask(l));
	while (at < l->f->c.call.reply_len) {
		struct fuse_direntplus e = {};
		char name[256] = "";

		expect(l->f->c.call.reply_len - at >= header + FUSE_NAME_OFFSET,
		       "a part of an entry");
		memcpy(plus ? (void *)&e : (void *)&e.dirent, p + at, header + FUSE_NAME_OFFSET);
		expect(e.dirent.namelen > 0 && e.dirent.namelen < 256, "a name of %u bytes",
		       e.dirent.namelen);
		memcpy(name, p + at + header + FUSE_NAME_OFFSET, e.dirent.namelen);
		at += plus ? FUSE_DIRENTPLUS_SIZE(&e) : FUSE_DIRENT_SIZE(&e.dirent);
		expect(at <= l->f->c.call.reply_len, "a part of an entry");
		l->offset = e.dirent.off;
		note(&l->seen, name);
		if (each)
			each(l, &e, name, arg);
	}
	l->ended = at == 0;
	return !l->ended;
}

static void list_all(struct listing *l, each_fn each, void *arg)
{
	while (list_next(l, each, arg))
		;
}

static void make_entry(struct fs_claim *f, unsigned i)
{
	char name[32];

	snprintf(name, sizeof(name), "entry-%u", i);
	fs_claim_write(f, name, "");
}

static void remove_entry(struct fs_claim *f, unsigned i)
{
	char name[32];

	snprintf(name, sizeof(name), "entry-%u", i);
	expect_is(unlink(fs_claim_path(f, name)), 0);
}

static void expect_each_once(const struct seen *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		expect(s->n_by_number[i] == 1, "entry-%u was listed %u times", i,
		       s->n_by_number[i]);
	expect_is(s->n_dots, 2);
	expect_is(s->n_others, 0);
}

static void every_entry_is_listed_once(struct claim_context *x)
{
	static const uint32_t rooms[] = { 512, PAGE, 32768, 128 << 10, 256 << 10 };
	struct fs_claim *f = fs_claim_begin(x, "once", NULL);

	for (unsigned i = 0; i < N_MANY; i++)
		make_entry(f, i);
	for (unsigned i = 0; i < sizeof(rooms) / sizeof(*rooms); i++)
		for (unsigned plus = 0; plus < 2; plus++) {
			struct listing l = list_open(
				f, f->dir, plus ? FUSE_READDIRPLUS : FUSE_READDIR, rooms[i]);

			list_all(&l, NULL, NULL);
			expect_each_once(&l.seen, N_MANY);
			expect_ok(fc_releasedir(&f->c, f->dir, l.fh));
		}
	fs_claim_end(f);
}

static void room_for_no_entry_is_an_error(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "no-room", NULL);
	struct listing l = list_open(f, f->dir, FUSE_READDIR, 24);

	expect_is(list_ask(&l), -EINVAL);
	l.opcode = FUSE_READDIRPLUS;
	l.room = 150;
	expect_is(list_ask(&l), -EINVAL);
	l.room = 160;
	expect_ok(list_ask(&l));
	expect_is(f->c.call.reply_len, 160);
	fs_claim_end(f);
}

static void check_type(struct listing *l, const struct fuse_direntplus *e, const char *name,
		       void *arg)
{
	struct stat st;

	(void)arg;
	expect(lstat(fs_claim_path(l->f, name), &st) == 0, "%s: %s", name, strerror(errno));
	expect(e->dirent.type == (st.st_mode >> 12), "%s has type %u, not %u", name, e->dirent.type,
	       st.st_mode >> 12);
	if (strcmp(name, "..") != 0)
		expect_is(e->dirent.ino, st.st_ino);
	if (l->opcode != FUSE_READDIRPLUS || name[0] == '.')
		expect_is(e->entry_out.nodeid, 0);
	else
		expect(e->entry_out.nodeid > 1 && e->entry_out.attr.ino == st.st_ino &&
			       e->entry_out.attr.mode == st.st_mode,
		       "%s: node %lu, mode %o", name, e->entry_out.nodeid, e->entry_out.attr.mode);
}

static void entries_have_their_types(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "types", NULL);
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), back = open(".", O_RDONLY);
	static const uint32_t opcodes[] = { FUSE_READDIR, FUSE_READDIRPLUS };

	fs_claim_write(f, "file", "");
	expect_is(mkdir(fs_claim_path(f, "dir"), 0755), 0);
	expect_is(symlink("nowhere", fs_claim_path(f, "symlink")), 0);
	expect_is(mkfifo(fs_claim_path(f, "fifo"), 0600), 0);
	expect_is(chdir(f->path), 0);
	expect_is(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	expect_is(fchdir(back), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct listing l = list_open(f, f->dir, opcodes[i], PAGE);

		list_all(&l, check_type, NULL);
		expect_is(l.seen.n_others, 5);
		expect_is(l.seen.n_dots, 2);
	}
	fs_claim_end(f);
}

static void check_parent(struct listing *l, const struct fuse_direntplus *e, const char *name,
			 void *arg)
{
	struct stat *st = arg;

	if (name[0] == '.')
		expect(e->dirent.ino == st->st_ino, "%s is %lu", name, e->dirent.ino);
}

/* What is above the shared directory is not told. */
static void above_the_root_is_the_root(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "root", NULL);
	struct listing l = list_open(f, FC_ROOT, FUSE_READDIR, PAGE);
	struct stat st;

	expect_is(stat(x->backend.share, &st), 0);
	list_all(&l, check_parent, &st);
	expect_is(l.seen.n_dots, 2);
	fs_claim_end(f);
}

/* What stays while others come and go is listed once, wherever the guest has paused. */
static void offsets_hold_while_entries_come_and_go(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "changes", NULL);
	struct listing l;
	unsigned n = 0;

	for (unsigned i = 0; i < 1000; i++)
		make_entry(f, i);
	l = list_open(f, f->dir, FUSE_READDIR, 512);
	for (unsigned round = 0; list_next(&l, NULL, NULL); round++) {
		char name[32];

		snprintf(name, sizeof(name), "new-%u", round);
		fs_claim_write(f, name, "");
		if (n < 500)
			remove_entry(f, 500 + n++);
	}
	for (unsigned i = 0; i < 500; i++)
		expect(l.seen.n_by_number[i] == 1, "entry-%u was listed %u times", i,
		       l.seen.n_by_number[i]);
	for (unsigned i = 500; i < 1000; i++)
		expect(l.seen.n_by_number[i] <= 1, "entry-%u was listed %u times", i,
		       l.seen.n_by_number[i]);
	fs_claim_end(f);
}

/* Read before, gone when it would have been looked up: left out, not an error, and not the end. */
static void what_vanishes_is_left_out(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "vanishing", NULL);
	struct listing l;
	unsigned n = 0;

	for (unsigned i = 0; i < 200; i++)
		make_entry(f, i);
	l = list_open(f, f->dir, FUSE_READDIRPLUS, 512);
	expect(list_next(&l, NULL, NULL), "nothing is listed");
	for (unsigned i = 0; i < 200; i++)
		if (l.seen.n_by_number[i] == 0 && i != 7)
			remove_entry(f, i);
	list_all(&l, NULL, NULL);
	for (unsigned i = 0; i < 200; i++)
		n += l.seen.n_by_number[i];
	expect_is(l.seen.n_by_number[7], 1);
	expect(n <= 5, "%u were listed", n);
	fs_claim_end(f);
}

/* So that a name can go without its file: every entry has a second one elsewhere. */
static void keep_files_of(struct fs_claim *f, unsigned n)
{
	char name[32], path[4096];

	expect_is(mkdir(fs_claim_path(f, "kept"), 0755), 0);
	for (unsigned i = 0; i < n; i++) {
		make_entry(f, i);
		snprintf(name, sizeof(name), "entry-%u", i);
		snprintf(path, sizeof(path), "%s/kept/%u", f->path, i);
		expect_is(link(fs_claim_path(f, name), path), 0);
	}
}

/* A listing that has just begun; the next answer has room for all the rest. */
static struct listing begin_again(struct fs_claim *f)
{
	struct listing l = list_open(f, f->dir, FUSE_READDIRPLUS, 512);

	expect(list_next(&l, NULL, NULL), "nothing is listed");
	l.room = 64 << 10;
	return l;
}

/* The same, in a directory all of whose entries the guest knows. */
static struct listing begin_known(struct fs_claim *f, unsigned n)
{
	struct listing l;

	keep_files_of(f, n);
	l = list_open(f, f->dir, FUSE_READDIRPLUS, 64 << 10);
	list_all(&l, NULL, NULL);
	return begin_again(f);
}

static unsigned find_unlisted(const struct listing *l, unsigned from)
{
	unsigned i = from;

	while (l->seen.n_by_number[i] > 0)
		i++;
	return i;
}

/* What the guest has been answered is so in every later answer, whatever of it was read before. */
static void what_the_guest_removes_and_moves_is_not_listed_as_it_was(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "gone", NULL);
	struct listing l = begin_known(f, 100);
	char name[32];

	for (unsigned n = 0; n < 10; n++) {
		unsigned i = find_unlisted(&l, 8 * n);

		snprintf(name, sizeof(name), "entry-%u", i);
		expect_ok(n % 2 ? fc_unlink(&f->c, f->dir, name)
				: fc_rename(&f->c, f->dir, name, FC_ROOT, name, 0));
		list_all(&l, NULL, NULL);
		expect_is(l.seen.n_by_number[i], 0);
		/* Back, as others see to it: the next listing reads anew. */
		make_entry(f, i);
		l = begin_again(f);
	}
	fs_claim_end(f);
}

static void what_others_removed_is_soon_not_listed(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "others", NULL);
	struct listing l = begin_known(f, 200);
	unsigned n = 0;

	for (unsigned i = 0; i < 200; i++)
		if (l.seen.n_by_number[i] == 0)
			remove_entry(f, i);
	usleep(30000);
	list_all(&l, NULL, NULL);
	for (unsigned i = 0; i < 200; i++)
		n += l.seen.n_by_number[i];
	expect(n <= 5, "%u were listed", n);
	fs_claim_end(f);
}

struct named {
	unsigned n;
	struct {
		char name[32];
		uint64_t node;
	} e[N_MANY];
};

static void note_named(struct listing *l, const struct fuse_direntplus *e, const char *name,
		       void *arg)
{
	struct named *all = arg;

	if (name[0] == '.')
		return;
	snprintf(all->e[all->n].name, sizeof(all->e[0].name), "%.31s", name);
	all->e[all->n++].node = e->entry_out.nodeid;
}

static void expect_nodes(struct fs_claim *f, const struct named *all)
{
	struct fuse_entry_out found;

	for (unsigned i = 0; i < all->n; i++) {
		expect_ok(fc_lookup(&f->c, f->dir, all->e[i].name, &found));
		expect(found.nodeid == all->e[i].node, "%s is node %lx, listed as %lx",
		       all->e[i].name, found.nodeid, all->e[i].node);
	}
}

static void each_name_is_listed_as_what_it_is(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "swapped", NULL);
	struct listing l = begin_known(f, 100);
	static struct named all;
	char a[32], b[32];

	for (unsigned n = 0; n < 10; n++) {
		unsigned i = find_unlisted(&l, 8 * n) & ~1u;

		snprintf(a, sizeof(a), "entry-%u", i);
		snprintf(b, sizeof(b), "entry-%u", i + 1);
		expect_ok(fc_rename(&f->c, f->dir, a, f->dir, b, RENAME_EXCHANGE));
		all.n = 0;
		list_all(&l, note_named, &all);
		expect(all.n >= 90, "%u were listed", all.n);
		expect_nodes(f, &all);
		l = begin_again(f);
	}
	fs_claim_end(f);
}

static void a_rewind_shows_what_is_new(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "rewind", NULL);
	struct listing l = list_open(f, f->dir, FUSE_READDIR, PAGE);

	make_entry(f, 0);
	list_all(&l, NULL, NULL);
	make_entry(f, 1);
	l.offset = 0;
	memset(&l.seen, 0, sizeof(l.seen));
	list_all(&l, NULL, NULL);
	expect_each_once(&l.seen, 2);
	fs_claim_end(f);
}

struct position {
	uint64_t before, offset; /* of an entry, and behind it */
	char name[32];
};

struct positions {
	uint64_t before;
	unsigned n;
	struct position p[N_MANY];
};

static void note_position(struct listing *l, const struct fuse_direntplus *e, const char *name,
			  void *arg)
{
	struct positions *all = arg;
	struct position *p = &all->p[all->n++];

	p->before = all->before;
	p->offset = all->before = e->dirent.off;
	snprintf(p->name, sizeof(p->name), "%.31s", name);
}

struct first {
	char name[32];
};

static void note_first(struct listing *l, const struct fuse_direntplus *e, const char *name,
		       void *arg)
{
	struct first *first = arg;

	if (!first->name[0])
		snprintf(first->name, sizeof(first->name), "%.31s", name);
}

/* seekdir: each offset leads to the entry behind it, in any order, from two queues by turns. */
static void any_offset_can_be_gone_back_to(struct claim_context *x)
{
	struct fc_spec spec = { .session = { .n_queues = 2 } };
	struct fs_claim *f = fs_claim_begin(x, "seek", &spec);
	static struct positions all;
	struct listing l;

	for (unsigned i = 0; i < 300; i++)
		make_entry(f, i);
	l = list_open(f, f->dir, FUSE_READDIR, PAGE);
	list_all(&l, note_position, &all);
	expect_is(all.n, 302);
	for (unsigned i = 0; i < all.n; i++) {
		const struct position *p = &all.p[i * 151 % all.n];
		struct first first = { "" };

		l.offset = p->before;
		l.room = i % 3 ? 128 : PAGE;
		l.queue = FC_REQUESTS + i % 2;
		expect(list_next(&l, note_first, &first), "%s: the end", p->name);
		expect(!strcmp(first.name, p->name), "%s is at the place of %s", first.name,
		       p->name);
	}
	fs_claim_end(f);
}

/* Two requests for one handle on two threads at once, each from an offset of its own. */
static void two_threads_read_one_directory(struct claim_context *x)
{
	struct fc_spec spec = { .session = { .n_queues = 2 } };
	struct fs_claim *f = fs_claim_begin(x, "threads", &spec);
	static struct positions all;
	struct fc_call calls[2];
	struct listing l;

	for (unsigned i = 0; i < 1000; i++)
		make_entry(f, i);
	l = list_open(f, f->dir, FUSE_READDIR, PAGE);
	list_all(&l, note_position, &all);
	for (unsigned k = 0; k < 2; k++)
		fc_call_init(&calls[k], &f->c.fe.mem);
	for (unsigned i = 0; i < 2000; i++) {
		const struct position *p[2] = { &all.p[i * 7 % all.n], &all.p[i * 13 % all.n] };

		for (unsigned k = 0; k < 2; k++) {
			struct fuse_read_in in = { .fh = l.fh,
						   .offset = p[k]->before,
						   .size = 256 };

			fc_add(&f->c, FC_REQUESTS + k, &calls[k],
			       &(struct fc_op){ .opcode = FUSE_READDIR,
						.nodeid = f->dir,
						.part = { { &in, sizeof(in) } },
						.n_parts = 1,
						.room = 256 });
		}
		for (unsigned k = 0; k < 2; k++)
			fc_kick(&f->c, FC_REQUESTS + k);
		for (unsigned k = 0; k < 2; k++) {
			expect_ok(fc_wait(&f->c, FC_REQUESTS + k, &calls[k]));
			expect(memcmp(calls[k].reply + FUSE_NAME_OFFSET, p[k]->name,
				      strlen(p[k]->name)) == 0,
			       "not %s", p[k]->name);
		}
	}
	fs_claim_end(f);
}

struct nodes {
	unsigned n;
	uint64_t node[N_MANY];
};

static void note_node(struct listing *l, const struct fuse_direntplus *e, const char *name,
		      void *arg)
{
	struct nodes *nodes = arg;

	if (e->entry_out.nodeid)
		nodes->node[nodes->n++] = e->entry_out.nodeid;
}

/* Each entry with attributes is one look-up, and no other: as many forgets end what the guest knows. */
static void listing_counts_as_looking_up(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "counts", NULL);
	struct listing l;
	static struct nodes nodes;

	for (unsigned i = 0; i < 100; i++)
		make_entry(f, i);
	for (unsigned pass = 0; pass < 2; pass++) {
		l = list_open(f, f->dir, FUSE_READDIRPLUS, PAGE);
		list_all(&l, note_node, &nodes);
	}
	expect_is(nodes.n, 200);
	for (unsigned i = 0; i < 100; i++)
		fc_forget(&f->c, nodes.node[i], 1);
	for (unsigned i = 0; i < 100; i++)
		expect_ok(fc_getattr(&f->c, nodes.node[i], NULL));
	for (unsigned i = 0; i < 100; i++)
		fc_forget(&f->c, nodes.node[i], 1);
	for (unsigned i = 0; i < 100; i++)
		expect_is(fc_getattr(&f->c, nodes.node[i], NULL), -ESTALE);
	fs_claim_end(f);
}

static void a_directory_that_was_removed_is_empty(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "removed", NULL);
	struct fuse_entry_out e;
	struct listing l;
	int r;

	expect_ok(fc_mkdir(&f->c, f->dir, "dir", 0755, &e));
	l = list_open(f, e.nodeid, FUSE_READDIR, PAGE);
	expect_ok(fc_rmdir(&f->c, f->dir, "dir"));
	r = list_ask(&l);
	expect(r == -ENOENT || (r == 0 && f->c.call.reply_len == 0), "%d", r);
	fs_claim_end(f);
}

static void handles_of_directories_are_for_their_own(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "own", NULL);
	struct listing l = list_open(f, f->dir, FUSE_READDIR, PAGE);
	struct fc_opened o;

	l.node = FC_ROOT;
	expect_is(list_ask(&l), -EBADF);
	expect_ok(fc_create(&f->c, f->dir, "file", O_RDWR | O_CREAT, S_IFREG | 0600, &o));
	l.node = o.entry.nodeid;
	l.fh = o.open.fh;
	expect_is(list_ask(&l), -EBADF);
	expect_is(fc_opendir(&f->c, o.entry.nodeid, NULL), -ENOTDIR);
	fs_claim_end(f);
}

static void a_listing_outlives_the_worker(struct claim_context *x)
{
	struct fc_spec spec = { .session = { .inflight = true } };
	struct fs_claim *f = fs_claim_begin(x, "death", &spec);
	struct listing l;

	for (unsigned i = 0; i < 500; i++)
		make_entry(f, i);
	l = list_open(f, f->dir, FUSE_READDIRPLUS, PAGE);
	for (unsigned i = 0; list_next(&l, NULL, NULL); i++)
		if (i % 8 == 3) {
			pid_t worker = backend_worker_await(x->backend.pid, 0, 2000);

			expect(worker > 0 && kill(worker, SIGKILL) == 0, "no worker");
		}
	expect_each_once(&l.seen, 500);
	fs_claim_end(f);
}

#define CLAIM(name)                                                                                \
	{                                                                                          \
#name, name, &plain                                                                \
	}

static const struct claim claims[] = {
	CLAIM(every_entry_is_listed_once),
	CLAIM(room_for_no_entry_is_an_error),
	CLAIM(entries_have_their_types),
	CLAIM(above_the_root_is_the_root),
	CLAIM(offsets_hold_while_entries_come_and_go),
	CLAIM(what_vanishes_is_left_out),
	CLAIM(what_the_guest_removes_and_moves_is_not_listed_as_it_was),
	CLAIM(what_others_removed_is_soon_not_listed),
	CLAIM(each_name_is_listed_as_what_it_is),
	CLAIM(a_rewind_shows_what_is_new),
	CLAIM(any_offset_can_be_gone_back_to),
	CLAIM(two_threads_read_one_directory),
	CLAIM(listing_counts_as_looking_up),
	CLAIM(a_directory_that_was_removed_is_empty),
	CLAIM(handles_of_directories_are_for_their_own),
	CLAIM(a_listing_outlives_the_worker),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
