/* Fatal signals. All here but the functions that begin may run in a signal handler. */
#include "devices/process/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/process/contract.h"

enum { SIGNAL_STACK_LEN = 32 << 10 };

static struct state *fault_state; /* NULL: nothing is to be left there */
static const struct state_thread *fault_threads;
static const struct memory *fault_memory;
static uintptr_t fault_watched;
static size_t fault_watched_len;
static _Thread_local uint32_t fault_thread;

static int exit_status(enum state_end end)
{
	switch (end) {
	case STATE_END_STOPPED:
		return CONTRACT_EXIT_STOPPED;
	case STATE_END_SESSION:
	case STATE_END_MEMORY:
		return CONTRACT_EXIT_SESSION;
	case STATE_END_STATE:
		return CONTRACT_EXIT_STATE;
	case STATE_END_HOST:
		return CONTRACT_EXIT_HOST;
	case STATE_END_NONE:
	case STATE_END_FAULT:
		break;
	}
	return CONTRACT_EXIT_FAULT;
}

_Noreturn void fault_leave(struct state *state, enum state_end end)
{
	__atomic_store_n(&state->end, end, __ATOMIC_RELEASE);
	syscall(SYS_exit_group, exit_status(end));
	__builtin_unreachable();
}

/* Best effort: the map may be changing in another thread, whose pointers are read once each. */
static bool in_guest_memory(const void *address)
{
	uintptr_t p = (uintptr_t)address;

	for (uint32_t i = 0; i < MEMORY_MAX_REGIONS; i++) {
		const struct memory_region *r = &fault_memory->regions[i];
		uintptr_t start = (uintptr_t)r->map;

		if (i < fault_memory->n_regions && p >= start && p - start < r->map_len)
			return true;
	}
	if (p - fault_watched < fault_watched_len)
		return true;
	p -= (uintptr_t)fault_memory->log.map;
	return fault_memory->log.map && p < fault_memory->log.map_len;
}

static void handle(int signo, siginfo_t *info, void *context)
{
	bool kernel_sent = info->si_code > 0;
	struct state_fault *f;

	if (!fault_state)
		syscall(SYS_exit_group, CONTRACT_EXIT_HOST);
	f = &fault_state->fault;
	if (signo == SIGBUS && kernel_sent && in_guest_memory(info->si_addr))
		fault_leave(fault_state, STATE_END_MEMORY);
	f->thread = fault_thread;
	f->code = info->si_code;
	f->address = (uint64_t)(uintptr_t)info->si_addr;
	f->syscall = signo == SIGSYS ? (uint32_t)info->si_syscall + 1 : 0;
	f->suspect = fault_thread < STATE_THREADS ? fault_threads[fault_thread].suspect : 0;
	f->counted = 0;
	__atomic_store_n(&f->signo, (uint32_t)signo, __ATOMIC_RELEASE);
	fault_leave(fault_state, STATE_END_FAULT);
}

void fault_watch(const void *start, size_t len)
{
	fault_watched = (uintptr_t)start;
	fault_watched_len = len;
}

void fault_begin(struct state *state, const struct state_thread *threads,
		 const struct memory *memory)
{
	fault_threads = threads;
	fault_memory = memory;
	fault_state = state;
}

int fault_init(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS };
	struct sigaction sa = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigfillset(&sa.sa_mask);
	for (uint32_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		if (sigaction(signals[i], &sa, NULL) < 0)
			return -errno;
	return 0;
}

int fault_thread_init(uint32_t thread)
{
	stack_t stack = { .ss_size = SIGNAL_STACK_LEN };

	fault_thread = thread;
	stack.ss_sp = mmap(NULL, SIGNAL_STACK_LEN, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack.ss_sp == MAP_FAILED)
		return -errno;
	return sigaltstack(&stack, NULL) < 0 ? -errno : 0;
}
