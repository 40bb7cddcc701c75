/* What must be in a directory: see tree-model.h. */
#include "tests/e2e/guest/tree-model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/e2e/guest/pattern.h"

struct model_file *tree_model_make(struct tree_model *m, mode_t type, mode_t mode)
{
	for (unsigned i = 0; i < MODEL_FILES; i++) {
		struct model_file *f = &m->files[i];

		if (f->used)
			continue;
		*f = (struct model_file){ .used = true, .type = type, .mode = mode };
		return f;
	}
	return NULL;
}

void tree_model_hold(struct model_file *f, bool by_name)
{
	*(by_name ? &f->n_names : &f->n_open) += 1;
}

void tree_model_drop(struct model_file *f, bool by_name)
{
	*(by_name ? &f->n_names : &f->n_open) -= 1;
	if (f->n_names == 0 && f->n_open == 0)
		f->used = false;
}

void tree_model_path(const struct tree_model *m, unsigned name, char *ret_text)
{
	snprintf(ret_text, MODEL_PATH_LEN, "%s/n%u", m->dir, name);
}

static const char *check_stat(const struct model_file *f, const struct stat *st, char *text,
			      unsigned size)
{
	if ((st->st_mode & S_IFMT) != f->type)
		snprintf(text, size, "type %o, not %o", st->st_mode & S_IFMT, f->type);
	else if (f->type != S_IFLNK && (st->st_mode & 07777) != f->mode)
		snprintf(text, size, "mode %o, not %o", st->st_mode & 07777, f->mode);
	else if (f->type != S_IFDIR && (uint64_t)st->st_size != f->len)
		snprintf(text, size, "size %lld, not %u", (long long)st->st_size, f->len);
	else if (f->type != S_IFDIR && st->st_nlink != f->n_names)
		snprintf(text, size, "%u links, not %u", (unsigned)st->st_nlink, f->n_names);
	else if (f->mtime_s && (uint64_t)st->st_mtim.tv_sec != f->mtime_s)
		snprintf(text, size, "changed at %lld, not %llu", (long long)st->st_mtim.tv_sec,
			 (unsigned long long)f->mtime_s);
	else
		return NULL;
	return text;
}

static const char *check_data(const struct model_file *f, int fd, char *text, unsigned size)
{
	uint8_t data[MODEL_MAX_LEN + 1];
	ssize_t n = pread(fd, data, sizeof(data), 0);

	if (n < 0)
		snprintf(text, size, "cannot be read: %s", strerror(errno));
	else if (n != (ssize_t)f->len)
		snprintf(text, size, "%zd bytes were read, not %u", n, f->len);
	else if (memcmp(data, f->data, f->len) != 0)
		snprintf(text, size, "holds something else than was written");
	else
		return NULL;
	return text;
}

static const char *check_value(const struct model_file *f, int fd, char *text, unsigned size)
{
	char value[MODEL_VALUE_LEN] = "";
	ssize_t n = fgetxattr(fd, "user.t", value, sizeof(value) - 1);

	if (n < 0 && errno != ENODATA) {
		snprintf(text, size, "its attribute cannot be read: %s", strerror(errno));
		return text;
	}
	if (strcmp(value, f->value) == 0)
		return NULL;
	snprintf(text, size, "its attribute is \"%s\", not \"%s\"", value, f->value);
	return text;
}

static const char *check_open(const struct model_file *f, int fd, char *text, unsigned size)
{
	const char *wrong = check_data(f, fd, text, size);

	return wrong ? wrong : check_value(f, fd, text, size);
}

static const char *check_link(const struct model_file *f, const char *path, char *text,
			      unsigned size)
{
	char target[MODEL_PATH_LEN];
	ssize_t n = readlink(path, target, sizeof(target));

	if (n == (ssize_t)f->len && memcmp(target, f->data, f->len) == 0)
		return NULL;
	snprintf(text, size, "a symbolic link to somewhere else");
	return text;
}

const char *tree_model_check(const struct model_file *f, const char *path, int fd, char *text,
			     unsigned size)
{
	const char *wrong;
	struct stat st;
	int own = -1;

	if ((path ? lstat(path, &st) : fstat(fd, &st)) < 0) {
		snprintf(text, size, "cannot be looked at: %s", strerror(errno));
		return text;
	}
	wrong = check_stat(f, &st, text, size);
	if (wrong)
		return wrong;
	if (f->type == S_IFLNK)
		return check_link(f, path, text, size);
	if (f->type != S_IFREG)
		return NULL;
	if (!path)
		return check_open(f, fd, text, size);
	own = open(path, O_RDONLY | O_CLOEXEC);
	if (own < 0) {
		snprintf(text, size, "cannot be opened: %s", strerror(errno));
		return text;
	}
	wrong = check_open(f, own, text, size);
	close(own);
	return wrong;
}

static uint64_t digest_bytes(uint64_t sum, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
	return sum;
}

static uint64_t digest_start(const char *name, mode_t type, mode_t mode)
{
	uint32_t bits = type == S_IFLNK ? type : (type | mode);

	return digest_bytes(digest_bytes(pattern_mix(1, 2), name, strlen(name)), &bits,
			    sizeof(bits));
}

uint64_t tree_digest_model(const struct model_file *f, const char *name)
{
	uint64_t sum = digest_start(name, f->type, f->mode);

	sum = digest_bytes(sum, f->data, f->len);
	return digest_bytes(sum, f->value, strlen(f->value));
}

uint64_t tree_digest_path(const char *path, const char *name)
{
	uint8_t data[MODEL_MAX_LEN + 1];
	char value[MODEL_VALUE_LEN] = "";
	ssize_t n = 0;
	struct stat st;
	uint64_t sum;
	int fd;

	if (lstat(path, &st) < 0)
		return 0;
	sum = digest_start(name, st.st_mode & S_IFMT, st.st_mode & 07777);
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, (char *)data, sizeof(data));
	} else if (S_ISREG(st.st_mode)) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : pread(fd, data, sizeof(data), 0);
		if (fd >= 0) {
			(void)fgetxattr(fd, "user.t", value, sizeof(value) - 1);
			close(fd);
		}
	}
	if (n < 0)
		return 0;
	return digest_bytes(digest_bytes(sum, data, (size_t)n), value, strlen(value));
}
