/* The thread's file system ids and CAP_FSETID. See creds.h. */
#include "devices/fs/creds.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/base/fd.h"
#include "devices/fs/host.h"
#include "devices/fs/request.h"

#define NO_ID UINT32_MAX /* no id at all: setfsuid() with it changes nothing and says what is */

/* The thread's own, as it began. */
struct own_ids {
	bool known;
	bool gid_left; /* creds_enter() has set another */
	uint32_t uid, gid;
	struct __user_cap_data_struct caps[2];
};
static _Thread_local struct own_ids own;

static void learn(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	if (own.known)
		return;
	own.uid = (uint32_t)syscall(SYS_setfsuid, NO_ID);
	own.gid = (uint32_t)syscall(SYS_setfsgid, NO_ID);
	if (syscall(SYS_capget, &header, own.caps) < 0)
		own.caps[0].effective = 0;
	own.known = true;
}

/* These two calls say only what was before: whether they took effect shows in the next one. */
static int become(long call, uint32_t id)
{
	syscall(call, id);
	return (uint32_t)syscall(call, NO_ID) == id ? 0 : -EPERM;
}

int creds_enter(struct request *rq, uint32_t group)
{
	uint32_t gid = group == CREDS_NO_GROUP ? rq->in.gid : group;

	learn();
	own.gid_left = gid != own.gid;
	if (own.gid_left && become(SYS_setfsgid, gid) < 0)
		return -EPERM;
	if (rq->in.uid != own.uid && become(SYS_setfsuid, rq->in.uid) < 0) {
		syscall(SYS_setfsgid, own.gid);
		return -EPERM;
	}
	return 0;
}

void creds_leave(struct request *rq)
{
	if (rq->in.uid != own.uid)
		syscall(SYS_setfsuid, own.uid);
	if (own.gid_left)
		syscall(SYS_setfsgid, own.gid);
}

static void set_fsetid(bool effective)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2];

	learn();
	if (!(own.caps[0].effective & (1u << CAP_FSETID)))
		return;
	caps[0] = own.caps[0];
	caps[1] = own.caps[1];
	if (!effective)
		caps[0].effective &= ~(1u << CAP_FSETID);
	syscall(SYS_capset, &header, caps);
}

void creds_fsetid_drop(void)
{
	set_fsetid(false);
}

void creds_fsetid_restore(void)
{
	set_fsetid(true);
}

void creds_kill_begin(struct creds_kill *k, const struct request *rq, int fd, bool kill)
{
	struct stat st;

	*k = (struct creds_kill){ 0 };
	if (!kill || (HOST(fd_stat(fd, &st)) == 0 && !(st.st_mode & (S_ISUID | S_ISGID))))
		return;
	learn();
	k->group = rq->in.gid != own.gid && become(SYS_setfsgid, rq->in.gid) == 0;
	creds_fsetid_drop();
	k->dropped = true;
}

void creds_kill_end(const struct creds_kill *k)
{
	if (k->dropped)
		creds_fsetid_restore();
	if (k->group)
		syscall(SYS_setfsgid, own.gid);
}
