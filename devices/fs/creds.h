/*
 * Acting with the guest's ids where they decide who owns what is made.
 *
 * Runs in: worker, I/O threads. Trusts: nothing; any id of the guest's is as good as another.
 *
 * The guest's kernel checks permissions (default_permissions); here ids only name the owner, the
 * group (SGID directories, quota) and whether setuid bits stay. setfsuid and setfsgid are of the
 * calling thread alone. Capabilities stay as they are (SECBIT_NO_SETUID_FIXUP is set by the
 * sandbox), so that the host does not refuse what the guest's kernel has allowed. In a user
 * namespace an id that is not mapped is refused: -EPERM.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct request;

/*
 * From here on this thread makes files for the sender of rq, in its supplementary group of CREATE
 * if it sent one. 0 or a negative errno.
 */
int creds_enter(struct request *rq, uint32_t group);
#define CREDS_NO_GROUP UINT32_MAX

/* Back to the worker's own. Always after a creds_enter() that returned 0. */
void creds_leave(struct request *rq);

/*
 * Between these two, setting attributes drops SGID as for a process that has no CAP_FSETID. Of the
 * calling thread alone; without the capability they do nothing.
 */
void creds_fsetid_drop(void);
void creds_fsetid_restore(void);

/*
 * Around a change of the data of the file that fd (O_PATH will do) is open on. kill: rq's sender
 * may not keep set-user-id and set-group-id by that (FUSE_HANDLE_KILLPRIV_V2). Set-group-id without
 * execution by the group is something else (it stood for mandatory locks): it ends for senders
 * outside of the file's group only. So the host's kernel is to see the sender's group; further
 * groups of the sender are not known here.
 */
struct creds_kill {
	bool dropped; /* CAP_FSETID */
	bool group;   /* in the sender's group */
};
void creds_kill_begin(struct creds_kill *k, const struct request *rq, int fd, bool kill);
void creds_kill_end(const struct creds_kill *k);
