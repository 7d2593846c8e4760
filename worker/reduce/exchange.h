/*
 * Messages between ranks that are the same in every step: made once, started again and again, never waited for here.
 *
 * The only file besides the team's that speaks MPI. Lengths are bytes, multiples of LS_EXCHANGE_UNIT, so that a message
 * may be far larger than 2^31. Local calls; one thread at a time. A message is known by (sender, receiver, tag); of two
 * with the same three, the first sent is the first received.
 */
#ifndef LS_WORKER_EXCHANGE_H
#define LS_WORKER_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/reduce/team.h"

enum { LS_EXCHANGE_UNIT = 64 };

typedef struct ls_exchange ls_exchange;

/* Collective: messages of one exchange never meet those of another. */
ls_exchange *ls_exchange_create(ls_team *team);
/* Collective; nothing may be under way. NULL is fine. */
void ls_exchange_destroy(ls_exchange *x);

/* Describes a message to or from team rank `peer`; returns its number. `bytes` stays the caller's and must outlive it.
 */
int ls_exchange_send(ls_exchange *x, int peer, int tag, const void *bytes, size_t n_bytes);
int ls_exchange_receive(ls_exchange *x, int peer, int tag, void *bytes, size_t n_bytes);

/* A message whose length changes from one time to the next: at most what its receiver expects. */
int ls_exchange_send_some(ls_exchange *x, int peer, int tag, const void *bytes);
void ls_exchange_start_some(ls_exchange *x, int message, size_t n_bytes);

/* Local: forgets all messages, none of which may be under way. The next one is number 0 again. */
void ls_exchange_clear(ls_exchange *x);

/* Adds up how many messages this exchange has let begin to send, and their bytes, since it was created. */
void ls_exchange_sent(const ls_exchange *x, uint64_t *n_messages, uint64_t *n_bytes);

/* Lets the message begin; the bytes must then be left alone until it is done. */
void ls_exchange_start(ls_exchange *x, int message);
/* Whether it is done (or was never started). Also gives MPI the occasion to get on with all others. */
bool ls_exchange_done(ls_exchange *x, int message);
/* Just gives MPI the occasion: it gets on only inside its own calls, so a rank that waits for anything else must let
 * its messages leave meanwhile. */
void ls_exchange_poke(ls_exchange *x);

#endif
