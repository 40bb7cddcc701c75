/*
 * Making a directory entry, once: what MKNOD, MKDIR, SYMLINK, LINK and CREATE have in common.
 *
 * Runs in: worker, I/O threads. Trusts: nothing in requests.
 *
 * A repeat of these would find the name taken by its own first run, and answer EEXIST. So each is
 * journalled (journal.h): the intent holds nothing but the time; a successor that finds an intent
 * and no result asks whether what is at the name now is what was to be made (make_ops.is_ours), and
 * else makes it. The name's absence before is not looked up in advance: where something was there,
 * it is older than the intent (past.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "devices/fs/extension.h"
#include "devices/fs/past.h"

struct inode;
struct request;
struct make;

struct make_ops {
	/* The system call. 0 or a negative errno. */
	int (*act)(struct make *m);
	/* Is st, which is at the name, what act() makes, made after tick_ns? */
	bool (*is_ours)(const struct make *m, const struct statx *st, uint64_t tick_ns);
	bool as_sender; /* who asked owns it, and his umask counts */
};

struct make {
	struct request *rq;
	const struct make_ops *ops;
	struct inode *parent; /* in use */
	int dir;	      /* its descriptor */
	const char *name;
	uint32_t mode; /* of the request */
	uint32_t umask;
	uint32_t rdev;	      /* MKNOD, as the guest encodes it */
	const char *target;   /* SYMLINK */
	struct inode *source; /* LINK: in use */
	int flags;	      /* CREATE: of open(2), without O_CREAT and its like */
	/* CREATE: what act() opened; -1: a dead worker did. Owned by who called make_once(). */
	int fd;
	bool fresh; /* nobody has known what act() has made before */
	struct extension extension;
};

/*
 * The directory of the request, and in it the name at offset of the arguments; *ret_end: what
 * follows it. Put it with make_done(), also after failure. 0 or a negative errno.
 */
int make_init(struct make *m, struct request *rq, uint32_t offset, uint32_t *ret_end);
void make_done(struct make *m);

/*
 * Carry it out, unless a dead worker has. 0, or the negative errno of the one time that it was
 * tried.
 */
int make_once(struct make *m);

/*
 * The inode at the name, counted as looked up, in use: that which a dead worker has counted for
 * this request, if it came to that. 0 or a negative errno.
 */
int make_look_up(struct make *m, struct inode **ret, struct statx *ret_stat);

/* act() with the sender's ids and umask. */
int make_act(struct make *m);

/*
 * mode, as the kernel would have it if the sender made the file itself: without SGID in another
 * group's directory.
 */
uint32_t make_mode(const struct make *m);

/*
 * The security contexts of the request, put on what fd (any descriptor) is. Where they are kept as
 * user.* (xattr-map.h), which the host's kernel gives to files and directories only, all else stays
 * without. 0 or a negative errno.
 */
int make_label(const struct make *m, int fd);
