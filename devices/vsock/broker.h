/*
 * Asking vmdevd for connections (process/contract.h: enum contract_vsock_msg).
 *
 * Runs in: worker, one I/O thread. Trusts: vmdevd, or the helper of a program run by hand.
 *
 * A question has been put if and only if the kernel has stored its msg_len (HAND_ASK); an answer is
 * received into the state, its descriptor with it, and is there until it has been acted on. Answers
 * name the connection by its serial, which is never used twice.
 */
#pragma once

#include "devices/vsock/conn.h"

/* Put the questions that wait. */
void broker_ask(struct vsock *v);

/* Read what vmdevd says; the number of letters. */
uint32_t broker_read(struct vsock *v);

void broker_recover_ask(struct vsock *v, struct conn *c);

/* What was received, and perhaps acted on already. */
void broker_recover_letter(struct vsock *v);

/* The descriptor in a letter that has not been acted on; -1: none. */
int broker_letter_fd(const struct letter *l);
