/*
 * Listening sockets; listener.h says how they come to be. A socket gets its owner in owner_set.
 *
 * Runs in: vmdevd.
 * Trusts:  the runtime directory, once checked; of others nothing.
 */
#include "daemon/listener.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

enum { BACKLOG = 64 };

static int fail_to(char **ret_error, int r, const char *what, const char *path)
{
	*ret_error = text_format("cannot %s %s: %s", what, path, error_text(r));
	return r;
}

int listener_directory(const char *path, char **ret_error)
{
	scope_fd int fd = -1;
	struct stat st;
	int r;

	r = mkdir(path, 0755);
	if (r < 0 && errno != EEXIST)
		return fail_to(ret_error, -errno, "make the directory", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail_to(ret_error, -errno, "open the directory", path);
	if (r == 0 && fchmod(fd, 0755) < 0) /* whatever the umask took away */
		return fail_to(ret_error, -errno, "set the mode of", path);
	if (st.st_uid != geteuid() || (r < 0 && st.st_mode & 0022)) {
		*ret_error =
			text_format("%s belongs to uid %u with mode %04o; it has to be vmdevd's "
				    "own and writable "
				    "by nobody else: chown %u %s; chmod 0755 %s",
				    path, st.st_uid, st.st_mode & 07777, geteuid(), path, path);
		return -EPERM;
	}
	return 0;
}

/* The name by which a descriptor's own file is reached, whatever has become of its other names. */
static void fd_path(int fd, char *ret_path, size_t size)
{
	(void)snprintf(ret_path, size, "/proc/self/fd/%d", fd);
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	assert(slash);
	return slash + 1;
}

static int open_directory(const char *path, int *ret_fd, char **ret_error)
{
	scope_free char *directory = strndup(path, (size_t)(last_part(path) - path));
	int fd;

	if (!directory)
		return -ENOMEM;
	fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail_to(ret_error, -errno, "open the directory", directory);
	*ret_fd = fd;
	return 0;
}

/* The file of a socket; -ENOTSOCK of anything else, a link among it. */
static int open_socket_file(int dir, const char *name, int *ret_fd)
{
	scope_fd int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	*ret_fd = take_fd(&fd);
	return 0;
}

/*
 * Does a process hold a socket that is bound to this file? Connecting with another type of socket
 * tells, without being seen by the one who listens (ECONNREFUSED: nobody holds it; unix(7)).
 */
static bool is_held(int file)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	scope_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	fd_path(file, address.sun_path, sizeof(address.sun_path));
	return fd >= 0 && (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 ||
			   errno == EPROTOTYPE);
}

static int refuse_place(const char *path, char **ret_error)
{
	*ret_error = text_format("%s is there and is no socket; move it away", path);
	return -EEXIST;
}

/* May the name be taken? Absent is good, and so is a socket that nobody holds. */
static int place_check(int dir, const char *name, const char *path, char **ret_error)
{
	scope_fd int file = -1;
	int r = open_socket_file(dir, name, &file);

	if (r == -ENOENT)
		return 0;
	if (r == -ENOTSOCK)
		return refuse_place(path, ret_error);
	if (r < 0)
		return fail_to(ret_error, r, "look at", path);
	if (is_held(file)) {
		*ret_error = text_format("%s is in use by another process; `ss -xlp src %s` names "
					 "it: stop it first",
					 path, path);
		return -EADDRINUSE;
	}
	return 0;
}

static int owner_set(int file, const char *path, const struct socket_config *owner,
		     char **ret_error)
{
	struct stat st;
	char self[32];

	fd_path(file, self, sizeof(self)); /* fchmod takes no O_PATH */
	if (fstat(file, &st) < 0)
		return fail_to(ret_error, -errno, "look at", path);
	/*
	 * In between it is nobody's but the new owner's: what the old mode gave was meant for the
	 * old group.
	 */
	if ((st.st_uid != owner->uid || st.st_gid != owner->gid) &&
	    (chmod(self, 0600) < 0 ||
	     fchownat(file, "", owner->uid, owner->gid, AT_EMPTY_PATH) < 0))
		return fail_to(ret_error, -errno, "set the owner of", path);
	if (chmod(self, owner->mode) < 0)
		return fail_to(ret_error, -errno, "set the mode of", path);
	return 0;
}

/*
 * The name under which a socket is made: ".DEVICE", in the same directory. It is cut, for sun_path
 * has to hold it after /proc/self/fd/N; two names that are cut to the same do no harm, as they are
 * had one after the other.
 */
static void hidden_name(const char *name, char *ret_hidden, size_t size)
{
	size_t len;

	(void)snprintf(ret_hidden, size, ".%s", name);
	len = strlen(ret_hidden);
	if (len > 5 && strcmp(ret_hidden + len - 5, ".sock") == 0)
		ret_hidden[len - 5] = '\0';
}

static int bind_hidden(int fd, int dir, const char *hidden)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	mode_t mask;
	int r;

	r = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir,
		     hidden);
	if (r < 0 || (size_t)r >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	mask = umask(0177); /* for this one call; vmdevd has one thread */
	r = errno_or(bind(fd, (const struct sockaddr *)&address, sizeof(address)));
	(void)umask(mask);
	return r;
}

/*
 * Of the new socket nobody but us has the name, but whoever may write to the directory can have put
 * another one there: a second name of somebody's, to be given away with what we own.
 */
static int open_new_socket(int dir, const char *name, int *ret_file)
{
	scope_fd int file = -1;
	struct stat st;
	int r = open_socket_file(dir, name, &file);

	if (r < 0)
		return r;
	if (fstat(file, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 07777) != 0600 || st.st_nlink != 1)
		return -ESTALE;
	*ret_file = take_fd(&file);
	return 0;
}

/* l->dir is open; the rest is filled in. */
static int listen_at(struct listener *l, const char *path, const struct socket_config *owner,
		     int type, int backlog, char **ret_error)
{
	const char *name = last_part(path);
	char hidden[80];
	int r;

	hidden_name(name, hidden, sizeof(hidden));
	r = place_check(l->dir, name, path, ret_error);
	if (r == 0) /* left by a vmdevd that was killed just then */
		r = place_check(l->dir, hidden, hidden, ret_error);
	if (r < 0)
		return r;
	l->fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return fail_to(ret_error, -errno, "make a socket for", path);
	if (unlinkat(l->dir, hidden, 0) < 0 && errno != ENOENT)
		return fail_to(ret_error, -errno, "remove", hidden);
	r = bind_hidden(l->fd, l->dir, hidden);
	if (r < 0)
		return fail_to(ret_error, r, "make the socket", path);
	r = open_new_socket(l->dir, hidden, &l->file);
	if (r < 0)
		return fail_to(ret_error, r, "find the new socket", path);
	r = owner_set(l->file, path, owner, ret_error);
	if (r == 0 && listen(l->fd, backlog) < 0)
		r = fail_to(ret_error, -errno, "listen on", path);
	if (r == 0 && renameat(l->dir, hidden, l->dir, name) < 0)
		r = fail_to(ret_error, -errno, "make the socket", path);
	if (r < 0)
		(void)unlinkat(l->dir, hidden, 0);
	return r;
}

static void listener_done(struct listener *l)
{
	fd_close(l->fd);
	fd_close(l->dir);
	fd_close(l->file);
	*l = LISTENER_NONE;
}

static int path_check(const char *path, char **ret_error)
{
	if (strlen(path) < sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return 0;
	/* nobody could connect */
	return fail_to(ret_error, -ENAMETOOLONG, "make the socket", path);
}

int listener_check(const char *path, char **ret_error)
{
	scope_fd int dir = -1, file = -1;
	int r = path_check(path, ret_error);

	if (r == 0)
		r = open_directory(path, &dir, ret_error);
	if (r == 0 && open_socket_file(dir, last_part(path), &file) == -ENOTSOCK)
		r = refuse_place(path, ret_error);
	return r;
}

int listener_open_as(const char *path, const struct socket_config *owner, int type, int backlog,
		     struct listener *ret, char **ret_error)
{
	struct listener l = LISTENER_NONE;
	int r = path_check(path, ret_error);

	if (r == 0)
		r = open_directory(path, &l.dir, ret_error);
	if (r == 0)
		r = listen_at(&l, path, owner, type, backlog, ret_error);
	if (r < 0) {
		listener_done(&l);
		return r;
	}
	*ret = l;
	return 0;
}

int listener_own(const struct listener *l, const char *path, const struct socket_config *owner,
		 char **ret_error)
{
	return owner_set(l->file, path, owner, ret_error);
}

void listener_close(struct listener *l, const char *path)
{
	struct stat ours, there;

	if (l->fd < 0)
		return;
	if (fstat(l->file, &ours) == 0 &&
	    fstatat(l->dir, last_part(path), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
		(void)unlinkat(l->dir, last_part(path), 0);
	listener_done(l);
}

int listener_open(const char *path, const struct socket_config *owner, int *ret_fd,
		  char **ret_error)
{
	struct listener l;
	int r = listener_open_as(path, owner, SOCK_STREAM, BACKLOG, &l, ret_error);

	if (r < 0)
		return r;
	*ret_fd = take_fd(&l.fd);
	listener_done(&l);
	return 0;
}

static int find(const char *path, int *ret_file, char **ret_error)
{
	scope_fd int dir = -1;
	int r = open_directory(path, &dir, ret_error);

	if (r < 0)
		return r;
	r = open_socket_file(dir, last_part(path), ret_file);
	if (r == -ENOENT || r == -ENOTSOCK)
		*ret_error = text_format("its socket %s is not there any more; stop and start the "
					 "device to have it made anew",
					 path);
	else if (r < 0)
		return fail_to(ret_error, r, "open", path);
	return r;
}

int listener_find(const char *path, char **ret_error)
{
	scope_fd int file = -1;

	return find(path, &file, ret_error);
}

int listener_set_owner(const char *path, const struct socket_config *owner, char **ret_error)
{
	scope_fd int file = -1;
	int r = find(path, &file, ret_error);

	return r < 0 ? r : owner_set(file, path, owner, ret_error);
}
