/*
 * Texts for people and for D-Bus. See text.h.
 *
 * Runs in: vmdevd. Trusts: nothing.
 */
#include "daemon/text.h"

#include <string.h>

#include "devices/base/scope.h"
#include "devices/base/wire.h"

void text_clean(char *text)
{
	scope_free char *copy = strdup(text);
	struct wire_writer w = wire_writer(text, strlen(text)); /* never longer than it was */

	if (copy)
		wire_put_text(&w, copy);
	*w.p = '\0';
}
