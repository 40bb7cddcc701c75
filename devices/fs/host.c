/* Calls that the host may let wait. See host.h. */
#include "devices/fs/host.h"

/* Of threads that no watchdog looks at from here, the main thread among them. */
static struct state_thread nobody;

_Thread_local struct state_thread *host_thread = &nobody;
