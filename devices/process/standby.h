/*
 * A worker that was cloned ahead: it stands by until it is its turn.
 *
 * Runs in: keeper and the worker-to-be. Trusts: each other.
 *
 * Half of a worker's start does not depend on how the last one ended: threads, the model, memory
 * for requests, the I/O rings mapped. So when the keeper has a fresh address space (renew.h) it
 * clones the next worker at once, and that one gets so far and waits. When the last worker is dead,
 * it is given its turn, and only then looks at the state, the session and the guest.
 *
 * The turn is a word in a page that the keeper makes before it clones the stand-by: they alone have
 * it mapped. The worker at work was cloned before that page was there.
 *
 * What a worker does first when it has its turn is to write memory that it has not written yet, and
 * each page costs it a fault. So a stand-by has touched what it can (base/touch.h).
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

/*
 * In the keeper: before it clones one, when it gives it its turn (dead or alive), and when it has
 * lost it. 0 or a negative errno.
 */
int standby_begin(void);
void standby_give_turn(void);
void standby_end(void);

/* In the stand-by's main thread. Returns when it has its turn. */
void standby_await_turn(void);
