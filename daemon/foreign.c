/* Launching a program of the host's. See foreign.h. */
#include "daemon/foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "daemon/lend.h"
#include "daemon/sandbox/apply.h"
#include "daemon/sandbox/cgroup.h"
#include "daemon/sandbox/descriptors.h"
#include "daemon/sandbox/fail.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

int foreign_check(const char *path, const char *package, char **ret_error)
{
	if (access(path, X_OK) == 0)
		return 0;
	return fail(ret_error, -errno, "%s: %s (apt-get install %s)", path, error_text(errno),
		    package);
}

/* Raised, so that it is in no other's way. fd is closed. */
static int give(struct apply_input *input, int role, int fd)
{
	input->fds[role] = descriptors_raise(fd);
	fd_close(fd);
	return input->fds[role] < 0 ? input->fds[role] : 0;
}

static int prepare(struct apply_input *input, const struct foreign_spec *spec, int *ret_log,
		   char **ret_error)
{
	int ends[2];
	scope_fd int null = -1;
	int r = lend_file("/dev/null", O_RDWR, &null);

	if (r >= 0)
		r = give(input, PLAN_FD_INPUT, dup(null));
	if (r >= 0)
		r = give(input, PLAN_FD_OUTPUT, dup(null));
	if (r >= 0)
		r = give(input, PLAN_FD_RESOURCE, dup(spec->fd));
	if (r >= 0 && pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		r = -errno;
	if (r < 0)
		return r;
	*ret_log = ends[0];
	r = give(input, PLAN_FD_LOG, ends[1]);
	return r < 0 ? r : cgroup_create(spec->cgroup_name, NULL, &input->cgroup_fd, ret_error);
}

static void input_done(struct apply_input *input)
{
	for (int role = 0; role < _PLAN_FD_N; role++)
		fd_close(input->fds[role]);
	fd_close(input->cgroup_fd);
}

int foreign_launch(const struct foreign_spec *spec, struct launched *ret, char **ret_error)
{
	static const struct plan_resource resource = { "socket", FOREIGN_FD, "what it is for" };
	struct apply_input input = { .path = spec->path, .argv = spec->argv, .cgroup_fd = -1 };
	struct launched launched = { .pidfd = -1, .control_fd = -1, .log_fd = -1 };
	struct plan plan;
	int r;

	*ret_error = NULL;
	for (int role = 0; role < _PLAN_FD_N; role++)
		input.fds[role] = -1;
	r = plan_make_foreign(spec->uid_index, &resource, &plan, ret_error);
	if (r >= 0)
		r = prepare(&input, spec, &launched.log_fd, ret_error);
	if (r >= 0)
		r = apply_start(&plan, &input, &launched.keeper_pid, &launched.pidfd, ret_error);
	if (r >= 0) {
		launched.cgroup_fd = take_fd(&input.cgroup_fd);
		*ret = launched;
	} else {
		if (input.cgroup_fd >= 0)
			cgroup_remove(input.cgroup_fd);
		fd_close(launched.log_fd);
		if (!*ret_error)
			fail(ret_error, r, "%s cannot be launched: %s", spec->name, error_text(r));
	}
	input_done(&input);
	return r < 0 ? r : 0;
}
