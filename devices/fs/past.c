/* Evidence of what was done. See past.h. */
#include "devices/fs/past.h"

#include <fcntl.h>
#include <time.h>

#include "devices/base/error.h"
#include "devices/fs/host.h"

enum { NS_PER_S = 1000000000 };

static uint64_t read_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t past_tick(void)
{
	return read_clock(CLOCK_REALTIME_COARSE);
}

uint64_t past_now(void)
{
	return read_clock(CLOCK_REALTIME);
}

int past_look(int dir, const char *name, struct statx *ret)
{
	return errno_or(HOST(statx(dir, name, AT_SYMLINK_NOFOLLOW, ATTR_STATX_MASK, ret)));
}

static uint64_t to_ns(const struct statx_timestamp *t)
{
	return t->tv_sec < 0 ? 0 : (uint64_t)t->tv_sec * NS_PER_S + t->tv_nsec;
}

/*
 * Is the stamp at or after tick_ns, if the file system may have cut it? A stamp that is a multiple
 * of a granularity that file systems have (FAT 2 s and 10 ms, ext3 1 s, NTFS 100 ns) is held
 * against tick_ns cut likewise.
 */
static bool at_or_after(uint64_t stamp, uint64_t tick_ns)
{
	static const uint64_t grains[] = { 2ull * NS_PER_S, NS_PER_S, 10000000, 1000, 100 };

	for (unsigned i = 0; i < sizeof(grains) / sizeof(grains[0]); i++)
		if (stamp % grains[i] == 0)
			return stamp >= tick_ns - tick_ns % grains[i];
	return stamp >= tick_ns;
}

bool past_may_be_new(const struct statx *st, uint64_t tick_ns)
{
	bool has_birth = st->stx_mask & STATX_BTIME;

	return at_or_after(to_ns(has_birth ? &st->stx_btime : &st->stx_ctime), tick_ns);
}

bool past_may_be_changed(const struct statx *st, uint64_t tick_ns)
{
	return at_or_after(to_ns(&st->stx_ctime), tick_ns);
}

bool past_is_new(const struct statx *st, uint64_t now_ns)
{
	return (st->stx_mask & STATX_BTIME) && to_ns(&st->stx_btime) > now_ns;
}

uint64_t past_dev(const struct statx *st)
{
	return (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor;
}
