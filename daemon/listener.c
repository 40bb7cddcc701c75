/*
 * Listening sockets; listener.h says how they come to be. A socket gets its owner in owner_set.
 *
 * Runs in: vmdevd.
 * Trusts:  the runtime directory, once checked.
 */
#include "daemon/listener.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

enum { BACKLOG = 64 };

static int fail(char **ret_error, int r, const char *what, const char *path)
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
		return fail(ret_error, -errno, "make the directory", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(ret_error, -errno, "open the directory", path);
	if (r == 0 && fchmod(fd, 0755) < 0) /* whatever the umask took away */
		return fail(ret_error, -errno, "set the mode of", path);
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

/*
 * Does a process hold a socket that is bound to this path? Connecting with another type of socket
 * tells, without being seen by the one who listens (ECONNREFUSED: nobody holds it; unix(7)).
 */
static bool is_held(const struct sockaddr_un *address)
{
	scope_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
			   errno == EPROTOTYPE);
}

/* May the name be taken? Absent is good, and so is a socket that nobody holds. */
static int place_check(const struct sockaddr_un *address, char **ret_error)
{
	const char *path = address->sun_path;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : fail(ret_error, -errno, "look at", path);
	if (!S_ISSOCK(st.st_mode)) {
		*ret_error = text_format("%s is there and is no socket; move it away", path);
		return -EEXIST;
	}
	if (is_held(address)) {
		*ret_error = text_format("%s is in use by another process; `ss -xlp src %s` names "
					 "it: stop it first",
					 path, path);
		return -EADDRINUSE;
	}
	return 0;
}

static int owner_set(const char *path, const struct socket_config *owner, char **ret_error)
{
	/* Owner first: until then the mode, 0600, lets only the daemon through. */
	if (chown(path, owner->uid, owner->gid) < 0)
		return fail(ret_error, -errno, "set the owner of", path);
	if (chmod(path, owner->mode) < 0)
		return fail(ret_error, -errno, "set the mode of", path);
	return 0;
}

/* The name under which a socket is made: ".DEVICE", in the same directory and never longer. */
static void hidden_name(const char *path, char *ret_hidden, size_t size)
{
	const char *slash = strrchr(path, '/');
	size_t len;

	assert(slash);
	(void)snprintf(ret_hidden, size, "%.*s/.%s", (int)(slash - path), path, slash + 1);
	len = strlen(ret_hidden);
	if (len > 5 && strcmp(ret_hidden + len - 5, ".sock") == 0)
		ret_hidden[len - 5] = '\0';
}

static int bind_hidden(int fd, const struct sockaddr_un *hidden)
{
	mode_t mask;
	int r;

	if (unlink(hidden->sun_path) < 0 && errno != ENOENT)
		return -errno;
	mask = umask(0177); /* for this one call; vmdevd has one thread */
	r = errno_or(bind(fd, (const struct sockaddr *)hidden, sizeof(*hidden)));
	(void)umask(mask);
	return r;
}

int listener_open(const char *path, const struct socket_config *owner, int *ret_fd,
		  char **ret_error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX }, hidden = { .sun_family = AF_UNIX };
	scope_fd int fd = -1;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return fail(ret_error, -ENAMETOOLONG, "make the socket", path);
	memcpy(address.sun_path, path, strlen(path));
	hidden_name(path, hidden.sun_path, sizeof(hidden.sun_path));
	r = place_check(&address, ret_error);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(ret_error, -errno, "make a socket for", path);
	r = bind_hidden(fd, &hidden);
	if (r < 0)
		return fail(ret_error, r, "make the socket", hidden.sun_path);
	r = owner_set(hidden.sun_path, owner, ret_error);
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = fail(ret_error, -errno, "listen on", path);
	if (r == 0 && rename(hidden.sun_path, path) < 0)
		r = fail(ret_error, -errno, "make the socket", path);
	if (r < 0) {
		(void)unlink(hidden.sun_path);
		return r;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int listener_set_owner(const char *path, const struct socket_config *owner, char **ret_error)
{
	return owner_set(path, owner, ret_error);
}
