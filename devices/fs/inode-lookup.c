/*
 * What a name is: finding its inode, or making it. See inode.h.
 *
 * An inode that is known and has a descriptor costs one system call, statx of the name: the
 * descriptor pins the number, so whatever has this number is this inode. A new one costs two,
 * opening it and statx of the descriptor; after a statx of the name in vain, three. Which to begin
 * with is guessed by what this thread's last look-ups came to: a guest that walks a tree it has not
 * seen asks for new ones only. What is made of a descriptor is decided by its own statx, not by
 * that of the name, which may lead elsewhere by then. A parked inode pins nothing: its number may
 * have been given to another file, so it is the same only if the digest is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/error.h"
#include "devices/fs/attr.h"
#include "devices/fs/host.h"
#include "devices/fs/inode-private.h"

enum {
	STRANGE_MAX = 3,    /* a guess changes after two that were wrong */
	STRANGE_LIKELY = 2, /* from here on the next is taken to be new */
};

/* A descriptor (O_PATH) on its way into the table. */
struct arrival {
	struct request *rq;
	struct inode *parent; /* NULL: unknown, as is name */
	const char *name;
	int fd; /* -1 once the table has it */
	bool was_new;
	struct statx *st;
	struct inode_key key;
	bool has_digest;
	uint64_t digest;
};

static uint32_t arrival_flags(const struct arrival *a)
{
	const struct inodes *s = a->rq->fs->inodes;
	uint32_t flags = a->name ? 0 : INODE_NAMELESS;
	const struct inode_entry *parent;

	if (!a->parent || !S_ISDIR(a->st->stx_mode))
		return flags;
	/* A subvolume of btrfs is no mount, but numbers its files by itself. */
	parent = &s->table->entry[inode_index(s, a->parent)];
	if (parent->mnt != a->key.mnt || parent->dev != a->key.dev)
		flags |= INODE_SUBMOUNT;
	return flags;
}

/* Locked. */
static int arrive_new(struct arrival *a, uint32_t *ret_index)
{
	struct inodes *s = a->rq->fs->inodes;
	uint32_t index = inode_make(s, &a->key, a->fd, a->st->stx_mode & S_IFMT, arrival_flags(a));

	if (index == 0)
		return -ENFILE;
	a->fd = -1;
	a->was_new = true;
	inode_name_record(s, index, a->parent ? inode_nodeid(s, inode_index(s, a->parent)) : 0,
			  a->name);
	*ret_index = index;
	return 0;
}

/* Locked. The number is that of an inode without a descriptor. -EAGAIN: the digest is needed. */
static int arrive_parked(struct arrival *a, uint32_t *index)
{
	struct inodes *s = a->rq->fs->inodes;
	uint64_t word = inode_load(s, *index);

	if (!a->has_digest)
		return -EAGAIN;
	if (s->table->cold[*index].digest != a->digest ||
	    s->table->entry[*index].type != (a->st->stx_mode & S_IFMT)) {
		/* It is gone, and its number somebody else's: whoever asks for it gets ESTALE. */
		inode_unhash(s, *index);
		return arrive_new(a, index);
	}
	inode_store(s, *index, inode_word(a->fd, word_count(word)));
	CRASH_POINT("fs.inode.revived");
	a->fd = -1;
	inode_tally(&s->n_fds, 1);
	inode_tally(&s->n_parked, -1);
	return 0;
}

/* Locked. */
static int arrive(struct arrival *a, struct inode **ret)
{
	struct inodes *s = a->rq->fs->inodes;
	uint32_t index = inode_find_key(s, &a->key);
	struct inode *i;
	int r = 0;

	if (index == 0)
		r = arrive_new(a, &index);
	else if (word_fd(inode_load(s, index)) == INODE_FD_PARKED)
		r = arrive_parked(a, &index);
	if (r < 0)
		return r;
	if (a->name && index != INODE_ROOT && s->table->entry[index].flags & INODE_NAMELESS)
		inode_name_record(s, index, inode_nodeid(s, inode_index(s, a->parent)), a->name);
	i = inode_count(a->rq, index);
	if (!i)
		return -EOVERFLOW;
	*ret = i;
	return 0;
}

static int arrive_and_lock(struct arrival *a, struct inode **ret)
{
	INODE_LOCKED(a->rq->fs->inodes);

	return arrive(a, ret);
}

/* a->fd is taken, on failure too. */
static int adopt(struct arrival *a, struct inode **ret)
{
	struct fs *fs = a->rq->fs;
	int r;

	if (HOST(statx(a->fd, "", AT_EMPTY_PATH, ATTR_STATX_MASK, a->st)) < 0)
		r = -errno;
	else
		r = inode_make_room(fs);
	a->key = inode_key_of(a->st);
	if (r == 0)
		r = arrive_and_lock(a, ret);
	if (r == -EAGAIN) {
		/*
		 * Without a digest it cannot be told from its predecessor: it is taken for another.
		 */
		if (inode_digest(a->fd, a->st, &a->digest) < 0)
			a->digest = 0;
		a->has_digest = true;
		r = arrive_and_lock(a, ret);
	}
	a->fd = host_close(a->fd);
	return r;
}

/* If the inode of this stat is there and has a descriptor: counted, in use. Else NULL. */
static struct inode *look_up_known(struct request *rq, struct inode *parent, const char *name,
				   const struct statx *st)
{
	struct inodes *s = rq->fs->inodes;
	struct inode_key key = inode_key_of(st);
	INODE_LOCKED(s);
	uint32_t index = inode_find_key(s, &key);

	if (index == 0 || word_fd(inode_load(s, index)) == INODE_FD_PARKED)
		return NULL;
	if (s->table->entry[index].flags & INODE_NAMELESS && index != INODE_ROOT)
		inode_name_record(s, index, inode_nodeid(s, inode_index(s, parent)), name);
	return inode_count(rq, index);
}

static bool expects_new(const struct request *rq)
{
	return rq->fs->inodes->strange[rq->thread->index] >= STRANGE_LIKELY;
}

/*
 * Each thread has its own, so no lock; stored only when it changes, since they share a cache line.
 */
static void learn(struct request *rq, bool was_new)
{
	uint8_t *strange = &rq->fs->inodes->strange[rq->thread->index];

	if (was_new && *strange < STRANGE_MAX)
		++*strange;
	else if (!was_new && *strange > 0)
		--*strange;
}

static int look_up_new(struct request *rq, struct inode *parent, int dir, const char *name,
		       struct inode **ret, struct statx *ret_stat)
{
	struct arrival a = { .rq = rq, .parent = parent, .name = name, .st = ret_stat };
	int r;

	a.fd = HOST(openat(dir, name, O_PATH | O_NOFOLLOW));
	if (a.fd < 0)
		return -errno;
	CRASH_POINT("fs.lookup.opened");
	r = adopt(&a, ret);
	if (r == 0)
		learn(rq, a.was_new);
	return r;
}

int inode_look_up(struct request *rq, struct inode *parent, const char *name, struct inode **ret,
		  struct statx *ret_stat)
{
	int dir = inode_fd(rq->fs, parent);
	struct inode *i;

	if (dir < 0)
		return dir;
	if (expects_new(rq))
		return look_up_new(rq, parent, dir, name, ret, ret_stat);
	if (HOST(statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, ATTR_STATX_MASK,
		       ret_stat)) < 0)
		return -errno;
	i = look_up_known(rq, parent, name, ret_stat);
	if (!i)
		return look_up_new(rq, parent, dir, name, ret, ret_stat);
	learn(rq, false);
	*ret = i;
	return 0;
}

int inode_look_up_new(struct request *rq, struct inode *parent, const char *name,
		      struct inode **ret, struct statx *ret_stat)
{
	int dir = inode_fd(rq->fs, parent);

	return dir < 0 ? dir : look_up_new(rq, parent, dir, name, ret, ret_stat);
}

/*
 * Is a number known in the directory's own file system? (What is mounted on the name has another.)
 */
static bool number_known(struct request *rq, struct inode *parent, uint64_t ino)
{
	struct inodes *s = rq->fs->inodes;
	const struct inode_entry *e = &s->table->entry[inode_index(s, parent)];
	struct inode_key key = { .ino = ino, .dev = e->dev, .mnt = e->mnt };
	INODE_LOCKED(s);

	return inode_find_key(s, &key) != 0;
}

int inode_look_up_listed(struct request *rq, struct inode *parent, const char *name, uint64_t ino,
			 struct inode **ret, struct statx *ret_stat)
{
	rq->fs->inodes->strange[rq->thread->index] =
		number_known(rq, parent, ino) ? 0 : STRANGE_MAX;
	return inode_look_up(rq, parent, name, ret, ret_stat);
}

/*
 * Found by its number, and by this name before: counted, in use. Not directories, on which
 * something may be mounted; what is mounted on a file is not known by the file's number and this
 * name.
 */
static struct inode *look_up_number(struct request *rq, struct inode *parent, const char *name,
				    uint64_t ino, uint32_t *ret_position)
{
	struct inodes *s = rq->fs->inodes;
	INODE_LOCKED(s);
	uint32_t dir = inode_index(s, parent), index;
	const struct inode_entry *e = &s->table->entry[dir];
	struct inode_key key = { .ino = ino, .dev = e->dev, .mnt = e->mnt };

	index = inode_find_key(s, &key);
	if (index <= INODE_ROOT || !word_open(inode_load(s, index)) ||
	    S_ISDIR(s->table->entry[index].type) ||
	    !inode_is_named(s, index, inode_nodeid(s, dir), name))
		return NULL;
	*ret_position = journal_position(rq);
	return inode_count(rq, index);
}

int inode_look_up_just_listed(struct request *rq, struct inode *parent, const char *name,
			      uint64_t ino, struct inode **ret, struct statx *ret_stat)
{
	uint32_t position;
	struct inode *i = look_up_number(rq, parent, name, ino, &position);

	if (!i)
		return inode_look_up_listed(rq, parent, name, ino, ret, ret_stat);
	if (inode_stat(rq->fs, i, ret_stat) == 0 && ret_stat->stx_nlink > 0) {
		*ret = i;
		return 0;
	}
	inode_uncount(rq, position, inode_id(rq->fs, i));
	inode_put(rq->fs, i);
	return inode_look_up_listed(rq, parent, name, ino, ret, ret_stat);
}

/* "N" below proc_fd is descriptor N. */
static void number(char *buf, size_t len, int fd)
{
	snprintf(buf, len, "%d", fd);
}

int inode_look_up_fd(struct request *rq, int fd, struct inode **ret, struct statx *ret_stat)
{
	struct arrival a = { .rq = rq, .st = ret_stat };
	char name[16];

	number(name, sizeof(name), fd);
	a.fd = HOST(openat(rq->fs->proc_fd, name, O_PATH));
	if (a.fd < 0)
		return -errno;
	return adopt(&a, ret);
}

int inode_fd(struct fs *fs, struct inode *i)
{
	struct inodes *s = fs->inodes;
	int fd = word_fd(inode_load(s, inode_index(s, i)));

	inode_set_referenced(i, 1);
	if (fd == INODE_FD_ROOT)
		return fs->root_fd;
	return fd != INODE_FD_PARKED ? fd : inode_revive(fs, i);
}

int inode_reopen(struct fs *fs, struct inode *i, int flags)
{
	int fd = inode_fd(fs, i);
	char name[16];

	if (fd < 0)
		return fd;
	/*
	 * Through the link of a symlink's descriptor the kernel comes to the symlink, and refuses
	 * itself.
	 */
	if (inode_type(fs, i) != S_IFREG && inode_type(fs, i) != S_IFDIR)
		return inode_type(fs, i) == S_IFLNK ? -ELOOP : -ENXIO;
	number(name, sizeof(name), fd);
	/* O_NONBLOCK: who has a lease on it is told, and not waited for. */
	return errno_or(HOST(openat(fs->proc_fd, name,
				    (flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC)) |
					    O_NONBLOCK | O_NOCTTY)));
}

int inode_stat(struct fs *fs, struct inode *i, struct statx *ret)
{
	int fd = inode_fd(fs, i);

	if (fd < 0)
		return fd;
	return errno_or(HOST(statx(fd, "", AT_EMPTY_PATH, ATTR_STATX_MASK, ret)));
}
