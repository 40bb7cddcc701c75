/* What is mounted below a directory. See mounts.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/mounts.h"
#include "devices/base/scope.h"

/* devtmpfs: the mount is nodev, but modes and owners there are those of the host's devices. */
static const char *const switches[] = {
	"proc",	    "sysfs",	  "cgroup",   "cgroup2",     "debugfs", "tracefs",
	"bpf",	    "securityfs", "configfs", "efivarfs",    "pstore",	"fusectl",
	"smackfs",  "selinuxfs",  "mqueue",   "binfmt_misc", "nfsd",	"resctrl",
	"devtmpfs", "rpc_pipefs", "devpts",   "xenfs",
};

struct row {
	uint64_t id;
	char *point;
	const char *type;
};

/* proc(5): space, tab, newline and backslash stand there as \040 and so on. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		if (from[0] == '\\' && from[1] && from[2] && from[3]) {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* "id parent device root point options [tag...] - type source options" */
static bool parse_row(char *line, struct row *ret)
{
	char *save = NULL;
	char *field = strtok_r(line, " \n", &save);
	unsigned n = 0;

	*ret = (struct row){ 0 };
	for (; field && strcmp(field, "-") != 0; field = strtok_r(NULL, " \n", &save), n++) {
		if (n == 0)
			ret->id = strtoull(field, NULL, 10);
		else if (n == 4)
			ret->point = field;
	}
	ret->type = strtok_r(NULL, " \n", &save);
	if (!ret->point || !ret->type)
		return false;
	unescape(ret->point);
	return true;
}

static bool is_below(const char *path, const char *directory)
{
	size_t len = strlen(directory);

	if (strcmp(directory, "/") == 0)
		return true;
	return strncmp(path, directory, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static bool has_switches(const char *type)
{
	for (size_t i = 0; i < sizeof(switches) / sizeof(*switches); i++)
		if (strcmp(switches[i], type) == 0)
			return true;
	return false;
}

static int keep(const struct row *row, struct mounts_found *ret)
{
	ret->path = strdup(row->point);
	ret->type = strdup(row->type);
	if (ret->path && ret->type)
		return 1;
	mounts_found_done(ret);
	return -ENOMEM;
}

int mounts_find_switches(FILE *table, const char *directory, uint64_t mount,
			 struct mounts_found *ret)
{
	scope_free char *line = NULL;
	size_t size = 0;
	struct row row;

	errno = 0;
	while (getline(&line, &size, table) > 0) {
		if (!parse_row(line, &row))
			return -EBADMSG;
		if (has_switches(row.type) && (row.id == mount || is_below(row.point, directory)))
			return keep(&row, ret);
	}
	return ferror(table) ? -errno : 0;
}

int mounts_check_directory(int fd, struct mounts_found *ret)
{
	char link[64], path[PATH_MAX];
	struct statx st;
	FILE *table;
	ssize_t n;
	int r;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0)
		return -errno;
	path[n] = '\0';
	table = fopen("/proc/self/mountinfo", "re");
	if (!table)
		return -errno;
	r = mounts_find_switches(table, path, st.stx_mnt_id, ret);
	fclose(table);
	return r;
}

void mounts_found_done(struct mounts_found *found)
{
	free(found->path);
	free(found->type);
	*found = (struct mounts_found){ 0 };
}
