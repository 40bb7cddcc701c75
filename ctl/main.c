/*
 * vmdevctl: the client of vmdevd, shaped like systemctl.
 *
 * Runs in: vmdevctl, as whoever calls it.
 * Trusts:  see ctl.h.
 *
 * A table of verbs, one file per group of them. Options may stand anywhere among the words.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "daemon/text.h"
#include "devices/base/error.h"
#include "devices/base/scope.h"

#define DEFAULT_ADDRESS "unix:path=" VMDEV_RUNTIME_DIR "/bus"

static const struct verb *const groups[] = {
	apply_verbs, show_verbs, control_verbs, watch_verbs, attach_verbs, doctor_verbs,
};

#define N_GROUPS (sizeof(groups) / sizeof(groups[0]))

enum {
	OPTION_JSON = 256,
	OPTION_ADDRESS,
	OPTION_NO_PAGER,
	OPTION_DRY_RUN,
	/* from another vmdevctl, with --host: what the document is called there */
	OPTION_STDIN_NAME,
	OPTION_VERSION,
};

static const struct option long_options[] = {
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "address", required_argument, NULL, OPTION_ADDRESS },
	{ "host", required_argument, NULL, 'H' },
	{ "no-pager", no_argument, NULL, OPTION_NO_PAGER },
	{ "quiet", no_argument, NULL, 'q' },
	{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
	{ "stdin-name", required_argument, NULL, OPTION_STDIN_NAME },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPTION_VERSION },
	{ 0 },
};

static void print_help(void)
{
	puts("vmdevctl - the devices of virtual machines\n"
	     "\n"
	     "Usage: vmdevctl [OPTIONS] VERB ...\n");
	for (size_t i = 0; i < N_GROUPS; i++)
		for (const struct verb *v = groups[i]; v->name; v++)
			printf("  %-8s %-22s %s\n", v->name, v->args, v->help);
	puts("\n"
	     "  --json           print JSON (apply, list, status, watch, attach, doctor)\n"
	     "  --dry-run        apply: only say what would change\n"
	     "  --address=ADDR   the bus of another vmdevd (" DEFAULT_ADDRESS ")\n"
	     "  -H, --host=HOST  run on another machine, by ssh\n"
	     "  -q, --quiet      print only errors\n"
	     "  --no-pager       do not page long output\n"
	     "  -h, --help, --version\n"
	     "\n"
	     "VM/DEVICE names one device, VM all of its devices.\n"
	     "Exit status: 0 done, 1 failed, 2 wrong usage, 3 not running or not found, 4 not "
	     "permitted.");
}

static const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < N_GROUPS; i++)
		for (const struct verb *v = groups[i]; v->name; v++)
			if (strcmp(v->name, name) == 0)
				return v;
	return NULL;
}

/* ---- another machine ---- */

/* A document is here and vmdevctl there: it goes through ssh's stdin. */
static enum ctl_exit redirect_document(int argc, char **argv)
{
	scope_fd int fd = -1;

	if (argc != 1) {
		ctl_error("--host: apply takes one FILE at a time");
		return CTL_USAGE;
	}
	if (strcmp(argv[0], "-") == 0)
		return CTL_DONE;
	fd = open(argv[0], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || dup2(fd, STDIN_FILENO) < 0) {
		ctl_error("%s: cannot be read: %s", argv[0], error_text(errno));
		return CTL_FAILED;
	}
	return CTL_DONE;
}

/* What the other vmdevctl is called with: options, verb and arguments, each for the shell there. */
static const char **host_words(const struct ctl *ctl, const struct verb *verb, int argc,
			       char **argv)
{
	const char **words = calloc((size_t)argc + 12, sizeof(*words));
	bool is_apply = verb->takes_dry_run;
	size_t n = 0;

	if (!words)
		return NULL;
	words[n++] = "ssh";
	words[n++] = "--";
	words[n++] = ctl->host;
	words[n++] = "vmdevctl";
	if (ctl->json)
		words[n++] = "--json";
	if (ctl->quiet)
		words[n++] = "--quiet";
	if (ctl->dry_run)
		words[n++] = "--dry-run";
	if (strcmp(ctl->address, DEFAULT_ADDRESS) != 0)
		words[n++] = ctl_quote(text_format("--address=%s", ctl->address));
	if (is_apply && strcmp(argv[0], "-") != 0)
		words[n++] = ctl_quote(text_format("--stdin-name=%s", argv[0]));
	words[n++] = "--";
	words[n++] = verb->name;
	for (int i = 0; i < argc; i++)
		words[n++] = is_apply ? "-" : ctl_quote(argv[i]);
	return words;
}

/* ssh's exit status is the other vmdevctl's, or one that no vmdevctl has: ssh has said why. */
static enum ctl_exit run_ssh(const char **words)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
		execvp("ssh", (char *const *)(uintptr_t)words);
		ctl_error("--host: ssh cannot be run: %s", error_text(errno));
		_exit(CTL_FAILED);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return CTL_FAILED;
	if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status) > CTL_NOT_PERMITTED)
		return CTL_FAILED;
	return (enum ctl_exit)WEXITSTATUS(status);
}

static enum ctl_exit run_on_host(const struct ctl *ctl, const struct verb *verb, int argc,
				 char **argv)
{
	const char **words;
	enum ctl_exit exit = CTL_DONE;

	if (verb->takes_dry_run)
		exit = redirect_document(argc, argv);
	if (exit)
		return exit;
	words = host_words(ctl, verb, argc, argv);
	if (!words)
		return CTL_FAILED;
	exit = run_ssh(words);
	free(words);
	return exit;
}

/* ---- here ---- */

/* -1: go on; else the exit status. */
static int parse_options(struct ctl *ctl, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "H:qh", long_options, NULL)) != -1) {
		switch (c) {
		case OPTION_JSON:
			ctl->json = true;
			break;
		case OPTION_ADDRESS:
			ctl->address = optarg;
			break;
		case 'H':
			ctl->host = optarg;
			break;
		case OPTION_NO_PAGER:
			ctl->no_pager = true;
			break;
		case 'q':
			ctl->quiet = true;
			break;
		case OPTION_DRY_RUN:
			ctl->dry_run = true;
			break;
		case OPTION_STDIN_NAME:
			ctl->name = optarg;
			break;
		case 'h':
			print_help();
			return CTL_DONE;
		case OPTION_VERSION:
			puts("vmdevctl " VMDEV_VERSION);
			return CTL_DONE;
		default:
			fputs("Try `vmdevctl --help`.\n", stderr);
			return CTL_USAGE;
		}
	}
	return -1;
}

/* No option is taken and then ignored. */
static enum ctl_exit check_usage(const struct ctl *ctl, const struct verb *verb, int n_args,
				 char **args)
{
	if (n_args < verb->min_args || (verb->max_args >= 0 && n_args > verb->max_args)) {
		ctl_error("usage: vmdevctl %s%s%s", verb->name, verb->args[0] ? " " : "",
			  verb->args);
		return CTL_USAGE;
	}
	for (int i = 0; i < n_args; i++) {
		if (args[i][0])
			continue;
		ctl_error("%s: an empty argument names nothing; usage: vmdevctl %s %s", verb->name,
			  verb->name, verb->args);
		return CTL_USAGE;
	}
	if (ctl->json && !verb->takes_json) {
		ctl_error("%s: prints nothing that could be JSON; leave --json out", verb->name);
		return CTL_USAGE;
	}
	if (ctl->quiet && verb->only_prints) {
		ctl_error("%s: prints, and does nothing else; leave --quiet out", verb->name);
		return CTL_USAGE;
	}
	if (ctl->dry_run && !verb->takes_dry_run) {
		ctl_error("%s: --dry-run is for apply", verb->name);
		return CTL_USAGE;
	}
	return CTL_DONE;
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
	const struct verb *verb;
	enum ctl_exit exit;

	if (argc == 0) {
		ctl_error("which verb? `vmdevctl --help` has them all");
		return CTL_USAGE;
	}
	verb = verb_find(argv[0]);
	if (!verb) {
		ctl_error("\"%s\" is no verb; `vmdevctl --help` has them all", argv[0]);
		return CTL_USAGE;
	}
	exit = check_usage(ctl, verb, argc - 1, argv + 1);
	if (exit)
		return exit;
	if (ctl->host)
		return run_on_host(ctl, verb, argc - 1, argv + 1);
	exit = verb->run(ctl, argc - 1, argv + 1);
	ctl_pager_stop();
	if (ctl->bus)
		sd_bus_flush_close_unref(ctl->bus);
	return exit;
}

int main(int argc, char **argv)
{
	struct ctl ctl = { .address = DEFAULT_ADDRESS };
	int r = parse_options(&ctl, argc, argv);

	if (r >= 0)
		return r;
	return (int)run(&ctl, argc - optind, argv + optind);
}
