/*
 * Texts for people and for D-Bus. See text.h.
 *
 * Runs in: vmdevd. Trusts: nothing.
 */
#include "daemon/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/base/scope.h"
#include "devices/base/wire.h"

void text_clean(char *text)
{
	scope_free char *copy = strdup(text);
	struct wire_writer w = wire_writer(text, strlen(text)); /* never longer than it was */

	if (copy)
		wire_put_text(&w, copy);
	*w.p = '\0';
}

bool text_has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += len)
		if ((p == list || p[-1] == ' ') && strchr(" \n", p[len]))
			return true;
	return false;
}

int text_read(const char *path, int flags, size_t max_len, char **ret_text, size_t *ret_len)
{
	scope_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags);
	scope_free char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uint64_t)st.st_size > max_len)
		return -EFBIG;
	text = calloc(1, (size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	n = read(fd, text, (size_t)st.st_size);
	if (n != st.st_size)
		return n < 0 ? -errno : -EIO;
	*ret_text = take_ptr(text);
	*ret_len = (size_t)n;
	return 0;
}
