/*
 * What host programs and devices say to each other before a stream begins, as Firecracker and Cloud
 * Hypervisor have it: "CONNECT PORT\n" and "OK PORT\n". They take small letters and more blanks, too.
 *
 * Runs in: worker. Trusts: nothing; a host program writes what it likes.
 */
#pragma once

#include <stdint.h>

enum {
	LINE_MAX_LEN = 32, /* of a CONNECT line with its newline */
	LINE_MORE = 0,	   /* no newline yet, and it may still become one */
	LINE_BAD = -1,
};

/* The length of the line at text[0..len), and the port in it; or LINE_MORE, LINE_BAD. */
int line_parse(const uint8_t *text, uint32_t len, uint32_t *ret_port);

/* "OK PORT\n" into text, which has room for LINE_MAX_LEN; its length. */
uint32_t line_answer(uint8_t *text, uint32_t port);
