/*
 * frontend-fs-crash: the worker of a file system device dies at each named step, and nothing is to be seen of it.
 *
 * Runs in: a test program of its own. Trusts: nothing that the back-end says, but as trial.h does.
 *
 *	frontend-fs-crash --program=vmdev-fs-crash [--counts=1,2,7,40,90] [NAME…]
 *
 * As frontend-crash (crash.c), whose scripts try what all devices have in common; here are the points whose names begin with "fs.".
 * The scripts (fs-script-*.c) know what every answer has to be. Once more with a kill from outside in the first batch, for the steps of
 * recovery itself.
 */
#include "tests/frontend/fs-script.h"
#include "tests/frontend/trial.h"

#include <err.h>
#include <string.h>

/* Steps that need more than a session of a test can have; where they are tried. */
static const char *const elsewhere[] = {
	"fs.park", /* tens of thousands of descriptors: tests/unit/test-fs-parking.c */
	"fs.inode.revived",
};

static bool tried_elsewhere(const char *name)
{
	for (unsigned i = 0; i < sizeof(elsewhere) / sizeof(*elsewhere); i++)
		if (strncmp(name, elsewhere[i], strlen(elsewhere[i])) == 0)
			return true;
	return false;
}

/* The rest is tried by frontend-crash. */
static bool takes(const char *name)
{
	return strncmp(name, "fs.", strlen("fs.")) == 0 && !tried_elsewhere(name);
}

static void scripts(void *script)
{
	fs_script_names(script);
	fs_script_files(script);
}

enum way {
	PLAIN,
	AFTER_A_DEATH,
	N_WAYS,
};

static enum trial_verdict run(const struct trial *t)
{
	static struct fs_script script;
	const char *env[] = { t->point, NULL };
	const char *args[] = { "--xattr", NULL };
	struct backend_spec spec = {
		.program = t->program, .share = "", .n_queues = 1, .args = args, .env = env
	};
	bool kill_too = t->way == AFTER_A_DEATH;
	struct backend b;
	int status, r;

	r = backend_start(&b, &spec);
	if (r < 0)
		errx(1, "%s does not start: %s", t->program, strerror(-r));
	memset(&script, 0, sizeof(script));
	script.socket = b.socket;
	script.share = b.share;
	script.keeper = b.pid;
	script.kill_too = kill_too;
	status = trial_in_child(scripts, &script);
	return trial_judge(t, &b, status, status == 0 && backend_alive(&b), kill_too);
}

int main(int argc, char **argv)
{
	static const struct trial_suite suite = {
		.usage = "frontend-fs-crash --program=PATH [--counts=N,N…] [NAME…]",
		.counts = { 1, 2, 7, 40, 90 },
		.n_counts = 5,
		.n_ways = N_WAYS,
		.takes = takes,
		.run = run,
	};

	return trial_main(&suite, argc, argv);
}
