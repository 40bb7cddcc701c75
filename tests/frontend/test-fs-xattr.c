/*
 * Claims about extended attributes in a shared directory.
 *
 * Runs in: a test program of its own, as root. Trusts: nothing that the back-end says.
 */
#include "tests/frontend/fs-claim.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>

static const struct backend_spec plain = { .share = "",
					   .n_queues = 1,
					   .args = (const char *const[]){ "--xattr", NULL } };
static const struct backend_spec none = { .share = "", .n_queues = 1 };
static const struct backend_spec acl = { .share = "",
					 .n_queues = 1,
					 .args = (const char *const[]){ "--posix-acl", NULL } };
static const struct backend_spec mapped = {
	.share = "", .n_queues = 1, .args = (const char *const[]){ "--xattr-map=user.guest.", NULL }
};

static uint64_t make_file(struct fs_claim *f, const char *name)
{
	struct fuse_entry_out e;

	expect_ok(fc_mknod(&f->c, f->dir, name, S_IFREG | 0755, 0, &e));
	return e.nodeid;
}

/* What the host has: its length, or a negative errno. */
static ssize_t host_get(const struct fs_claim *f, const char *file, const char *name, char *ret,
			size_t len)
{
	ssize_t r = lgetxattr(fs_claim_path(f, file), name, ret, len);

	return r < 0 ? -errno : r;
}

static int host_set(const struct fs_claim *f, const char *file, const char *name, const char *value)
{
	return lsetxattr(fs_claim_path(f, file), name, value, strlen(value), 0) < 0 ? -errno : 0;
}

/* Is name in the guest's list? */
static bool listed(struct fs_claim *f, uint64_t node, const char *name)
{
	char list[4096];
	int len = fc_listxattr(&f->c, node, list, sizeof(list));

	expect(len >= 0, "%d", len);
	for (int at = 0; at < len; at += (int)strlen(list + at) + 1)
		if (strcmp(list + at, name) == 0)
			return true;
	return false;
}

static void attributes_are_set_got_listed_and_removed(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "all", NULL);
	uint64_t node = make_file(f, "file");
	char got[64];

	expect_is(fc_getxattr(&f->c, node, "user.a", got, sizeof(got)), -ENODATA);
	expect_ok(fc_setxattr(&f->c, node, "user.a", "value", 5, 0));
	expect_is(host_get(f, "file", "user.a", got, sizeof(got)), 5);
	expect_is(fc_getxattr(&f->c, node, "user.a", NULL, 0), 5);
	expect_is(fc_getxattr(&f->c, node, "user.a", got, 5), 5);
	expect(memcmp(got, "value", 5) == 0, "another value");
	expect_is(fc_getxattr(&f->c, node, "user.a", got, 4), -ERANGE);
	expect_ok(fc_setxattr(&f->c, node, "user.empty", "", 0, 0));
	expect_is(fc_getxattr(&f->c, node, "user.empty", got, sizeof(got)), 0);
	expect_is(fc_listxattr(&f->c, node, NULL, 0), sizeof("user.a") + sizeof("user.empty"));
	expect_is(fc_listxattr(&f->c, node, got, 8), -ERANGE);
	expect(listed(f, node, "user.a") && listed(f, node, "user.empty"), "not listed");
	expect_ok(fc_removexattr(&f->c, node, "user.a"));
	expect(!listed(f, node, "user.a"), "still listed");
	expect_is(fc_removexattr(&f->c, node, "user.a"), -ENODATA);
	expect_is(host_get(f, "file", "user.a", got, sizeof(got)), -ENODATA);
	fs_claim_end(f);
}

static void flags_are_heeded(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "flags", NULL);
	uint64_t node = make_file(f, "file");

	expect_is(fc_setxattr(&f->c, node, "user.a", "1", 1, XATTR_REPLACE), -ENODATA);
	expect_ok(fc_setxattr(&f->c, node, "user.a", "1", 1, XATTR_CREATE));
	expect_is(fc_setxattr(&f->c, node, "user.a", "2", 1, XATTR_CREATE), -EEXIST);
	expect_ok(fc_setxattr(&f->c, node, "user.a", "2", 1, XATTR_REPLACE));
	expect_is(fc_setxattr(&f->c, node, "user.a", "2", 1, 4), -EINVAL);
	fs_claim_end(f);
}

static void borders(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "borders", NULL);
	uint64_t node = make_file(f, "file");
	static char value[65537];
	char name[300] = "user.";

	memset(value, 'v', sizeof(value));
	/* ext4 has room for less; what matters is that the host was asked. */
	expect(fc_setxattr(&f->c, node, "user.a", value, 65536, 0) != -E2BIG, "refused by us");
	expect_is(fc_setxattr(&f->c, node, "user.a", value, 65537, 0), -E2BIG);
	memset(name + 5, 'n', 250);
	expect_ok(fc_setxattr(&f->c, node, name, "1", 1, 0));
	name[255] = 'n';
	expect_is(fc_setxattr(&f->c, node, name, "1", 1, 0), -ERANGE);
	expect_is(fc_setxattr(&f->c, node, "", "1", 1, 0), -EINVAL);
	expect_is(fc_setxattr(&f->c, node, "user.", "1", 1, 0), -EINVAL);
	expect_is(fc_setxattr(&f->c, node, "system.other", "1", 1, 0), -EOPNOTSUPP);
	expect_is(fc_setxattr(&f->c, node, "nothing", "1", 1, 0), -EOPNOTSUPP);
	expect_is(fc_getxattr(&f->c, 0xdeadbeef, "user.a", NULL, 0), -ESTALE);
	fs_claim_end(f);
}

static void a_value_that_is_cut_short_is_refused(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "short", NULL);
	uint64_t node = make_file(f, "file");
	struct fuse_setxattr_in in = { .size = 100 };
	struct fc_op op = { .opcode = FUSE_SETXATTR,
			    .nodeid = node,
			    .part = { { &in, sizeof(in) }, { "user.a", 7 }, { "short", 5 } },
			    .n_parts = 3 };

	expect(f->c.flags & FUSE_SETXATTR_EXT, "not negotiated");
	expect_is(fc_run(&f->c, &op), -EINVAL);
	in.size = UINT32_MAX;
	expect_is(fc_run(&f->c, &op), -E2BIG);
	op.part[1].len = 6;
	op.n_parts = 2;
	expect_is(fc_run(&f->c, &op), -EINVAL);
	expect_is(fc_listxattr(&f->c, node, NULL, 0), 0);
	fs_claim_end(f);
}

static void the_short_form_is_understood(struct claim_context *x)
{
	static const struct fc_spec old = { .flags_not = FUSE_SETXATTR_EXT };
	struct fs_claim *f = fs_claim_begin(x, "old", &old);
	uint64_t node = make_file(f, "file");
	char got[8];

	expect(!(f->c.flags & FUSE_SETXATTR_EXT), "negotiated");
	expect_ok(fc_setxattr(&f->c, node, "user.a", "value", 5, XATTR_CREATE));
	expect_is(host_get(f, "file", "user.a", got, sizeof(got)), 5);
	fs_claim_end(f);
}

/* No way through an open descriptor leads to these. */
static void symlinks_and_fifos_have_attributes(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "kinds", NULL);
	struct fuse_entry_out e;
	char got[8];

	fs_claim_write(f, "target", "");
	expect_ok(fc_symlink(&f->c, f->dir, "symlink", "target", &e));
	expect_ok(fc_setxattr(&f->c, e.nodeid, "trusted.a", "1", 1, 0));
	expect_is(host_get(f, "symlink", "trusted.a", got, sizeof(got)), 1);
	expect_is(host_get(f, "target", "trusted.a", got, sizeof(got)), -ENODATA);
	expect_is(fc_setxattr(&f->c, e.nodeid, "user.a", "1", 1, 0), -EPERM);
	expect_ok(fc_mknod(&f->c, f->dir, "fifo", S_IFIFO | 0644, 0, &e));
	expect_ok(fc_setxattr(&f->c, e.nodeid, "trusted.a", "1", 1, 0));
	expect_is(fc_getxattr(&f->c, e.nodeid, "trusted.a", got, sizeof(got)), 1);
	expect_ok(fc_removexattr(&f->c, e.nodeid, "trusted.a"));
	fs_claim_end(f);
}

static void unlinked_files_keep_theirs(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "unlinked", NULL);
	uint64_t node = make_file(f, "file");
	char got[8];

	expect_ok(fc_setxattr(&f->c, node, "user.a", "1", 1, 0));
	expect_ok(fc_unlink(&f->c, f->dir, "file"));
	expect_is(fc_getxattr(&f->c, node, "user.a", got, sizeof(got)), 1);
	expect_ok(fc_setxattr(&f->c, node, "user.b", "1", 1, 0));
	fs_claim_end(f);
}

static void a_device_without_attributes_has_none(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "without", NULL);
	uint64_t node = make_file(f, "file");
	char got[64];

	expect_ok(host_set(f, "file", "user.a", "1"));
	expect_is(fc_setxattr(&f->c, node, "user.a", "1", 1, 0), -EOPNOTSUPP);
	expect_is(fc_getxattr(&f->c, node, "user.a", got, sizeof(got)), -EOPNOTSUPP);
	expect_is(fc_listxattr(&f->c, node, got, sizeof(got)), -EOPNOTSUPP);
	expect_is(fc_removexattr(&f->c, node, "user.a"), -EOPNOTSUPP);
	fs_claim_end(f);
}

static void acls_are_not_there_unless_asked_for(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "no-acl", NULL);
	uint64_t node = make_file(f, "file");
	char got[64];

	expect_is(fc_getxattr(&f->c, node, "system.posix_acl_access", got, sizeof(got)),
		  -EOPNOTSUPP);
	expect_is(fc_setxattr(&f->c, node, "system.posix_acl_access", "1", 1, 0), -EOPNOTSUPP);
	expect_is(fc_removexattr(&f->c, node, "system.posix_acl_access"), -EOPNOTSUPP);
	fs_claim_end(f);
}

/* u::rwx, u:1234:r--, g::r-x, m::r-x, o::--- */
static const uint8_t an_acl[] = { 2,	0,    0,    0,	  1,	0,    7,  0,	0xff, 0xff, 0xff,
				  0xff, 2,    0,    4,	  0,	0xd2, 4,  0,	0,    4,    0,
				  5,	0,    0xff, 0xff, 0xff, 0xff, 16, 0,	5,    0,    0xff,
				  0xff, 0xff, 0xff, 32,	  0,	0,    0,  0xff, 0xff, 0xff, 0xff };

static void acls_are_the_hosts(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "acl", NULL);
	uint64_t node = make_file(f, "file");
	char got[64];

	expect_ok(fc_setxattr(&f->c, node, "system.posix_acl_access", an_acl, sizeof(an_acl), 0));
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 0750);
	expect_is(host_get(f, "file", "system.posix_acl_access", got, sizeof(got)), sizeof(an_acl));
	expect_is(fc_getxattr(&f->c, node, "system.posix_acl_access", got, sizeof(got)),
		  sizeof(an_acl));
	expect(memcmp(got, an_acl, sizeof(an_acl)) == 0, "another one");
	expect(listed(f, node, "system.posix_acl_access"), "not listed");
	expect_ok(fc_removexattr(&f->c, node, "system.posix_acl_access"));
	fs_claim_end(f);
}

static int set_acl_and_kill(struct fs_claim *f, uint64_t node, uint32_t setxattr_flags)
{
	struct fuse_setxattr_in in = { .size = sizeof(an_acl), .setxattr_flags = setxattr_flags };
	struct fc_op op = { .opcode = FUSE_SETXATTR,
			    .nodeid = node,
			    .part = { { &in, sizeof(in) },
				      { "system.posix_acl_access", 24 },
				      { an_acl, sizeof(an_acl) } },
			    .n_parts = 3 };

	return fc_run(&f->c, &op);
}

static void an_outsiders_acl_ends_sgid(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "acl-sgid", NULL);
	uint64_t node = make_file(f, "file");

	expect_ok(chown(fs_claim_path(f, "file"), 1234, 4242));
	expect_ok(chmod(fs_claim_path(f, "file"), 02755));
	f->c.uid = 1234;
	f->c.gid = 5678;
	expect_ok(set_acl_and_kill(f, node, 0));
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 02750);
	expect_ok(set_acl_and_kill(f, node, FUSE_SETXATTR_ACL_KILL_SGID));
	expect_is(fs_claim_stat(f, "file").st_mode, S_IFREG | 0750);
	fs_claim_end(f);
}

static void privileged_names_are_kept_under_the_prefix(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "mapped", NULL);
	uint64_t node = make_file(f, "file");
	char got[64];

	expect_ok(fc_setxattr(&f->c, node, "trusted.a", "1", 1, 0));
	expect_ok(fc_setxattr(&f->c, node, "security.capability", "22", 2, 0));
	expect_ok(fc_setxattr(&f->c, node, "user.a", "333", 3, 0));
	expect_is(host_get(f, "file", "trusted.a", got, sizeof(got)), -ENODATA);
	expect_is(host_get(f, "file", "user.guest.trusted.a", got, sizeof(got)), 1);
	expect_is(host_get(f, "file", "user.guest.security.capability", got, sizeof(got)), 2);
	expect_is(host_get(f, "file", "user.a", got, sizeof(got)), 3);
	expect_is(fc_getxattr(&f->c, node, "trusted.a", got, sizeof(got)), 1);
	expect(listed(f, node, "trusted.a") && listed(f, node, "security.capability") &&
		       listed(f, node, "user.a"),
	       "not listed");
	expect_is(fc_listxattr(&f->c, node, NULL, 0),
		  sizeof("trusted.a") + sizeof("security.capability") + sizeof("user.a"));
	expect_ok(fc_removexattr(&f->c, node, "trusted.a"));
	expect_is(host_get(f, "file", "user.guest.trusted.a", got, sizeof(got)), -ENODATA);
	fs_claim_end(f);
}

static void the_prefix_itself_is_not_there_for_the_guest(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "hidden", NULL);
	uint64_t node = make_file(f, "file");
	char got[64];

	expect_ok(host_set(f, "file", "user.guest.trusted.a", "1"));
	expect_ok(host_set(f, "file", "user.guest.other", "1"));
	expect_is(fc_getxattr(&f->c, node, "user.guest.trusted.a", got, sizeof(got)), -ENODATA);
	expect_is(fc_setxattr(&f->c, node, "user.guest.trusted.a", "2", 1, 0), -EPERM);
	expect_is(fc_removexattr(&f->c, node, "user.guest.trusted.a"), -EPERM);
	expect(!listed(f, node, "user.guest.trusted.a") && !listed(f, node, "user.guest.other") &&
		       !listed(f, node, "other"),
	       "listed");
	expect_is(host_get(f, "file", "user.guest.trusted.a", got, sizeof(got)), 1);
	fs_claim_end(f);
}

static void the_hosts_privileged_ones_are_not_there_either(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "hosts", NULL);
	uint64_t node = make_file(f, "file");
	char got[64];

	expect_ok(host_set(f, "file", "trusted.a", "host"));
	expect_is(fc_getxattr(&f->c, node, "trusted.a", got, sizeof(got)), -ENODATA);
	expect(!listed(f, node, "trusted.a"), "listed");
	expect_ok(fc_setxattr(&f->c, node, "trusted.a", "guest's", 7, XATTR_CREATE));
	expect_is(host_get(f, "file", "trusted.a", got, sizeof(got)), 4);
	expect_is(fc_getxattr(&f->c, node, "trusted.a", got, sizeof(got)), 7);
	fs_claim_end(f);
}

/* The kernel drops capabilities when a file is written to; those under the prefix it does not know. */
static void capabilities_under_the_prefix_end_with_any_change(struct claim_context *x)
{
	struct fuse_setattr_in chown = { .valid = FATTR_UID, .uid = 1234 };
	struct fuse_setattr_in truncate = { .valid = FATTR_SIZE };
	struct fs_claim *f = fs_claim_begin(x, "capability", NULL);
	uint64_t node = make_file(f, "file");
	struct fuse_open_out o;
	char got[64];

	expect_ok(fc_setxattr(&f->c, node, "security.capability", "22", 2, 0));
	expect_ok(fc_setxattr(&f->c, node, "trusted.a", "1", 1, 0));
	expect_ok(fc_open(&f->c, node, O_RDWR, &o));
	expect_is(fc_getxattr(&f->c, node, "security.capability", got, sizeof(got)), 2);
	expect_is(fc_write(&f->c, node, o.fh, 0, "x", 1), 1);
	expect_is(fc_getxattr(&f->c, node, "security.capability", got, sizeof(got)), -ENODATA);
	expect_ok(fc_setxattr(&f->c, node, "security.capability", "22", 2, 0));
	expect_ok(fc_setattr(&f->c, node, &chown, NULL));
	expect_is(fc_getxattr(&f->c, node, "security.capability", got, sizeof(got)), -ENODATA);
	expect_ok(fc_setxattr(&f->c, node, "security.capability", "22", 2, 0));
	expect_ok(fc_setattr(&f->c, node, &truncate, NULL));
	expect_is(fc_getxattr(&f->c, node, "security.capability", got, sizeof(got)), -ENODATA);
	expect_ok(fc_setxattr(&f->c, node, "security.capability", "22", 2, 0));
	expect_ok(fc_open(&f->c, node, O_RDWR | O_TRUNC, &o));
	expect_is(fc_getxattr(&f->c, node, "security.capability", got, sizeof(got)), -ENODATA);
	expect_ok(fc_setxattr(&f->c, node, "security.capability", "22", 2, 0));
	expect_ok(fc_open(&f->c, node, O_RDWR, &o));
	expect_is(fc_getxattr(&f->c, node, "security.capability", got, sizeof(got)), 2);
	expect_is(fc_getxattr(&f->c, node, "trusted.a", got, sizeof(got)), 1);
	fs_claim_end(f);
}

static void a_prefix_is_checked(struct claim_context *x)
{
	static const char *const bad[] = { "--xattr-map=", "--xattr-map=trusted.",
					   "--xattr-map=user.", "--xattr-map=user.guest" };
	char out[256];

	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		expect_is(backend_run(x->program,
				      (const char *const[]){ bad[i], "--shared-dir=/nonexistent",
							     "--tag=t",
							     "--socket-path=/nonexistent/s", NULL },
				      out, sizeof(out)),
			  2);
}

#define CLAIM(name, spec)                                                                          \
	{                                                                                          \
#name, name, spec                                                                  \
	}

static const struct claim claims[] = {
	CLAIM(attributes_are_set_got_listed_and_removed, &plain),
	CLAIM(flags_are_heeded, &plain),
	CLAIM(borders, &plain),
	CLAIM(a_value_that_is_cut_short_is_refused, &plain),
	CLAIM(the_short_form_is_understood, &plain),
	CLAIM(symlinks_and_fifos_have_attributes, &plain),
	CLAIM(unlinked_files_keep_theirs, &plain),
	CLAIM(acls_are_not_there_unless_asked_for, &plain),
	CLAIM(a_device_without_attributes_has_none, &none),
	CLAIM(acls_are_the_hosts, &acl),
	CLAIM(an_outsiders_acl_ends_sgid, &acl),
	CLAIM(privileged_names_are_kept_under_the_prefix, &mapped),
	CLAIM(the_prefix_itself_is_not_there_for_the_guest, &mapped),
	CLAIM(the_hosts_privileged_ones_are_not_there_either, &mapped),
	CLAIM(capabilities_under_the_prefix_end_with_any_change, &mapped),
	CLAIM(a_prefix_is_checked, NULL),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
