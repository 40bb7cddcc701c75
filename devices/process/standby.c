/* How a stand-by gets its turn. See standby.h. */
#include "devices/process/standby.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE_LEN = 4096 };

static uint32_t *turn; /* futex: 1: it has come. NULL: there is no stand-by to be given one */

int standby_begin(void)
{
	void *page =
		mmap(NULL, PAGE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return -errno;
	turn = page;
	return 0;
}

void standby_end(void)
{
	if (turn)
		munmap(turn, PAGE_LEN);
	turn = NULL;
}

void standby_give_turn(void)
{
	__atomic_store_n(turn, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, turn, FUTEX_WAKE, 1, NULL, NULL, 0);
	standby_end();
}

void standby_await_turn(void)
{
	while (!__atomic_load_n(turn, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, turn, FUTEX_WAIT, 0, NULL, NULL, 0);
	standby_end();
}
