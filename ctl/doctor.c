/*
 * The verb doctor: is this host fit, and if not, how is that mended?
 *
 * Runs in: vmdevctl, best as root: what only root may see is said to be unknown otherwise.
 * Trusts:  the kernel's word. Nothing is changed.
 *
 * One row per check. "bad" keeps devices from running, "weak" costs speed or limits, "good" is
 * good.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "daemon/sandbox/host.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"
#include "devices/process/contract.h"

enum verdict { GOOD, WEAK, BAD };

struct finding {
	enum verdict verdict;
	char *found; /* what there is */
	char *mend;  /* NULL: nothing to do */
};

struct check {
	const char *name;
	void (*run)(struct ctl *ctl, struct finding *ret);
};

static void good(struct finding *f, char *found)
{
	*f = (struct finding){ GOOD, found, NULL };
}

static void weak(struct finding *f, char *found, const char *mend)
{
	*f = (struct finding){ WEAK, found, strdup(mend) };
}

static void bad(struct finding *f, char *found, const char *mend)
{
	*f = (struct finding){ BAD, found, strdup(mend) };
}

/* The first line of a file, to be freed; NULL: there is none. */
static char *read_line(const char *path)
{
	scope_file FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;

	if (!f || getline(&line, &size, f) < 0) {
		free(line);
		return NULL;
	}
	line[strcspn(line, "\n")] = '\0';
	return line;
}

static long long read_number(const char *path, long long otherwise)
{
	scope_free char *line = read_line(path);

	return line ? atoll(line) : otherwise;
}

/* The process that listens at the address; 0: nobody does; -1: somebody, who cannot be seen. */
static pid_t find_daemon(const struct ctl *ctl)
{
	static const char prefix[] = "unix:path=";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	scope_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct ucred creds;
	socklen_t len = sizeof(creds);

	if (strncmp(ctl->address, prefix, strlen(prefix)) != 0)
		return -1;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s",
		       ctl->address + strlen(prefix));
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return fd >= 0 && (errno == ENOENT || errno == ECONNREFUSED) ? 0 : -1;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &creds, &len) < 0 || creds.pid <= 0)
		return -1;
	return creds.pid;
}

/* ---- the kernel ---- */

static void check_kernel(struct ctl *ctl, struct finding *f)
{
	struct utsname name;
	unsigned major = 0, minor = 0;

	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		bad(f, strdup("of unknown version"), "use Linux 6.1 or later");
	else if (major < 6 || (major == 6 && minor < 1))
		bad(f, strdup(name.release), "use Linux 6.1 or later, such as Debian 12's");
	else
		good(f, strdup(name.release));
}

/* Without any io_uring devices fall back to preadv2: they work, more slowly. */
static void check_io_uring(struct ctl *ctl, struct finding *f)
{
	long long off = read_number("/proc/sys/kernel/io_uring_disabled", 0);

	if (host_has_io_uring())
		good(f, strdup("there, and not disabled"));
	else if (off)
		weak(f, text_format("kernel.io_uring_disabled = %lld", off),
		     "sysctl kernel.io_uring_disabled=0; until then devices are slower");
	else if (errno == EPERM)
		weak(f, strdup("forbidden by a system call filter around vmdevd"),
		     "allow io_uring_setup, io_uring_enter and io_uring_register there "
		     "(systemd-nspawn: --system-call-filter=); until then devices are slower");
	else
		weak(f, strdup("not in this kernel"),
		     "use a kernel with CONFIG_IO_URING; until then devices are slower");
}

static void check_user_namespaces(struct ctl *ctl, struct finding *f)
{
	long long max = read_number("/proc/sys/user/max_user_namespaces", -1);

	if (max < 0)
		bad(f, strdup("not in this kernel"), "use a kernel with CONFIG_USER_NS");
	else if (max < 16)
		bad(f, text_format("user.max_user_namespaces = %lld", max),
		    "sysctl user.max_user_namespaces=65536");
	else
		good(f, text_format("up to %lld", max));
}

static void check_landlock(struct ctl *ctl, struct finding *f)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < 0 && errno == EPERM)
		bad(f, strdup("forbidden by a system call filter around vmdevd"),
		    "allow landlock_create_ruleset, landlock_add_rule and landlock_restrict_self "
		    "there (systemd-nspawn: --system-call-filter=)");
	else if (abi < 1)
		weak(f, text_format("not there (%s)", error_text(errno)),
		     "boot with lsm=landlock,... on the kernel's command line; until then a "
		     "device's "
		     "empty root and its system call filter stand alone");
	else
		good(f, text_format("ABI %ld", abi));
}

static void check_seccomp(struct ctl *ctl, struct finding *f)
{
	unsigned action = SECCOMP_RET_TRAP;

	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0)
		bad(f, strdup("no filters"), "use a kernel with CONFIG_SECCOMP_FILTER");
	else
		good(f, strdup("filters are there"));
}

static void check_futex_waitv(struct ctl *ctl, struct finding *f)
{
	if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) < 0 && errno == ENOSYS)
		weak(f, strdup("not in this kernel"),
		     "use Linux 5.16 or later; until then a worker's death is noticed later, the "
		     "more "
		     "so the larger the guest is");
	else
		good(f, strdup("there"));
}

/* ---- cgroups and limits ---- */

static void check_cgroup(struct ctl *ctl, struct finding *f)
{
	static const char *const wanted[] = { "cpu", "memory", "pids" };
	scope_free char *mount = NULL, *root = NULL, *path = NULL, *controllers = NULL;
	char missing[64] = "";

	(void)host_find_cgroups(&mount, &root);
	path = mount ? text_format("%s/cgroup.controllers", mount) : NULL;
	controllers = path ? read_line(path) : NULL;
	if (!mount) {
		weak(f, strdup("cgroup v2 is not mounted"),
		     "boot with systemd.unified_cgroup_hierarchy=1; until then documents with "
		     "limits "
		     "for cpu, memory or pids are refused");
		return;
	}
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		size_t at = strlen(missing);

		if (!text_has_word(controllers ? controllers : "", wanted[i]))
			(void)snprintf(missing + at, sizeof(missing) - at, "%s%s", at ? ", " : "",
				       wanted[i]);
	}
	if (missing[0])
		weak(f, text_format("v2 at %s, without %s", mount, missing),
		     "boot with systemd.unified_cgroup_hierarchy=1 (in a container: have them "
		     "delegated to it); until then documents with such limits are refused");
	else
		good(f, text_format("v2 at %s with %s", mount, controllers));
}

/* What vmdevd has, if it runs: its own word. 0: it cannot be seen. */
static unsigned long long files_of_daemon(pid_t pid)
{
	scope_free char *path = text_format("/proc/%d/limits", pid);
	scope_file FILE *f = path ? fopen(path, "re") : NULL;
	char line[256];
	unsigned long long n = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Max open files %*s %llu", &n) == 1)
			break;
	return n;
}

/* As root vmdevd raises its own limit, as far as the kernel lets anybody have one. */
static unsigned long long files_to_be(void)
{
	return (unsigned long long)read_number("/proc/sys/fs/nr_open", 0);
}

static void check_files(struct ctl *ctl, struct finding *f)
{
	pid_t pid = find_daemon(ctl);
	unsigned long long n = pid > 0 ? files_of_daemon(pid) : files_to_be();
	const char *whose = pid > 0 ? "vmdevd" : "a process";

	if (n == 0)
		weak(f, strdup("unknown"), "look at /proc/PID/limits of vmdevd");
	else if (n < CONTRACT_FD_LIMIT_SWITCH)
		bad(f, text_format("%s has at most %llu", whose, n),
		    "LimitNOFILE=131072 in vmdevd's unit, and sysctl fs.nr_open=1048576");
	else if (n < CONTRACT_FD_LIMIT_MAX)
		weak(f, text_format("%s has at most %llu", whose, n),
		     "LimitNOFILE=131072 in vmdevd's unit, and sysctl fs.nr_open=1048576; until "
		     "then file systems keep fewer files open");
	else
		good(f, text_format("%s has up to %llu", whose, n));
}

static void check_huge_pages(struct ctl *ctl, struct finding *f)
{
	scope_free char *shmem = read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled");

	if (!shmem)
		weak(f, strdup("not in this kernel"),
		     "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE: recovery is faster for large "
		     "guests");
	else if (strstr(shmem, "[never]") || strstr(shmem, "[deny]"))
		weak(f, text_format("shmem_enabled is %s", shmem),
		     "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled: recovery is "
		     "faster for large guests");
	else
		good(f, text_format("shmem_enabled is %s", shmem));
}

/* ---- users ---- */

static void check_kvm_group(struct ctl *ctl, struct finding *f)
{
	if (!getgrnam("kvm"))
		weak(f, strdup("there is no group kvm"),
		     "groupadd --system kvm (or systemd-sysusers): documents usually give it the "
		     "sockets");
	else
		good(f, strdup("there"));
}

static void check_vmdev_group(struct ctl *ctl, struct finding *f)
{
	if (!getgrnam("vmdev"))
		weak(f, strdup("there is no group vmdev"),
		     "groupadd --system vmdev (or systemd-sysusers): its members may look at "
		     "devices; "
		     "until then only root may");
	else
		good(f, strdup("there"));
}

static void check_kvm(struct ctl *ctl, struct finding *f)
{
	if (access("/dev/kvm", F_OK) < 0)
		weak(f, strdup("no /dev/kvm"),
		     "load kvm_intel or kvm_amd; without it guests are emulated, and slow");
	else
		good(f, strdup("/dev/kvm is there"));
}

/* vhost-user needs none of the host's vhost devices; people look for them here all the same. */
static void check_vhost(struct ctl *ctl, struct finding *f)
{
	bool net = access("/dev/vhost-net", F_OK) == 0,
	     vsock = access("/dev/vhost-vsock", F_OK) == 0;

	good(f, text_format("not needed (vhost-net %s, vhost-vsock %s)", net ? "there" : "absent",
			    vsock ? "there" : "absent"));
}

/* ---- vmdevd ---- */

/* A host can be fit without it: said, but not judged. */
static void check_daemon(struct ctl *ctl, struct finding *f)
{
	pid_t pid = find_daemon(ctl);

	if (pid > 0)
		good(f, text_format("runs (pid %d)", pid));
	else
		good(f, text_format(pid < 0 ? "may run: nobody can be seen at %s"
					    : "does not run: nobody listens at %s",
				    ctl->address));
}

/* To be freed; NULL: it does not say. */
static char *version_of_daemon(const struct ctl *ctl)
{
	sd_bus *bus = NULL;
	char *version = NULL;
	int r = sd_bus_new(&bus);

	if (r >= 0)
		r = sd_bus_set_address(bus, ctl->address);
	if (r >= 0)
		r = sd_bus_start(bus);
	if (r >= 0)
		r = sd_bus_get_property_string(bus, "org.vmdev", CTL_PATH, CTL_INTERFACE, "Version",
					       NULL, &version);
	sd_bus_close_unref(bus);
	return r < 0 ? NULL : version;
}

static void check_versions(struct ctl *ctl, struct finding *f)
{
	scope_free char *other = find_daemon(ctl) > 0 ? version_of_daemon(ctl) : NULL;

	if (!other)
		good(f, strdup("vmdevctl " VMDEV_VERSION));
	else if (strcmp(other, VMDEV_VERSION) == 0)
		good(f, strdup("vmdevctl and vmdevd " VMDEV_VERSION));
	else
		weak(f, text_format("vmdevctl " VMDEV_VERSION ", vmdevd %s", other),
		     "systemctl restart vmdevd, when its devices may be stopped");
}

/* ---- the table ---- */

static const struct check checks[] = {
	{ "kernel", check_kernel },
	{ "io_uring", check_io_uring },
	{ "user namespaces", check_user_namespaces },
	{ "seccomp", check_seccomp },
	{ "landlock", check_landlock },
	{ "futex_waitv", check_futex_waitv },
	{ "cgroups", check_cgroup },
	{ "open files", check_files },
	{ "huge pages", check_huge_pages },
	{ "group kvm", check_kvm_group },
	{ "group vmdev", check_vmdev_group },
	{ "kvm", check_kvm },
	{ "vhost", check_vhost },
	{ "vmdevd", check_daemon },
	{ "versions", check_versions },
};

static const char *const verdict_names[] = { [GOOD] = "good", [WEAK] = "weak", [BAD] = "bad" };

static json_object *finding_to_json(const char *name, const struct finding *f)
{
	json_object *object = json_object_new_object();

	json_object_object_add(object, "check", json_object_new_string(name));
	json_object_object_add(object, "verdict",
			       json_object_new_string(verdict_names[f->verdict]));
	json_object_object_add(object, "found", json_object_new_string(f->found ? f->found : ""));
	json_object_object_add(object, "mend", f->mend ? json_object_new_string(f->mend) : NULL);
	return object;
}

static void print_finding(const char *name, const struct finding *f)
{
	static const enum ctl_colour colours[] = {
		[GOOD] = CTL_GOOD,
		[WEAK] = CTL_WARN,
		[BAD] = CTL_BAD,
	};

	printf("%s%-5s%s %-16s %s\n", ctl_colour(colours[f->verdict]), verdict_names[f->verdict],
	       ctl_colour(CTL_PLAIN), name, f->found ? f->found : "");
	if (f->mend)
		printf("                       -> %s\n", f->mend);
}

static void finding_free(struct finding *f)
{
	free(f->found);
	free(f->mend);
}

static enum ctl_exit run_doctor(struct ctl *ctl, int argc, char **argv)
{
	json_object *array = json_object_new_array();
	enum verdict worst = GOOD;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		struct finding finding = { 0 };

		checks[i].run(ctl, &finding);
		if (finding.verdict > worst)
			worst = finding.verdict;
		if (ctl->json)
			json_object_array_add(array, finding_to_json(checks[i].name, &finding));
		else if (!ctl->quiet)
			print_finding(checks[i].name, &finding);
		finding_free(&finding);
	}
	if (ctl->json)
		ctl_print_json(array);
	json_object_put(array);
	return worst == BAD ? CTL_FAILED : CTL_DONE;
}

const struct verb doctor_verbs[] = {
	{ "doctor", "", "is this host fit, and how to mend it", 0, 0, run_doctor,
	  .takes_json = true },
	{ 0 },
};
