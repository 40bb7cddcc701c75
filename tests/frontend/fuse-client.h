/* FUSE requests of a virtio file system device, from the driver's side. */
#pragma once

#include "tests/frontend/session.h"

#include <linux/fuse.h>

enum {
	FC_ROOT = FUSE_ROOT_ID,
	FC_MAX_PARTS = 6,	/* of what the device reads, besides the header */
	FC_ARGS_LEN = 80 << 10, /* bytes of those parts, without data */
	FC_REPLY_LEN = 1 << 20, /* room for an answer */
	FC_DATA_LEN = 1 << 20,	/* longest write */
	FC_HIPRIO = 0,		/* queue */
	FC_REQUESTS = 1,	/* first request queue */
};

/* What the request is; its parts are copied into guest memory, each in a descriptor of its own. */
struct fc_op {
	uint32_t opcode;
	uint64_t nodeid;
	struct {
		const void *p;
		size_t len;
	} part[FC_MAX_PARTS];
	unsigned n_parts;
	uint16_t extension_len; /* of the last part, in units of 8 bytes */
	uint32_t room;		/* for the payload of the answer */
	bool no_answer;		/* FORGET: nothing is device-writable */
};

/* One request's buffers in guest memory, used again and again. */
struct fc_call {
	struct fuse_in_header *header;
	struct fuse_out_header *answer;
	uint8_t *args;
	uint8_t *reply; /* payload of the answer */
	uint32_t room;
	uint32_t reply_len; /* bytes of payload, once done */
	uint32_t used_len;
	bool done;
	int error; /* 0 or negative errno that the device answered with; -EBADMSG: an answer that is none */
	uint64_t unique;
	void *user; /* of the test */
};

/* A mounted session, and the ids that its requests carry. */
struct fc {
	struct fe fe;
	struct fuse_init_out init;
	uint64_t flags; /* of init, both words */
	uint64_t unique;
	uint32_t uid, gid, pid, umask;
	unsigned queue; /* of synchronous requests */
	struct fc_call call;
};

/* All zero: everything that the device offers; one request queue. */
struct fc_spec {
	struct fe_spec session; /* n_queues without the high-priority one */
	uint64_t flags_not;	/* FUSE_* of INIT that this driver does not know */
	bool no_init;
};

/* Session and INIT. 0, negative errno. */
int fc_begin(struct fc *c, const char *socket, const struct fc_spec *spec);
void fc_end(struct fc *c); /* hang up */

/* Asynchronous: many calls in flight. fc_add() only queues. */
void fc_call_init(struct fc_call *call, struct fe_memory *m);
void fc_add(struct fc *c, unsigned queue, struct fc_call *call, const struct fc_op *op);
void fc_kick(struct fc *c, unsigned queue);
unsigned fc_reap(struct fc *c, unsigned queue); /* marks calls done; how many */
/* Until the call is done; the test ends when it is not within 20 s. What the device answered. */
int fc_wait(struct fc *c, unsigned queue, struct fc_call *call);

/* Synchronous, in c->call. */
int fc_run(struct fc *c, const struct fc_op *op);

/* What CREATE and TMPFILE answer with. */
struct fc_opened {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};

/* All return 0 or the negative errno of the answer; ret_… may be NULL. */
int fc_lookup(struct fc *c, uint64_t parent, const char *name, struct fuse_entry_out *ret);
void fc_forget(struct fc *c, uint64_t nodeid, uint64_t n); /* by the high-priority queue */
int fc_getattr(struct fc *c, uint64_t nodeid, struct fuse_attr *ret);
int fc_setattr(struct fc *c, uint64_t nodeid, const struct fuse_setattr_in *in,
	       struct fuse_attr *ret);
int fc_readlink(struct fc *c, uint64_t nodeid, char *ret, size_t len); /* its length */
int fc_mkdir(struct fc *c, uint64_t parent, const char *name, uint32_t mode,
	     struct fuse_entry_out *ret);
int fc_mknod(struct fc *c, uint64_t parent, const char *name, uint32_t mode, uint32_t rdev,
	     struct fuse_entry_out *ret);
int fc_symlink(struct fc *c, uint64_t parent, const char *name, const char *target,
	       struct fuse_entry_out *ret);
int fc_link(struct fc *c, uint64_t nodeid, uint64_t parent, const char *name,
	    struct fuse_entry_out *ret);
int fc_create(struct fc *c, uint64_t parent, const char *name, uint32_t flags, uint32_t mode,
	      struct fc_opened *ret);
int fc_tmpfile(struct fc *c, uint64_t parent, uint32_t flags, uint32_t mode, struct fc_opened *ret);
int fc_unlink(struct fc *c, uint64_t parent, const char *name);
int fc_rmdir(struct fc *c, uint64_t parent, const char *name);
int fc_rename(struct fc *c, uint64_t parent, const char *name, uint64_t newparent,
	      const char *newname, uint32_t flags);
int fc_open(struct fc *c, uint64_t nodeid, uint32_t flags, struct fuse_open_out *ret);
int fc_opendir(struct fc *c, uint64_t nodeid, struct fuse_open_out *ret);
int fc_release(struct fc *c, uint64_t nodeid, uint64_t fh);
int fc_releasedir(struct fc *c, uint64_t nodeid, uint64_t fh);
/* Bytes, or negative errno. */
int fc_read(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t offset, void *p, size_t len);
int fc_write(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t offset, const void *p,
	     size_t len);
int fc_setxattr(struct fc *c, uint64_t nodeid, const char *name, const void *value, size_t len,
		uint32_t flags);
int fc_removexattr(struct fc *c, uint64_t nodeid, const char *name);
/* Length of value or list, also with len 0; or negative errno. */
int fc_getxattr(struct fc *c, uint64_t nodeid, const char *name, void *ret, size_t len);
int fc_listxattr(struct fc *c, uint64_t nodeid, char *ret, size_t len);
