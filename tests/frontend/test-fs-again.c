/*
 * Claims about requests that are carried out by one worker and answered by the next, while somebody on the host changes what they were
 * about.
 *
 * Runs in: a test program of its own, as root, with a build that has crash points. Trusts: nothing that the back-end says.
 *
 * The worker kills itself at the named step. Its keeper is stopped before, so that the claim has all the time of the world between the
 * death and the successor.
 */
#include "tests/frontend/fs-claim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static const struct backend_spec removed = { .share = "",
					     .n_queues = 1,
					     .env = (const char *const[]){
						     "VMDEV_CRASH_AT=fs.remove.acted:1", NULL } };
static const struct backend_spec to_be_removed = {
	.share = "",
	.n_queues = 1,
	.env = (const char *const[]){ "VMDEV_CRASH_AT=fs.remove.intended:1", NULL }
};

/* UNLINK of name, in whose middle the worker dies; then the keeper is stopped. */
static void unlink_and_die(struct claim_context *x, struct fs_claim *f, struct fc_call *call,
			   const char *name)
{
	pid_t worker = backend_worker_await(x->backend.pid, 0, 2000);
	char path[64], state = 0;

	fc_call_init(call, &f->c.fe.mem);
	expect(worker > 0 && kill(x->backend.pid, SIGSTOP) == 0, "no worker");
	fc_add(&f->c, FC_REQUESTS, call,
	       &(struct fc_op){ .opcode = FUSE_UNLINK,
				.nodeid = f->dir,
				.part = { { name, strlen(name) + 1 } },
				.n_parts = 1 });
	fc_kick(&f->c, FC_REQUESTS);
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)worker);
	for (unsigned i = 0; i < 5000 && state != 'Z'; i++) {
		FILE *stat = fopen(path, "r");

		expect(stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1, "no %s", path);
		fclose(stat);
		usleep(1000);
	}
	expect(state == 'Z', "the worker lives");
}

static void go_on(struct claim_context *x, struct fs_claim *f, struct fc_call *call)
{
	expect(kill(x->backend.pid, SIGCONT) == 0, "no keeper");
	expect_ok(fc_wait(&f->c, FC_REQUESTS, call));
}

static const struct fc_spec inflight = { .session = { .inflight = true } };

/* What somebody on the host has put in the place of a file that was unlinked is not the guest's. */
static void what_was_moved_to_the_name_since_stays(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "moved", &inflight);
	struct fc_call call;

	fs_claim_write(f, "file", "the guest's");
	fs_claim_write(f, "other", "the host's");
	expect_ok(fc_lookup(&f->c, f->dir, "file", NULL));
	unlink_and_die(x, f, &call, "file");
	expect(!fs_claim_exists(f, "file"), "it is not unlinked");
	expect_is(rename(fs_claim_path(f, "other"), fs_claim_path(f, "file")), 0);
	go_on(x, f, &call);
	expect(fs_claim_exists(f, "file") && fs_claim_holds(f, "file", "the host's"), "it is gone");
	fs_claim_end(f);
}

/* And what was not unlinked yet is, though it has been changed. */
static void what_was_changed_since_is_removed(struct claim_context *x)
{
	struct fs_claim *f = fs_claim_begin(x, "changed", &inflight);
	struct fc_call call;

	fs_claim_write(f, "file", "the guest's");
	expect_ok(fc_lookup(&f->c, f->dir, "file", NULL));
	unlink_and_die(x, f, &call, "file");
	expect(fs_claim_exists(f, "file"), "it is unlinked");
	expect_is(chmod(fs_claim_path(f, "file"), 0600), 0);
	go_on(x, f, &call);
	expect(!fs_claim_exists(f, "file"), "it is still there");
	fs_claim_end(f);
}

#define CLAIM(name, spec)                                                                          \
	{                                                                                          \
#name, name, &spec                                                                 \
	}

static const struct claim claims[] = {
	CLAIM(what_was_moved_to_the_name_since_stays, removed),
	CLAIM(what_was_changed_since_is_removed, to_be_removed),
};

int main(int argc, char **argv)
{
	return claims_run(claims, sizeof(claims) / sizeof(*claims), argc, argv);
}
