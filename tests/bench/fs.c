/*
 * frontend-bench-fs: operations per second of a file system device, and what its back-end paid for them.
 *
 * Runs in: a program of its own, started by tests/bench/run. Trusts: its caller; the back-end's answers are checked.
 *
 *	frontend-bench-fs --row=NAME --dir=DIR --socket=PATH --pid=PID|--bare [--depth=N] [--seconds=S] [--awake]
 *
 * The back-end (process PID and its child) shares DIR at the socket. One request queue, always --depth units of work in
 * hand; the driver sleeps on the call eventfd and uses EVENT_IDX and indirect descriptors, as Linux does; with --awake it never
 * sleeps and wants no calls. A unit may be several requests, one after the other:
 *
 *	lookup-getattr	     LOOKUP of one of 4096 names that are known already, GETATTR of what it is
 *	create-unlink	     CREATE, RELEASE, UNLINK; FORGET through the high-priority queue
 *	read-4k-random	     READ at a random place of a file in the host's page cache
 *	read-1m-sequential   READ, WRITE of a MiB after the other, in pieces of 8 KiB of guest memory
 *	write-1m-sequential
 *	readdirplus-10000    one entry; each READDIRPLUS has room for a page of them, each of the depth reads a
 *			     directory of 10,000 entries over and over by a handle of its own
 *
 * With --bare this process makes the system calls itself: the limit (fs-bare.c). The last line is one JSON object.
 */
#include "tests/bench/fs.h"
#include "tests/frontend/backend.h"
#include "tests/frontend/fill.h"
#include "tests/frontend/session.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	ARGS_LEN = 512,
	REPLY_LEN = 512,
	DATA_PIECE = 8192,
	MAX_PIECES = FS_MIB / DATA_PIECE,
	QUEUE_REQUESTS = 1, /* 0: high priority */
	N_QUEUES = 2,
};

/* One request at a time, and where its unit of work stands. */
struct slot {
	struct fuse_in_header *in; /* arguments follow */
	struct fuse_out_header *out;
	uint8_t *data;		       /* FS_MIB, or nothing */
	struct fuse_in_header *forget; /* struct fuse_forget_in follows */
	bool forgetting;	       /* that is on its way */
	bool busy;
	unsigned index, step;
	uint64_t nodeid, fh, offset, n;
	uint64_t started_ns;
};

struct bench {
	struct fs_bench fs;
	struct fe fe;
	struct fill_random random;
	struct slot slots[FS_MAX_DEPTH];
	uint64_t unique;
	uint64_t dir, data, data_fh, offset; /* what the row works on */
};

/* Requests */

struct message {
	uint32_t opcode;
	uint64_t nodeid;
	const void *args;
	uint32_t args_len;
	const char *name; /* follows the arguments; NULL: none */
	uint32_t reply_len;
	uint32_t write_len, read_len; /* of the slot's data */
};

static unsigned add_pieces(struct fe_sg *sg, uint8_t *data, uint32_t len)
{
	unsigned n = 0;

	for (uint32_t at = 0; at < len; at += DATA_PIECE)
		sg[n++] =
			(struct fe_sg){ data + at, len - at < DATA_PIECE ? len - at : DATA_PIECE };
	return n;
}

static void submit(struct bench *b, struct slot *s, const struct message *m)
{
	uint32_t name_len = m->name ? (uint32_t)strlen(m->name) + 1 : 0;
	uint32_t len = (uint32_t)sizeof(*s->in) + m->args_len + name_len;
	struct fe_sg sg[MAX_PIECES + 4];
	unsigned n_out = 1, n_in = 1;

	*s->in = (struct fuse_in_header){ .len = len + m->write_len,
					  .opcode = m->opcode,
					  .unique = ++b->unique * 2,
					  .nodeid = m->nodeid,
					  .pid = 1 };
	if (m->args)
		memcpy(s->in + 1, m->args, m->args_len);
	if (m->name)
		memcpy((uint8_t *)(s->in + 1) + m->args_len, m->name, name_len);
	sg[0] = (struct fe_sg){ s->in, len };
	n_out += add_pieces(sg + 1, s->data, m->write_len);
	sg[n_out] = (struct fe_sg){ s->out, (uint32_t)sizeof(*s->out) + m->reply_len };
	n_in += add_pieces(sg + n_out + 1, s->data, m->read_len);
	s->busy = true;
	if (fe_queue_add_indirect(&b->fe.queues[QUEUE_REQUESTS], sg, n_out, n_in, s) < 0)
		errx(99, "test bug: no room in the ring");
}

static uint32_t reply_len(const struct slot *s)
{
	return s->out->len - (uint32_t)sizeof(*s->out);
}

static void check(const struct slot *s)
{
	if (s->out->unique != s->in->unique || s->out->error)
		errx(1, "request %u was answered with %d (%s)", s->in->opcode, s->out->error,
		     strerror(-s->out->error));
}

static const void *reply_of(const struct slot *s)
{
	return s->out + 1;
}

/* One request by itself, before the measurement. */
static void run_one(struct bench *b, const struct message *m)
{
	struct fe_queue *q = &b->fe.queues[QUEUE_REQUESTS];
	struct slot *s = &b->slots[0];
	struct fe_used used;

	submit(b, s, m);
	fe_queue_kick(q);
	if (!fe_queue_wait(q, 10000) || !fe_queue_pop(q, &used))
		errx(1, "the back-end does not answer");
	s->busy = false;
	check(s);
}

static uint64_t look_up(struct bench *b, uint64_t parent, const char *name)
{
	struct fuse_entry_out out;

	run_one(b, &(struct message){ .opcode = FUSE_LOOKUP,
				      .nodeid = parent,
				      .name = name,
				      .reply_len = sizeof(out) });
	memcpy(&out, reply_of(&b->slots[0]), sizeof(out));
	return out.nodeid;
}

static uint64_t open_node(struct bench *b, uint64_t nodeid, uint32_t opcode, uint32_t flags)
{
	struct fuse_open_in in = { .flags = flags };
	struct fuse_open_out out;

	run_one(b, &(struct message){ .opcode = opcode,
				      .nodeid = nodeid,
				      .args = &in,
				      .args_len = sizeof(in),
				      .reply_len = sizeof(out) });
	memcpy(&out, reply_of(&b->slots[0]), sizeof(out));
	return out.fh;
}

static void negotiate(struct bench *b)
{
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION,
				   .minor = FUSE_KERNEL_MINOR_VERSION,
				   .max_readahead = 128 << 10,
				   .flags = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC |
					    FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS |
					    FUSE_READDIRPLUS_AUTO | FUSE_PARALLEL_DIROPS |
					    FUSE_MAX_PAGES | FUSE_AUTO_INVAL_DATA | FUSE_INIT_EXT };
	struct fuse_init_out out;

	run_one(b, &(struct message){ .opcode = FUSE_INIT,
				      .args = &in,
				      .args_len = sizeof(in),
				      .reply_len = sizeof(out) });
	memcpy(&out, reply_of(&b->slots[0]), sizeof(out));
	if (out.max_write < FS_MIB)
		errx(1, "the back-end takes at most %u bytes in a request", out.max_write);
}

/* lookup-getattr */

static void begin_lookup(struct bench *b)
{
	char name[16];

	b->dir = look_up(b, FUSE_ROOT_ID, "lookup");
	for (unsigned i = 0; i < FS_N_FILES; i++) {
		snprintf(name, sizeof(name), "f%05u", i);
		look_up(b, b->dir, name);
	}
}

static void submit_lookup(struct bench *b, struct slot *s)
{
	struct fuse_getattr_in in = { 0 };
	char name[16];

	if (s->step == 1) {
		submit(b, s,
		       &(struct message){ .opcode = FUSE_GETATTR,
					  .nodeid = s->nodeid,
					  .args = &in,
					  .args_len = sizeof(in),
					  .reply_len = sizeof(struct fuse_attr_out) });
		return;
	}
	snprintf(name, sizeof(name), "f%05u", (unsigned)fill_below(&b->random, FS_N_FILES));
	submit(b, s,
	       &(struct message){ .opcode = FUSE_LOOKUP,
				  .nodeid = b->dir,
				  .name = name,
				  .reply_len = sizeof(struct fuse_entry_out) });
}

static uint64_t done_lookup(struct bench *b, struct slot *s)
{
	if (s->step == 1) {
		s->step = 0;
		return 1;
	}
	memcpy(&s->nodeid, reply_of(s), sizeof(s->nodeid));
	s->step = 1;
	return 0;
}

/* create-unlink */

static void begin_create(struct bench *b)
{
	b->dir = look_up(b, FUSE_ROOT_ID, "create");
}

static void reap_forgets(struct bench *b)
{
	struct fe_used used;

	while (fe_queue_pop(&b->fe.queues[0], &used))
		((struct slot *)used.user)->forgetting = false;
}

static void forget(struct bench *b, struct slot *s)
{
	struct fuse_forget_in in = { .nlookup = 1 };
	struct fe_sg sg = { s->forget, sizeof(*s->forget) + sizeof(in) };

	while (s->forgetting)
		reap_forgets(b);
	*s->forget = (struct fuse_in_header){
		.len = sg.len, .opcode = FUSE_FORGET, .unique = ++b->unique * 2, .nodeid = s->nodeid
	};
	memcpy(s->forget + 1, &in, sizeof(in));
	s->forgetting = true;
	if (fe_queue_add_indirect(&b->fe.queues[0], &sg, 1, 0, s) < 0)
		errx(99, "test bug: no room in the ring");
	fe_queue_kick(&b->fe.queues[0]);
}

static void submit_create(struct bench *b, struct slot *s)
{
	struct fuse_create_in create = { .flags = O_CREAT | O_EXCL | O_RDWR,
					 .mode = S_IFREG | 0600 };
	struct fuse_release_in release = { .fh = s->fh };
	char name[64];

	snprintf(name, sizeof(name), "c%d-%u-%lu", getpid(), s->index, s->n);
	if (s->step == 0)
		submit(b, s,
		       &(struct message){ .opcode = FUSE_CREATE,
					  .nodeid = b->dir,
					  .args = &create,
					  .args_len = sizeof(create),
					  .name = name,
					  .reply_len = sizeof(struct fuse_entry_out) +
						       sizeof(struct fuse_open_out) });
	else if (s->step == 1)
		submit(b, s,
		       &(struct message){ .opcode = FUSE_RELEASE,
					  .nodeid = s->nodeid,
					  .args = &release,
					  .args_len = sizeof(release) });
	else
		submit(b, s,
		       &(struct message){ .opcode = FUSE_UNLINK, .nodeid = b->dir, .name = name });
}

static uint64_t done_create(struct bench *b, struct slot *s)
{
	if (s->step == 0) {
		struct fuse_entry_out entry;

		memcpy(&entry, reply_of(s), sizeof(entry));
		s->nodeid = entry.nodeid;
		memcpy(&s->fh, (const uint8_t *)reply_of(s) + sizeof(entry), sizeof(s->fh));
	}
	if (++s->step < 3)
		return 0;
	s->step = 0;
	s->n++;
	forget(b, s);
	return 1;
}

/* Reading and writing */

static void begin_data(struct bench *b)
{
	b->data = look_up(b, FUSE_ROOT_ID, "data");
	b->data_fh = open_node(b, b->data, FUSE_OPEN, O_RDWR);
}

static void submit_read(struct bench *b, struct slot *s, uint64_t offset, uint32_t len)
{
	struct fuse_read_in in = { .fh = b->data_fh, .offset = offset, .size = len };

	s->n = len;
	submit(b, s,
	       &(struct message){ .opcode = FUSE_READ,
				  .nodeid = b->data,
				  .args = &in,
				  .args_len = sizeof(in),
				  .read_len = len });
}

static void submit_random_read(struct bench *b, struct slot *s)
{
	submit_read(b, s, fill_below(&b->random, b->fs.data_len / FS_BLOCK) * FS_BLOCK, FS_BLOCK);
}

static uint64_t next_offset(struct bench *b)
{
	uint64_t at = b->offset;

	b->offset = (at + FS_MIB) % b->fs.data_len;
	return at;
}

static void submit_sequential_read(struct bench *b, struct slot *s)
{
	submit_read(b, s, next_offset(b), FS_MIB);
}

static uint64_t done_read(struct bench *b, struct slot *s)
{
	if (reply_len(s) != s->n)
		errx(1, "%u bytes were read, not %lu", reply_len(s), s->n);
	return 1;
}

static void submit_write(struct bench *b, struct slot *s)
{
	struct fuse_write_in in = { .fh = b->data_fh, .offset = next_offset(b), .size = FS_MIB };

	submit(b, s,
	       &(struct message){ .opcode = FUSE_WRITE,
				  .nodeid = b->data,
				  .args = &in,
				  .args_len = sizeof(in),
				  .write_len = FS_MIB,
				  .reply_len = sizeof(struct fuse_write_out) });
}

static uint64_t done_write(struct bench *b, struct slot *s)
{
	struct fuse_write_out out;

	memcpy(&out, reply_of(s), sizeof(out));
	if (out.size != FS_MIB)
		errx(1, "%u bytes were written", out.size);
	return 1;
}

/* readdirplus-10000 */

static void begin_list(struct bench *b)
{
	b->dir = look_up(b, FUSE_ROOT_ID, "list");
	for (unsigned i = 0; i < b->fs.depth; i++)
		b->slots[i].fh = open_node(b, b->dir, FUSE_OPENDIR, O_RDONLY | O_DIRECTORY);
}

static void submit_list(struct bench *b, struct slot *s)
{
	struct fuse_read_in in = { .fh = s->fh, .offset = s->offset, .size = FS_LIST_LEN };

	submit(b, s,
	       &(struct message){ .opcode = FUSE_READDIRPLUS,
				  .nodeid = b->dir,
				  .args = &in,
				  .args_len = sizeof(in),
				  .read_len = FS_LIST_LEN });
}

static uint64_t done_list(struct bench *b, struct slot *s)
{
	uint32_t len = reply_len(s), at = 0;
	struct fuse_direntplus e;
	uint64_t n = 0;

	if (len == 0 && s->n != FS_N_ENTRIES + 2)
		errx(1, "%lu entries were listed", s->n);
	if (len == 0)
		s->n = s->offset = 0;
	for (; at < len; n++) {
		memcpy(&e, s->data + at, sizeof(e));
		s->offset = e.dirent.off;
		at += (uint32_t)FUSE_DIRENTPLUS_SIZE(&e);
	}
	s->n += n;
	return n;
}

static const struct row {
	const char *name;
	void (*begin)(struct bench *b);
	void (*submit)(struct bench *b, struct slot *s);
	/* The answer is there: units of work that are done by it. */
	uint64_t (*done)(struct bench *b, struct slot *s);
} rows[] = {
	{ "lookup-getattr", begin_lookup, submit_lookup, done_lookup },
	{ "create-unlink", begin_create, submit_create, done_create },
	{ "read-4k-random", begin_data, submit_random_read, done_read },
	{ "read-1m-sequential", begin_data, submit_sequential_read, done_read },
	{ "write-1m-sequential", begin_data, submit_write, done_write },
	{ "readdirplus-10000", begin_list, submit_list, done_list },
};

static const struct row *row_of(const char *name)
{
	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	errx(2, "no row %s", name);
}

static void finish(struct bench *b, const struct row *row, struct slot *s, uint64_t now)
{
	uint64_t n;

	s->busy = false;
	check(s);
	n = row->done(b, s);
	if (n > 0) {
		measure_count(&b->fs.m, n, s->started_ns, now);
		s->started_ns = now;
	}
}

static void await_answers(struct bench *b, struct fe_queue *q)
{
	if (b->fs.awake) {
		uint64_t end = measure_now_ns() + UINT64_C(10000000000);

		fe_queue_disarm(q);
		while (!fe_queue_pending(q) && measure_now_ns() < end)
			__builtin_ia32_pause();
		if (fe_queue_pending(q))
			return;
	} else if (fe_queue_wait(q, 10000)) {
		return;
	}
	errx(1, "the back-end does not answer");
}

static void run_row(struct bench *b, const struct row *row)
{
	struct fe_queue *q = &b->fe.queues[QUEUE_REQUESTS];
	struct fe_used used;
	uint64_t now = measure_now_ns();

	for (unsigned i = 0; i < b->fs.depth; i++) {
		b->slots[i].started_ns = now;
		row->submit(b, &b->slots[i]);
	}
	do {
		fe_queue_kick(q);
		await_answers(b, q);
		now = measure_now_ns();
		while (fe_queue_pop(q, &used)) {
			finish(b, row, used.user, now);
			row->submit(b, used.user);
		}
		reap_forgets(b);
	} while (measure_goes_on(&b->fs.m, now));
}

static void make_slots(struct bench *b)
{
	struct fe_memory *m = &b->fe.mem;

	for (unsigned i = 0; i < b->fs.depth; i++) {
		struct slot *s = &b->slots[i];

		s->index = i;
		s->in = fe_memory_alloc(m, ARGS_LEN, 64);
		s->out = fe_memory_alloc(m, REPLY_LEN, 64);
		s->forget = fe_memory_alloc(m, ARGS_LEN, 64);
		s->data = fe_memory_alloc(m, FS_MIB, 4096);
	}
}

/* It is starting while we are: its socket may not be there yet. */
static void connect_to(struct bench *b)
{
	struct fe_spec spec = { .memory.len = (uint64_t)(b->fs.depth + 8) * 2 * FS_MIB,
				.queue_size = 128,
				.n_queues = N_QUEUES };
	int r = -ENOENT;

	for (unsigned i = 0; i < 5000 && access(b->fs.socket, F_OK) < 0; i++)
		usleep(1000);
	for (unsigned i = 0; i < 100; i++) {
		r = fe_begin(&b->fe, b->fs.socket, &spec);
		if (r != -ECONNREFUSED && r != -ENOENT)
			break;
		usleep(10000);
	}
	if (r < 0)
		errx(1, "%s: no session: %s", b->fs.socket, strerror(-r));
}

static void run_back_end(struct bench *b)
{
	const struct row *row = row_of(b->fs.row);

	connect_to(b);
	b->fs.m.pids[1] = backend_worker(b->fs.m.pids[0]);
	make_slots(b);
	negotiate(b);
	row->begin(b);
	run_row(b, row);
	fe_close(&b->fe);
}

static const struct option option_table[] = {
	{ "row", required_argument, NULL, 'r' },
	{ "dir", required_argument, NULL, 'd' },
	{ "socket", required_argument, NULL, 's' },
	{ "pid", required_argument, NULL, 'p' },
	{ "bare", no_argument, NULL, 'b' },
	{ "depth", required_argument, NULL, 'n' },
	{ "seconds", required_argument, NULL, 't' },
	{ "awake", no_argument, NULL, 'a' },
	{},
};

static bool option_take(struct bench *b, int c)
{
	switch (c) {
	case 'r':
		b->fs.row = optarg;
		return true;
	case 'd':
		b->fs.dir = optarg;
		return true;
	case 's':
		b->fs.socket = optarg;
		return true;
	case 'p':
		b->fs.m.pids[0] = atoi(optarg);
		return true;
	case 'b':
		b->fs.socket = NULL;
		return true;
	case 'a':
		b->fs.awake = true;
		return true;
	case 'n':
		b->fs.depth = (unsigned)atoi(optarg);
		return true;
	case 't':
		b->fs.m.seconds = atof(optarg);
		return true;
	default:
		return false;
	}
}

static uint64_t data_len(const char *dir)
{
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s/data", dir);
	if (stat(path, &st) < 0 || st.st_size < FS_MIB)
		err(1, "%s", path);
	return (uint64_t)st.st_size / FS_MIB * FS_MIB;
}

int main(int argc, char **argv)
{
	static struct bench b = { .fs = { .depth = 16, .m.seconds = 2 }, .random.state = 42 };
	int c;

	while ((c = getopt_long(argc, argv, "", option_table, NULL)) >= 0)
		if (!option_take(&b, c))
			return 2;
	if (!b.fs.row || !b.fs.dir || !b.fs.socket != !b.fs.m.pids[0] || b.fs.depth < 1 ||
	    b.fs.depth > FS_MAX_DEPTH)
		errx(2,
		     "usage: frontend-bench-fs --row=NAME --dir=DIR --socket=PATH --pid=PID|--bare "
		     "[--depth=1…64] [--seconds=S] [--awake]");
	b.fs.data_len = data_len(b.fs.dir);
	if (b.fs.socket)
		run_back_end(&b);
	else
		fs_run_bare(&b.fs);
	measure_report(&b.fs.m);
	return 0;
}
