/* System call filters. See seccomp.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/sandbox/fail.h"
#include "daemon/sandbox/seccomp.h"
#include "devices/base/error.h"
#include "devices/base/fd.h"
#include "devices/base/scope.h"

static int add_rule(scmp_filter_ctx ctx, const struct policy *policy,
		    const struct policy_rule *rule, char **ret_error)
{
	struct scmp_arg_cmp args[6];

	for (size_t i = 0; i < rule->n_args; i++)
		args[i] = (struct scmp_arg_cmp){
			.arg = rule->args[i].index,
			.op = (enum scmp_compare)rule->args[i].op,
			.datum_a = rule->args[i].value,
			.datum_b = rule->args[i].value_two,
		};
	for (size_t k = 0; k < rule->n_names; k++) {
		int nr = seccomp_syscall_resolve_name(rule->names[k]);
		int r = seccomp_rule_add_array(ctx, rule->action, nr, (unsigned)rule->n_args, args);

		if (r < 0)
			return fail(ret_error, r, "%s: the rule for %s cannot be compiled: %s",
				    policy->path, rule->names[k], error_text(r));
	}
	return 0;
}

static int add_rules(scmp_filter_ctx ctx, const struct policy *policy,
		     const struct policy_seccomp *seccomp, unsigned features, char **ret_error)
{
	for (size_t i = 0; i < seccomp->n_rules; i++) {
		int r;

		if (!policy_rule_applies(&seccomp->rules[i], features))
			continue;
		r = add_rule(ctx, policy, &seccomp->rules[i], ret_error);
		if (r < 0)
			return r;
	}
	return 0;
}

static scmp_filter_ctx open_filter(uint32_t default_action)
{
	scmp_filter_ctx ctx = seccomp_init(default_action);

	if (!ctx)
		return NULL;
	/* Nothing but the native ABI, and no second chance for what tries another. */
	if (seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) < 0 ||
	    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0) {
		seccomp_release(ctx);
		return NULL;
	}
	return ctx;
}

/*
 * Kernels before 6.7 refuse a shared map of a write-sealed memfd, even one that only reads, unless
 * the descriptor is read-only.
 */
static int reopen_readonly(int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return errno_or(open(path, O_RDONLY | O_CLOEXEC));
}

static int export_filter(scmp_filter_ctx ctx, const char *name, int *ret_fd)
{
	scope_fd int fd = fd_open_memfd(name, 0, 0);
	int r;

	if (fd < 0)
		return fd;
	r = seccomp_export_bpf(ctx, fd);
	if (r < 0)
		return r;
	r = fd_add_seals(fd, F_SEAL_SEAL | F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK);
	if (r >= 0)
		r = reopen_readonly(fd);
	if (r < 0)
		return r;
	*ret_fd = r;
	return 0;
}

int seccomp_compile_worker(const struct policy *policy, unsigned features, int *ret_fd,
			   char **ret_error)
{
	scmp_filter_ctx ctx = open_filter(policy->worker.default_action);
	int r;

	if (!ctx)
		return -ENOMEM;
	r = add_rules(ctx, policy, &policy->worker, features, ret_error);
	if (r >= 0)
		r = export_filter(ctx, "worker-filter", ret_fd);
	seccomp_release(ctx);
	return r;
}

int seccomp_compile_keeper(const struct policy *policy, int *ret_fd, char **ret_error)
{
	scmp_filter_ctx ctx = open_filter(policy->keeper.default_action);
	int r;

	if (!ctx)
		return -ENOMEM;
	r = add_rules(ctx, policy, &policy->keeper, 0, ret_error);
	/* With and without each feature: the worker is told by its own filter which it is. */
	if (r >= 0)
		r = add_rules(ctx, policy, &policy->worker, 0, ret_error);
	if (r >= 0)
		r = add_rules(ctx, policy, &policy->worker, POLICY_FEATURE_IO_URING, ret_error);
	if (r >= 0)
		r = export_filter(ctx, "keeper-filter", ret_fd);
	seccomp_release(ctx);
	return r;
}

int seccomp_read(int fd, struct sock_fprog *ret)
{
	scope_free struct sock_filter *filter = NULL;
	uint64_t size = 0;
	ssize_t n;
	int r = fd_size(fd, &size);

	if (r < 0)
		return r;
	if (size == 0 || size % sizeof(*filter) != 0 || size / sizeof(*filter) > BPF_MAXINSNS)
		return -EINVAL;
	filter = malloc(size);
	if (!filter)
		return -ENOMEM;
	n = pread(fd, filter, size, 0);
	if (n != (ssize_t)size)
		return n < 0 ? -errno : -EIO;
	ret->len = (unsigned short)(size / sizeof(*filter));
	ret->filter = take_ptr(filter);
	return 0;
}

int seccomp_install(const struct sock_fprog *program)
{
	return errno_or((int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program));
}
