/* The user-mode network stack. See stack.h. */
#include "daemon/stack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"
#include "daemon/foreign.h"
#include "daemon/text.h"

#define STACK_PATH "/usr/bin/passt"

enum { MAX_ARGS = 32 + 2 * CONFIG_USER_MAX_FORWARDS + 2 * CONFIG_MAX_DNS };

struct args {
	char *v[MAX_ARGS + 1];
	size_t n;
	bool failed;
};

static void add(struct args *a, const char *text)
{
	char *copy = a->n < MAX_ARGS ? strdup(text) : NULL;

	if (copy)
		a->v[a->n++] = copy;
	else
		a->failed = true;
}

static void add_pair(struct args *a, const char *option, const char *value)
{
	if (!value[0])
		return;
	add(a, option);
	add(a, value);
}

static void add_number(struct args *a, const char *option, uint64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	if (value)
		add_pair(a, option, text);
}

/*
 * Each forward is an option of its own. Where there is none of a protocol that is said too: passt
 * forwards UDP ports of the numbers of TCP ports otherwise.
 */
static void add_forwards(struct args *a, const struct user_config *c, bool udp)
{
	const char *option = udp ? "-u" : "-t";
	bool any = false;

	for (uint32_t i = 0; i < c->n_forwards; i++) {
		const struct user_forward *f = &c->forward[i];
		char text[CONFIG_ADDRESS_LEN + 16];

		if (f->udp != udp)
			continue;
		any = true;
		(void)snprintf(text, sizeof(text), "%s%s%u:%u", f->address,
			       f->address[0] ? "/" : "", f->host, f->guest);
		add_pair(a, option, text);
	}
	if (!any)
		add_pair(a, option, "none");
}

static void add_addresses(struct args *a, const struct user_config *c)
{
	add_pair(a, "-a", c->address);
	add_number(a, "-n", c->prefix);
	add_pair(a, "-g", c->gateway);
	add_pair(a, "-a", c->address6);
	add_pair(a, "-g", c->gateway6);
	add_pair(a, "-i", c->interface);
	for (uint32_t i = 0; i < c->n_dns; i++)
		add_pair(a, "-D", c->dns[i]);
	if (c->has_dns && c->n_dns == 0)
		add_pair(a, "-D", "none");
}

char **stack_argv(const struct user_config *c, uint32_t mtu)
{
	struct args a = { .n = 0 };
	char **v;

	add(&a, "passt");
	add(&a, "-f"); /* vmdevd watches over it */
	add(&a, "-q");
	add(&a, "-e"); /* what it has to say reaches the device's log */
	add_number(&a, "-F", FOREIGN_FD);
	add_number(&a, "-m", mtu);
	add_addresses(&a, c);
	if (!c->host_loopback)
		add(&a, "--no-map-gw");
	add_forwards(&a, c, false);
	add_forwards(&a, c, true);
	v = a.failed ? NULL : calloc(a.n + 1, sizeof(*v));
	if (v)
		memcpy(v, a.v, a.n * sizeof(*v));
	for (size_t i = 0; !v && i < a.n; i++)
		free(a.v[i]);
	return v;
}

int stack_check(char **ret_error)
{
	return foreign_check(STACK_PATH, "passt", ret_error);
}

int stack_launch(const struct stack_spec *spec, struct launched *ret, char **ret_error)
{
	char **argv = stack_argv(spec->config, spec->mtu);
	struct foreign_spec foreign = {
		.name = spec->name,
		.path = STACK_PATH,
		.argv = argv,
		.fd = spec->socket,
		.uid_index = spec->uid_index,
		.cgroup_name = spec->cgroup_name,
	};
	int r = -ENOMEM;

	*ret_error = NULL;
	if (argv)
		r = foreign_launch(&foreign, ret, ret_error);
	strv_free(argv);
	return r;
}
