/* The table of CIDs. See cids.h. */
#include "daemon/cids.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"

enum {
	MAX_FILE_LEN =
		16 << 20, /* CIDS_MAX of the longest names are 0.6 MiB; in use there may be more */
	SEARCHED = 1 << 20,
};

struct cids {
	char *path;
	json_object *table; /* in the order in which names have come */
	bool dirty;
};

static int read_table(const char *path, json_object **ret)
{
	scope_free char *text = NULL;
	size_t len;
	int r = text_read(path, O_NOFOLLOW, MAX_FILE_LEN, &text, &len);
	json_object *table;

	if (r == -ENOENT) {
		*ret = json_object_new_object();
		return *ret ? 0 : -ENOMEM;
	}
	if (r < 0)
		return r;
	table = json_tokener_parse(text);
	if (!json_object_is_type(table, json_type_object)) {
		json_object_put(table);
		return -EBADMSG;
	}
	*ret = table;
	return 0;
}

int cids_load(const char *runtime_dir, struct cids **ret, char **ret_error)
{
	struct cids *cids = calloc(1, sizeof(*cids));
	int r = -ENOMEM;

	if (cids)
		cids->path = text_format("%s/cids", runtime_dir);
	if (cids && cids->path)
		r = read_table(cids->path, &cids->table);
	if (r < 0) {
		*ret_error = text_format("the table of CIDs, %s/cids, cannot be read: %s; vmdevd "
					 "would give running guests other addresses: mend it, or "
					 "remove it if no guest runs",
					 runtime_dir, error_text(r));
		cids_free(cids);
		return r;
	}
	*ret = cids;
	return 0;
}

struct cids *cids_free(struct cids *cids)
{
	if (!cids)
		return NULL;
	json_object_put(cids->table);
	free(cids->path);
	free(cids);
	return NULL;
}

static bool given(const struct cids *cids, uint64_t cid)
{
	json_object_object_foreach (cids->table, name, value) {
		(void)name;
		if (json_object_is_type(value, json_type_int) &&
		    json_object_get_int64(value) == (int64_t)cid)
			return true;
	}
	return false;
}

static uint64_t had(const struct cids *cids, const char *name)
{
	json_object *value;
	int64_t cid = 0;

	if (json_object_object_get_ex(cids->table, name, &value) &&
	    json_object_is_type(value, json_type_int))
		cid = json_object_get_int64(value);
	return cid >= CIDS_FIRST && cid < UINT32_MAX ? (uint64_t)cid : 0;
}

uint64_t cids_find(const struct cids *cids, const char *name,
		   bool (*taken)(void *arg, uint64_t cid), void *arg)
{
	uint64_t old = had(cids, name);

	if (old && !taken(arg, old))
		return old;
	for (uint64_t cid = CIDS_FIRST; cid < CIDS_FIRST + SEARCHED; cid++)
		if (!given(cids, cid) && !taken(arg, cid))
			return cid;
	return 0;
}

int cids_set(struct cids *cids, const char *name, uint64_t cid)
{
	json_object *value;

	if (had(cids, name) == cid)
		return 0;
	value = json_object_new_int64((int64_t)cid);
	if (!value || json_object_object_add(cids->table, name, value) < 0) {
		json_object_put(value);
		return -ENOMEM;
	}
	cids->dirty = true;
	return 0;
}

static void drop_oldest(struct cids *cids, bool (*in_use)(void *arg, const char *name), void *arg)
{
	int n = json_object_object_length(cids->table);

	/* The iteration has read the next name before the body removes this one. */
	json_object_object_foreach (cids->table, name, value) {
		(void)value;
		if (n <= CIDS_MAX)
			break;
		if (in_use(arg, name))
			continue;
		json_object_object_del(cids->table, name);
		cids->dirty = true;
		n--;
	}
}

/* Another file takes the name: whoever reads it finds all of the table. */
static int write_table(const struct cids *cids)
{
	const char *text = json_object_to_json_string_ext(cids->table, JSON_C_TO_STRING_PRETTY);
	scope_free char *fresh = text_format("%s.new", cids->path);
	scope_fd int fd = -1;
	int r;

	if (!fresh || !text)
		return -ENOMEM;
	fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, text, strlen(text));
	if (r == 0 && rename(fresh, cids->path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(fresh);
	return r;
}

int cids_save(struct cids *cids, bool (*in_use)(void *arg, const char *name), void *arg)
{
	int r;

	drop_oldest(cids, in_use, arg);
	if (!cids->dirty)
		return 0;
	r = write_table(cids);
	if (r == 0)
		cids->dirty = false;
	return r;
}
