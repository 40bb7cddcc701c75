/*
 * Descriptors beyond the limit: parking inodes, and reviving them by their names. See inode.h,
 * inode-table.h.
 *
 * Which one is parked is decided by a clock hand over the table (second chance). An inode can be
 * parked if nobody uses it and it can be found again: its name is known, and a look at the name in
 * its parent now finds it. (The parent is revived for that if it was parked itself, beyond the
 * limit; it is soon parked again.) What has become of the name when the inode is revived is found
 * out by the digest.
 *
 * The guest's own removals and renames say so before they act (inode_name_gone): a parked inode of
 * that name is revived first, since it may go on without a name, and one with a descriptor is not
 * parked under that name any more. What others do to the directory on the host nobody says: such an
 * inode is ESTALE to the guest.
 *
 * Invariant: while a descriptor is used outside of the lock its inode is in use, so it is not
 * parked.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "devices/base/crash.h"
#include "devices/base/error.h"
#include "devices/fs/attr.h"
#include "devices/fs/host.h"
#include "devices/fs/inode-private.h"

enum {
	PARKED_AT_ONCE = 8,
	STEPS_LOCKED = 1024,   /* of the clock hand without letting others in */
	ANCESTORS = 4096,      /* parked ones in a row, from an inode up */
	REMOVAL_MARGIN = 1024, /* descriptors short of the limit from where names matter */
};

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200 /* Linux 6.6: also of file systems that cannot be exported */
#endif

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 29;
}

union handle_room {
	struct file_handle handle;
	uint8_t room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

static int handle_of(int fd, union handle_room *room)
{
	int mount;

	room->handle.handle_bytes = MAX_HANDLE_SZ;
	if (HOST(name_to_handle_at(fd, "", &room->handle, &mount, AT_EMPTY_PATH)) == 0)
		return 0;
	room->handle.handle_bytes = MAX_HANDLE_SZ;
	if (HOST(name_to_handle_at(fd, "", &room->handle, &mount, AT_EMPTY_PATH | AT_HANDLE_FID)) ==
	    0)
		return 0;
	return -errno;
}

/* Never 0. Where there are no file handles, the time of birth tells generations apart. */
int inode_digest(int fd, const struct statx *st, uint64_t *ret)
{
	union handle_room room;
	const uint8_t *bytes = room.handle.f_handle;
	uint64_t h = mix(mix(mix(0, st->stx_ino), st->stx_dev_major), st->stx_dev_minor);

	if (handle_of(fd, &room) == 0) {
		h = mix(h, (uint32_t)room.handle.handle_type);
		for (uint32_t i = 0; i < room.handle.handle_bytes && i < MAX_HANDLE_SZ; i++)
			h = mix(h, bytes[i]);
	} else if (st->stx_mask & STATX_BTIME) {
		h = mix(mix(h, (uint64_t)st->stx_btime.tv_sec), st->stx_btime.tv_nsec);
	} else {
		return -EOPNOTSUPP;
	}
	*ret = h | 1;
	return 0;
}

static void set_flags(struct inodes *s, uint32_t index, uint32_t flags)
{
	__atomic_store_n(&s->table->entry[index].flags, flags, __ATOMIC_RELEASE);
}

void inode_name_record(struct inodes *s, uint32_t index, uint64_t parent, const char *name)
{
	struct inode_cold *c = &s->table->cold[index];
	uint32_t flags = s->table->entry[index].flags;
	size_t len = name ? strlen(name) : 0;

	if (len == 0 || len >= INODE_NAME_LEN) {
		set_flags(s, index, flags | INODE_NAMELESS);
		return;
	}
	c->parent = parent;
	strncpy(c->head, name, INODE_HEAD_LEN);
	if (len >= INODE_HEAD_LEN)
		memcpy(s->table->tail[index], name + INODE_HEAD_LEN, len + 1 - INODE_HEAD_LEN);
	set_flags(s, index, flags & ~(uint32_t)INODE_NAMELESS);
}

/* A copy of the recorded name; false: it is none (hostile). */
static bool name_of(const struct inodes *s, uint32_t index, char *ret)
{
	memcpy(ret, s->table->cold[index].head, INODE_HEAD_LEN);
	if (!memchr(ret, '\0', INODE_HEAD_LEN))
		memcpy(ret + INODE_HEAD_LEN, s->table->tail[index],
		       INODE_NAME_LEN - INODE_HEAD_LEN);
	ret[INODE_NAME_LEN - 1] = '\0';
	return ret[0] != '\0' && strcmp(ret, ".") != 0 && strcmp(ret, "..") != 0 &&
	       !strchr(ret, '/');
}

/* An inode and its parent, both in use, and by which name the one is in the other. */
struct tie {
	struct inode *child, *parent;
	uint64_t digest; /* as recorded */
	char name[INODE_NAME_LEN];
};

/* Locked. */
static bool tie_make(struct fs *fs, uint32_t index, struct tie *ret)
{
	struct inodes *s = fs->inodes;
	uint32_t parent = inode_find_id(s, s->table->cold[index].parent);

	if (parent == 0 || parent == index || !name_of(s, index, ret->name))
		return false;
	ret->child = &s->node[index];
	ret->parent = &s->node[parent];
	ret->child->in_use++;
	ret->parent->in_use++;
	ret->digest = s->table->cold[index].digest;
	return true;
}

static void tie_undo(struct fs *fs, struct tie *t)
{
	inode_put(fs, t->child);
	inode_put(fs, t->parent);
}

/* Locked. */
static bool can_be_parked(struct fs *fs, uint32_t index, struct tie *ret)
{
	struct inodes *s = fs->inodes;

	if (!word_open(inode_load(s, index)) || s->node[index].in_use > 0 ||
	    s->table->entry[index].flags & INODE_NAMELESS)
		return false;
	if (inode_tallied(&s->node[index].referenced)) {
		inode_set_referenced(&s->node[index], 0);
		return false;
	}
	return tie_make(fs, index, ret);
}

/*
 * Let the clock hand go on a little. Downwards: what was found later is mostly further from the
 * root, and goes first, while its parent has a descriptor.
 */
static bool pick(struct fs *fs, uint64_t *steps, struct tie *ret)
{
	struct inodes *s = fs->inodes;
	INODE_LOCKED(s);

	for (uint32_t n = 0; n<STEPS_LOCKED && * steps> 0; n++) {
		if (--s->clock <= INODE_ROOT || s->clock >= s->table->high)
			s->clock = s->table->high - 1;
		--*steps;
		if (s->clock > INODE_ROOT && can_be_parked(fs, s->clock, ret))
			return true;
	}
	return false;
}

static int revive(struct fs *fs, struct inode *i, bool beyond);

/* Its descriptor, if need be beyond the limit. */
static int fd_beyond(struct fs *fs, struct inode *i)
{
	int fd = word_fd(inode_load(fs->inodes, inode_index(fs->inodes, i)));

	if (fd == INODE_FD_ROOT)
		return fs->root_fd;
	return fd != INODE_FD_PARKED ? fd : revive(fs, i, true);
}

/* Does the name lead to it, and can it be recognised again? */
static bool tie_holds(struct fs *fs, struct tie *t)
{
	const struct inodes *s = fs->inodes;
	const struct inode_entry *e = &s->table->entry[inode_index(s, t->child)];
	int parent = fd_beyond(fs, t->parent);
	struct inode_key key;
	struct statx st;

	if (parent < 0 || HOST(statx(parent, t->name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
				     ATTR_STATX_MASK, &st)) < 0)
		return false;
	key = inode_key_of(&st);
	return key.ino == e->ino && key.dev == e->dev && key.mnt == e->mnt &&
	       inode_digest(fd_beyond(fs, t->child), &st, &t->digest) == 0;
}

/* The descriptor to be closed, or -1. */
static int park_locked(struct inodes *s, struct tie *t, bool holds)
{
	INODE_LOCKED(s);
	uint32_t index = inode_index(s, t->child);
	uint64_t word = inode_load(s, index);

	if (!holds) {
		set_flags(s, index, s->table->entry[index].flags | INODE_NAMELESS);
		return -1;
	}
	/* Somebody else uses it now, or removes the name. */
	if (t->child->in_use > 1 || s->table->entry[index].flags & INODE_NAMELESS)
		return -1;
	s->table->cold[index].digest = t->digest;
	CRASH_POINT("fs.park.digest");
	inode_store(s, index, inode_word(INODE_FD_PARKED, word_count(word)));
	CRASH_POINT("fs.parked");
	inode_tally(&s->n_fds, -1);
	inode_tally(&s->n_parked, 1);
	return word_fd(word);
}

static bool has_room(const struct inodes *s)
{
	return inode_tallied(&s->n_fds) < s->max_fds;
}

/*
 * Whoever has parked one may have its place, also if other threads have taken the room meanwhile:
 * else they could take it from each other for ever. Several are parked if parents went beyond the
 * limit.
 */
int inode_make_room(struct fs *fs)
{
	struct inodes *s = fs->inodes;
	uint64_t steps = UINT64_C(4) * s->table->high + STEPS_LOCKED;
	uint32_t n_parked = 0;
	struct tie t;

	/*
	 * Room that was there once is enough: another thread that takes it at the same time has
	 * looked, too.
	 */
	while (!has_room(s)) {
		int fd;

		if (n_parked == PARKED_AT_ONCE || steps == 0)
			return n_parked > 0 ? 0 : -ENFILE;
		if (!pick(fs, &steps, &t))
			continue;
		fd = park_locked(s, &t, tie_holds(fs, &t));
		tie_undo(fs, &t);
		n_parked += fd >= 0;
		host_close(fd);
	}
	return 0;
}

/*
 * Has it got a descriptor? Else, in *ret, the highest of its ancestors in a row (or itself) that
 * has none: -EAGAIN.
 */
static int highest_parked(struct fs *fs, struct inode *i, struct tie *ret)
{
	struct inodes *s = fs->inodes;
	INODE_LOCKED(s);
	uint32_t index = inode_index(s, i);
	uint64_t word = inode_load(s, index);

	if (word_fd(word) != INODE_FD_PARKED)
		return word_fd(word);
	for (uint32_t n = 0; n < ANCESTORS; n++) {
		uint32_t parent = inode_find_id(s, s->table->cold[index].parent);

		if (parent == 0)
			return -ESTALE;
		if (word_fd(inode_load(s, parent)) != INODE_FD_PARKED)
			return tie_make(fs, index, ret) ? -EAGAIN : -ESTALE;
		index = parent;
	}
	return -ESTALE;
}

/* Locked. Another thread may have been faster. */
static void tie_attach(struct inodes *s, struct tie *t, int *fd)
{
	INODE_LOCKED(s);
	uint32_t index = inode_index(s, t->child);
	uint64_t word = inode_load(s, index);

	if (word_fd(word) != INODE_FD_PARKED)
		return;
	inode_store(s, index, inode_word(take_fd(fd), word_count(word)));
	CRASH_POINT("fs.inode.revived");
	inode_tally(&s->n_fds, 1);
	inode_tally(&s->n_parked, -1);
}

/* The parent has a descriptor. */
static int tie_revive(struct fs *fs, struct tie *t, bool beyond)
{
	host_fd int fd = HOST(openat(fd_beyond(fs, t->parent), t->name, O_PATH | O_NOFOLLOW));
	uint64_t digest;
	struct statx st;
	int r;

	if (fd < 0)
		return errno == ENFILE || errno == EMFILE || errno == ENOMEM ? -errno : -ESTALE;
	if (HOST(statx(fd, "", AT_EMPTY_PATH, ATTR_STATX_MASK, &st)) < 0 ||
	    (st.stx_mode & S_IFMT) != inode_type(fs, t->child) ||
	    inode_digest(fd, &st, &digest) < 0 || digest != t->digest)
		return -ESTALE;
	r = beyond ? 0 : inode_make_room(fs);
	if (r == 0)
		tie_attach(fs->inodes, t, &fd);
	return r;
}

/* From the highest one down. Beyond the limit: for inode_make_room(), which this one calls else. */
static int revive(struct fs *fs, struct inode *i, bool beyond)
{
	for (uint32_t n = 0; n < ANCESTORS; n++) {
		struct tie t;
		int r = highest_parked(fs, i, &t);

		if (r != -EAGAIN)
			return r;
		r = tie_revive(fs, &t, beyond);
		tie_undo(fs, &t);
		if (r < 0)
			return r;
	}
	return -ESTALE;
}

int inode_revive(struct fs *fs, struct inode *i)
{
	return revive(fs, i, false);
}

bool inode_is_named(const struct inodes *s, uint32_t index, uint64_t parent, const char *name)
{
	const struct inode_cold *c = &s->table->cold[index];
	size_t len = strlen(name);

	if (c->parent != parent || s->table->entry[index].flags & INODE_NAMELESS ||
	    len >= INODE_NAME_LEN || strncmp(c->head, name, INODE_HEAD_LEN) != 0)
		return false;
	return len < INODE_HEAD_LEN ||
	       memcmp(s->table->tail[index], name + INODE_HEAD_LEN, len + 1 - INODE_HEAD_LEN) == 0;
}

static struct inode *find_named(struct fs *fs, struct inode *parent, const char *name,
				const struct statx *st)
{
	struct inodes *s = fs->inodes;
	struct inode_key key = inode_key_of(st);
	INODE_LOCKED(s);
	uint32_t index = inode_find_key(s, &key);

	if (index <= INODE_ROOT ||
	    !inode_is_named(s, index, inode_nodeid(s, inode_index(s, parent)), name))
		return NULL;
	/*
	 * Until it is looked up or named again. A parker that looks at the name now sees this flag.
	 */
	set_flags(s, index, s->table->entry[index].flags | INODE_NAMELESS);
	s->node[index].in_use++;
	return &s->node[index];
}

void inode_name_gone(struct fs *fs, struct inode *parent, const char *name)
{
	struct inodes *s = fs->inodes;
	struct inode *i;
	struct statx st;
	int dir;

	/* Far from the limit nothing is parked, and before something is, its name is looked at. */
	if (inode_tallied(&s->n_parked) == 0 &&
	    inode_tallied(&s->n_fds) + REMOVAL_MARGIN < s->max_fds)
		return;
	dir = inode_fd(fs, parent);
	if (dir < 0 ||
	    HOST(statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, ATTR_STATX_MASK, &st)) < 0)
		return;
	i = find_named(fs, parent, name, &st);
	if (!i)
		return;
	inode_fd(fs, i);
	inode_put(fs, i);
}

void inode_name_set(struct fs *fs, struct inode *i, struct inode *parent, const char *name)
{
	struct inodes *s = fs->inodes;
	INODE_LOCKED(s);

	if (i != &s->node[INODE_ROOT])
		inode_name_record(s, inode_index(s, i), inode_nodeid(s, inode_index(s, parent)),
				  name);
}
