/* The device's own cgroup. See cgroup.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "daemon/sandbox/cgroup.h"
#include "daemon/sandbox/fail.h"
#include "daemon/sandbox/host.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/parse.h"
#include "devices/base/scope.h"

enum {
	CPU_PERIOD_USEC = 100000,
	MAX_NAMESAKES = 64,
};

#define SUPERVISOR "supervisor"

/* Limits */

/* "150%" or "12.5%", in hundredths of a per cent. */
static int parse_percent(const char *text, uint64_t max, uint64_t *ret)
{
	char digits[24];
	size_t len = strlen(text);
	char *point;
	uint64_t whole, part = 0;
	int r;

	if (len < 2 || len >= sizeof(digits) || text[len - 1] != '%')
		return -EINVAL;
	memcpy(digits, text, len - 1);
	digits[len - 1] = '\0';
	point = strchr(digits, '.');
	if (point) {
		*point++ = '\0';
		if (strlen(point) < 1 || strlen(point) > 2)
			return -EINVAL;
		r = parse_u64(point, 0, 99, &part);
		if (r < 0)
			return r;
		if (strlen(point) == 1)
			part *= 10;
	}
	r = parse_u64(digits, 0, max, &whole);
	if (r < 0)
		return r;
	*ret = whole * 100 + part;
	return *ret > 0 ? 0 : -ERANGE;
}

int cgroup_format_cpu(const char *text, char *value, size_t size)
{
	uint64_t percent;
	uint64_t quota;
	int r = parse_percent(text, 1000000, &percent);

	if (r < 0)
		return r;
	quota = percent * CPU_PERIOD_USEC / 10000;
	if (quota < 1000) /* the least that the kernel takes */
		quota = 1000;
	snprintf(value, size, "%" PRIu64 " %d", quota, CPU_PERIOD_USEC);
	return 0;
}

int cgroup_format_memory(const char *text, char *value, size_t size)
{
	struct sysinfo info;
	uint64_t amount;
	int r;

	if (strcmp(text, "infinity") == 0) {
		snprintf(value, size, "max");
		return 0;
	}
	if (strchr(text, '%')) {
		r = parse_percent(text, 100, &amount);
		if (r < 0)
			return r;
		if (sysinfo(&info) < 0)
			return -errno;
		amount = (uint64_t)info.totalram * info.mem_unit / 10000 * amount;
	} else {
		r = parse_size(text, &amount);
		if (r < 0)
			return r;
	}
	snprintf(value, size, "%" PRIu64, amount);
	return amount > 0 ? 0 : -ERANGE;
}

int cgroup_format_pids(const char *text, char *value, size_t size)
{
	uint64_t n;
	int r;

	if (strcmp(text, "infinity") == 0) {
		snprintf(value, size, "max");
		return 0;
	}
	r = parse_u64(text, 1, UINT32_MAX, &n);
	if (r < 0)
		return r;
	snprintf(value, size, "%" PRIu64, n);
	return 0;
}

struct limit {
	const char *key; /* in the document */
	const char *controller;
	const char *file;
	const char *form;
	int (*format)(const char *text, char *value, size_t size);
};

static const struct limit limit_kinds[] = {
	{ "cpu", "cpu", "cpu.max", "a percentage of one CPU, \"150%\"", cgroup_format_cpu },
	{ "memory", "memory", "memory.max", "a size, \"512M\", a percentage or \"infinity\"",
	  cgroup_format_memory },
	{ "pids", "pids", "pids.max", "a number or \"infinity\"", cgroup_format_pids },
};

enum { N_LIMITS = sizeof(limit_kinds) / sizeof(*limit_kinds) };

static const char *limit_text(const struct launch_limits *limits, size_t i)
{
	if (!limits)
		return NULL;
	switch (i) {
	case 0:
		return limits->cpu;
	case 1:
		return limits->memory;
	default:
		return limits->pids;
	}
}

static bool any_limit(const struct launch_limits *limits)
{
	for (size_t i = 0; i < N_LIMITS; i++)
		if (limit_text(limits, i))
			return true;
	return false;
}

/* Files of the hierarchy */

static int read_text(const char *path, char *text, size_t size)
{
	scope_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while (len < size - 1 && (n = read(fd, text + len, size - 1 - len)) != 0) {
		if (n < 0)
			return -errno;
		len += (size_t)n;
	}
	text[len] = '\0';
	return 0;
}

static int write_text_at(int dir, const char *name, const char *text)
{
	scope_fd int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	return n < 0 ? -errno : 0;
}

/* vmdevd's own cgroup: the line of /proc/self/cgroup for hierarchy 0. */
static int find_own(char **ret)
{
	char text[8192];
	char *line;
	int r = read_text("/proc/self/cgroup", text, sizeof(text));

	if (r < 0)
		return r;
	for (line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		if (strncmp(line, "0::", 3) != 0)
			continue;
		*ret = strndup(line + 3, strcspn(line + 3, "\n"));
		return *ret ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

/* The directory below which vmdevd keeps its devices' cgroups. -ENOENT: no cgroup v2. */
static int find_base(char **ret)
{
	scope_free char *point = NULL;
	scope_free char *root = NULL;
	scope_free char *own = NULL;
	const char *below;
	size_t len;
	int r = host_find_cgroups(&point, &root);

	if (r >= 0)
		r = find_own(&own);
	if (r < 0)
		return r;
	len = strcmp(root, "/") == 0 ? 0 : strlen(root);
	if (strncmp(own, root, len) != 0 || (own[len] != '/' && own[len] != '\0'))
		return -ENOENT;
	below = own + len;
	if (strcmp(below, "/") == 0)
		below = "";
	len = strlen(below);
	if (len > strlen(SUPERVISOR) &&
	    strcmp(below + len - strlen("/" SUPERVISOR), "/" SUPERVISOR) == 0)
		len -= strlen("/" SUPERVISOR);
	return asprintf(ret, "%s%.*s", point, (int)len, below) < 0 ? -ENOMEM : 0;
}

/* Controllers */

static int fail_controller(const struct limit *limit, const char *dir, char **ret_error)
{
	return fail(
		ret_error, -EOPNOTSUPP,
		"limit \"%s\" cannot be kept: the cgroup controller \"%s\" is not available in %s "
		"(mount cgroup v2 with it, or give vmdevd's unit Delegate=yes)",
		limit->key, limit->controller, dir);
}

int cgroup_check(const struct launch_limits *limits, char **ret_error)
{
	scope_free char *base = NULL;
	char path[4096], available[1024] = "", value[64];
	int r;

	for (size_t i = 0; i < N_LIMITS; i++) {
		const char *text = limit_text(limits, i);

		if (text && limit_kinds[i].format(text, value, sizeof(value)) < 0)
			return fail(ret_error, -EINVAL, "limit \"%s\": \"%s\" is not %s",
				    limit_kinds[i].key, text, limit_kinds[i].form);
	}
	if (!any_limit(limits))
		return 0;
	r = find_base(&base);
	if (r == -ENOENT)
		return fail(ret_error, -EOPNOTSUPP, "limits need cgroup v2, which is not mounted");
	if (r < 0)
		return fail(ret_error, r, "vmdevd's cgroup cannot be found: %s", error_text(r));
	snprintf(path, sizeof(path), "%s/cgroup.controllers", base);
	r = read_text(path, available, sizeof(available));
	if (r < 0)
		return fail(ret_error, r, "%s: %s", path, error_text(r));
	for (size_t i = 0; i < N_LIMITS; i++)
		if (limit_text(limits, i) && !text_has_word(available, limit_kinds[i].controller))
			return fail_controller(&limit_kinds[i], base, ret_error);
	return 0;
}

/* vmdevd leaves the base for a cgroup beside its devices', so that the base may hand down
 * controllers. */
static int leave_base(int base)
{
	scope_fd int fd = -1;
	char pid[24];

	if (mkdirat(base, SUPERVISOR, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(base, SUPERVISOR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	return write_text_at(fd, "cgroup.procs", pid);
}

static int hand_down(int dir, const char *controller)
{
	char text[32];

	snprintf(text, sizeof(text), "+%s", controller);
	return write_text_at(dir, "cgroup.subtree_control", text);
}

static int enable_controller(int base, int parent, const struct limit *limit, const char *base_path,
			     char **ret_error)
{
	int r = hand_down(base, limit->controller);

	if (r == -EBUSY) {
		r = leave_base(base);
		if (r >= 0)
			r = hand_down(base, limit->controller);
	}
	if (r >= 0)
		r = hand_down(parent, limit->controller);
	if (r == -ENOENT || r == -EINVAL)
		return fail_controller(limit, base_path, ret_error);
	if (r == -EBUSY)
		return fail(
			ret_error, r,
			"limit \"%s\" cannot be kept: %s holds other processes than vmdevd, and so "
			"cannot hand down controllers (start vmdevd in a cgroup of its own)",
			limit->key, base_path);
	if (r < 0)
		return fail(ret_error, r, "cgroup controller \"%s\" cannot be enabled in %s: %s",
			    limit->controller, base_path, error_text(r));
	return 0;
}

static int set_limits(int base, int parent, int fd, const struct launch_limits *limits,
		      const char *base_path, char **ret_error)
{
	for (size_t i = 0; i < N_LIMITS; i++) {
		const struct limit *limit = &limit_kinds[i];
		const char *text = limit_text(limits, i);
		char value[64];
		int r;

		if (!text)
			continue;
		r = limit->format(text, value, sizeof(value));
		if (r < 0)
			return fail(ret_error, r, "limit \"%s\": \"%s\" is not %s", limit->key,
				    text, limit->form);
		r = enable_controller(base, parent, limit, base_path, ret_error);
		if (r < 0)
			return r;
		r = write_text_at(fd, limit->file, value);
		if (r < 0)
			return fail(ret_error, r, "limit \"%s\": %s does not take \"%s\": %s",
				    limit->key, limit->file, value, error_text(r));
	}
	return 0;
}

/* The cgroup itself */

/*
 * Makes the directory, in place of one that is empty by now. One that is in use belongs to a vmdevd
 * with another runtime directory, or to a device that outlived its vmdevd: then the name gets a
 * number.
 */
static int make_fresh(int parent, const char *wanted, char *name, size_t size)
{
	snprintf(name, size, "%s", wanted);
	for (int i = 1; i <= MAX_NAMESAKES; i++) {
		if (mkdirat(parent, name, 0755) == 0)
			return 0;
		if (errno == EEXIST && unlinkat(parent, name, AT_REMOVEDIR) == 0 &&
		    mkdirat(parent, name, 0755) == 0)
			return 0;
		if (errno != EBUSY && errno != EEXIST && errno != ENOENT)
			return -errno;
		snprintf(name, size, "%s.%d", wanted, i);
	}
	return -EBUSY;
}

static int open_dir(int at, const char *name)
{
	return errno_or(openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int open_parent(int base)
{
	if (mkdirat(base, "vmdev", 0755) < 0 && errno != EEXIST)
		return -errno;
	return open_dir(base, "vmdev");
}

int cgroup_create(const char *wanted, const struct launch_limits *limits, int *ret_fd,
		  char **ret_error)
{
	char name[NAME_MAX + 1];
	scope_free char *path = NULL;
	scope_fd int base = -1;
	scope_fd int parent = -1;
	scope_fd int fd = -1;
	int r = cgroup_check(limits, ret_error);

	if (r < 0)
		return r;
	r = find_base(&path);
	if (r == -ENOENT) {
		*ret_fd = -1; /* cgroup_check has seen that there are no limits */
		return 0;
	}
	if (r < 0)
		return fail(ret_error, r, "vmdevd's cgroup cannot be found: %s", error_text(r));
	base = open_dir(AT_FDCWD, path);
	parent = base < 0 ? base : open_parent(base);
	if (parent < 0)
		return fail(ret_error, parent, "cgroup %s/vmdev cannot be made: %s", path,
			    error_text(parent));
	r = make_fresh(parent, wanted, name, sizeof(name));
	fd = r < 0 ? r : open_dir(parent, name);
	if (fd < 0)
		return fail(ret_error, fd, "cgroup %s/vmdev/%s cannot be made: %s", path, name,
			    error_text(fd));
	r = set_limits(base, parent, fd, limits, path, ret_error);
	if (r < 0) {
		unlinkat(parent, name, AT_REMOVEDIR);
		return r;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int cgroup_kill(int fd)
{
	return write_text_at(fd, "cgroup.kill", "1");
}

int cgroup_remove(int fd)
{
	char link[64], path[4096];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return -errno;
	path[len] = '\0';
	if (rmdir(path) < 0)
		return -errno;
	/* The last device takes the common parent along; otherwise this fails, as it should. */
	path[strrchr(path, '/') - path] = '\0';
	rmdir(path);
	return 0;
}
