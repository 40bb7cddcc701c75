/* What each unit test includes: cmocka, and the headers that it wants before it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define UNIT_N(array) (sizeof(array) / sizeof((array)[0]))
