/* A shared directory. See tree.h. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/mounts.h"
#include "daemon/sandbox/fail.h"
#include "daemon/sandbox/namespaces.h"
#include "daemon/sandbox/plan.h"
#include "daemon/tree.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

static int open_directory(const struct tree *tree, int *ret_fd, char **ret_error)
{
	scope_fd int fd = open(tree->path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOTDIR)
		return fail(ret_error, -ENOTDIR, "%s is not a directory; \"path\" must be one",
			    tree->path);
	if (fd < 0)
		return fail(ret_error, -errno, "directory %s cannot be opened: %s", tree->path,
			    error_text(errno));
	*ret_fd = take_fd(&fd);
	return 0;
}

/* A guest that is root may write wherever the directory leads. */
static int refuse_switches(const struct tree *tree, int directory, char **ret_error)
{
	struct mounts_found found = { 0 };
	int r = tree->readonly ? 0 : mounts_check_directory(directory, &found);

	if (r > 0)
		r = fail(ret_error, -EPERM,
			 "directory %s: %s is the host's %s, by which a guest could change the "
			 "host; expected \"readonly\": true with it, or a directory without",
			 tree->path, found.path, found.type);
	else if (r < 0)
		r = fail(ret_error, r, "what is mounted below directory %s cannot be found out: %s",
			 tree->path, error_text(r));
	mounts_found_done(&found);
	return r;
}

/* The user namespace whose map is that of the mount: inside is what is on disk. */
static int make_map(const struct tree *tree, uint32_t uid_index, int *ret_fd)
{
	uint32_t base = tree->own_ids ? plan_range_start(uid_index) : 0;
	struct namespaces_map maps[TREE_MAX_RANGES];

	for (uint32_t i = 0; i < tree->n_ranges; i++)
		maps[i] = (struct namespaces_map){
			.inside = (uint32_t)tree->ranges[i].host,
			.outside = base + (uint32_t)tree->ranges[i].guest,
			.count = (uint32_t)tree->ranges[i].count,
		};
	return namespaces_make_user(maps, tree->n_ranges, ret_fd);
}

static int set_attributes(const struct tree *tree, int fd, uint32_t uid_index)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
		.propagation = MS_PRIVATE,
	};
	scope_fd int map = -1;
	int r;

	if (tree->readonly)
		attr.attr_set |= MOUNT_ATTR_RDONLY;
	if (tree->n_ranges > 0) {
		r = make_map(tree, uid_index, &map);
		if (r < 0)
			return r;
		attr.attr_set |= MOUNT_ATTR_IDMAP;
		attr.userns_fd = (uint64_t)map;
	}
	return errno_or((int)syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr,
				     sizeof(attr)));
}

static int make_mount(const struct tree *tree, uint32_t uid_index, int *ret_fd, char **ret_error)
{
	scope_fd int directory = -1;
	scope_fd int fd = -1;
	int r = open_directory(tree, &directory, ret_error);

	if (r >= 0)
		r = refuse_switches(tree, directory, ret_error);
	if (r < 0)
		return r;
	fd = open_tree(directory, "",
		       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
	if (fd < 0)
		return fail(ret_error, -errno, "directory %s cannot be made a mount of its own: %s",
			    tree->path, error_text(errno));
	r = set_attributes(tree, fd, uid_index);
	if (r == -EINVAL && tree->n_ranges > 0)
		return fail(ret_error, r,
			    "directory %s: its file system, or one mounted below it, does not "
			    "support mapped ids; leave out \"id-map\"",
			    tree->path);
	if (r < 0)
		return fail(ret_error, r, "the mount of %s cannot be given its attributes: %s",
			    tree->path, error_text(r));
	*ret_fd = take_fd(&fd);
	return 0;
}

int tree_check(const void *what, char **ret_error)
{
	scope_fd int fd = -1;

	return make_mount(what, 0, &fd, ret_error);
}

int tree_open(const void *what, uint32_t uid_index, int *ret_fds, char **ret_error)
{
	return make_mount(what, uid_index, &ret_fds[0], ret_error);
}
