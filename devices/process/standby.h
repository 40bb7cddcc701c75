/*
 * A worker that was cloned ahead: it stands by until it is its turn.
 *
 * Runs in: keeper and the worker-to-be. Trusts: each other.
 *
 * Half of a worker's start does not depend on how the last one ended: threads, the model, memory
 * for requests, the I/O rings mapped. So when the keeper has a fresh address space (renew.h) it
 * clones the next worker at once, and that one gets so far and waits. When the last worker is dead,
 * it is given its turn by a signal, and only then looks at the state, the session and the guest.
 *
 * The turn is a signal because nobody else can send one: no worker's filter allows kill(), and who
 * sent it is looked at. Words that a worker could write would do it as well for honest ones.
 *
 * Invariants:
 *  1. Until its turn it reads nothing that a guest can have written (of the state: whether there
 *     are I/O rings, and their parameters, which are checked), has none of the guest's memory
 *     mapped, and makes no descriptor. The table is the keeper's and the worker's: it keeps nothing
 *     open that those do not.
 *  2. Until its turn it writes nothing that the worker at work looks at: of the state, its own bank
 *     of thread words (state.h) and its companion's slot (aside.h). If it fails it is gone without
 *     a word there: the next worker is then started as if there had been none.
 *  3. There is one at most, and none from another session: between sessions the keeper ends it
 *     before it makes a fresh state.
 *  4. Its addresses are known to nobody before its turn, as it is cloned from a fresh address
 *     space, and nobody else is cloned from that.
 */
#pragma once

#include <sys/types.h>

/* In the keeper, before it clones anyone: the signal is held, also in what is cloned. */
void standby_hold(void);

/* In the stand-by's main thread. Returns when this keeper has given it its turn. */
void standby_await_turn(pid_t keeper);

/* In the keeper. 0 or a negative errno: it is not there any more. */
int standby_give_turn(pid_t standby);
