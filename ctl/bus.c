/*
 * Calls to vmdevd, and what their errors mean to a person and to an exit status.
 *
 * Runs in: vmdevctl. Trusts: see ctl.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "devices/base/error.h"

/* A start or stop may take as long as a disk drains; vmdevd's own time-outs end it before this. */
#define CALL_TIMEOUT_USEC (120 * UINT64_C(1000000))

static enum ctl_exit tell_connect_error(const struct ctl *ctl, int r)
{
	switch (-r) {
	case EACCES:
	case EPERM:
		ctl_error("may not talk to vmdevd at %s: use sudo, or become a member of the group "
			  "vmdev",
			  ctl->address);
		return CTL_NOT_PERMITTED;
	case ENOENT:
	case ECONNREFUSED:
		ctl_error("vmdevd does not run (nothing listens at %s): start it with `systemctl "
			  "start vmdevd`, or name the bus of another one with --address",
			  ctl->address);
		return CTL_NOT_FOUND;
	default:
		ctl_error("cannot talk to vmdevd at %s: %s", ctl->address, error_text(r));
		return CTL_FAILED;
	}
}

enum ctl_exit ctl_connect(struct ctl *ctl)
{
	int r;

	if (ctl->bus)
		return CTL_DONE;
	/* sd-bus takes what it does not know for a socket that nobody listens at. */
	r = strchr(ctl->address, ':') ? sd_bus_new(&ctl->bus) : -EINVAL;
	if (r >= 0)
		r = sd_bus_set_address(ctl->bus, ctl->address);
	if (r == -EINVAL) {
		ctl_error("--address=%s is no address; expected the form unix:path=/run/vmdev/bus",
			  ctl->address);
		ctl->bus = sd_bus_unref(ctl->bus);
		return CTL_USAGE;
	}
	if (r >= 0)
		r = sd_bus_start(ctl->bus);
	if (r < 0) {
		ctl->bus = sd_bus_unref(ctl->bus);
		return tell_connect_error(ctl, r);
	}
	(void)sd_bus_set_method_call_timeout(ctl->bus, CALL_TIMEOUT_USEC);
	return CTL_DONE;
}

enum ctl_exit ctl_new_message(struct ctl *ctl, const char *method, sd_bus_message **ret)
{
	enum ctl_exit exit = ctl_connect(ctl);
	int r;

	if (exit)
		return exit;
	r = sd_bus_message_new_method_call(ctl->bus, ret, "org.vmdev", CTL_PATH, CTL_INTERFACE,
					   method);
	if (r >= 0)
		return CTL_DONE;
	ctl_error("cannot make a call: %s", error_text(r));
	return CTL_FAILED;
}

static enum ctl_exit tell_call_error(struct ctl *ctl, const sd_bus_error *error, int r)
{
	static const struct {
		const char *name;
		enum ctl_exit exit;
	} rows[] = {
		{ "org.vmdev.Error.NotFound", CTL_NOT_FOUND },
		{ "org.vmdev.Error.NotPermitted", CTL_NOT_PERMITTED },
		{ SD_BUS_ERROR_ACCESS_DENIED, CTL_NOT_PERMITTED },
		{ SD_BUS_ERROR_SERVICE_UNKNOWN, CTL_NOT_FOUND },
	};

	if (r == -ENOTCONN || r == -ECONNRESET) {
		ctl_error("vmdevd has closed the connection: see `journalctl -u vmdevd`");
		return CTL_FAILED;
	}
	if (sd_bus_error_has_name(error, "org.vmdev.Error.BadDocument"))
		fprintf(stderr, "%s\n", error->message); /* FILE:LINE: ..., as compilers do it */
	else
		ctl_error("%s", error->message ? error->message : error_text(r));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (sd_bus_error_has_name(error, rows[i].name))
			return rows[i].exit;
	return CTL_FAILED;
}

enum ctl_exit ctl_call_message(struct ctl *ctl, sd_bus_message *message, json_object **ret)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus_message *reply = NULL;
	enum ctl_exit exit = CTL_DONE;
	const char *text;
	int r;

	r = sd_bus_call(ctl->bus, message, CALL_TIMEOUT_USEC, &error, &reply);
	if (r >= 0)
		r = sd_bus_message_read(reply, "s", &text);
	if (r < 0) {
		/* Connecting goes on in the background, so this may be its error. */
		exit = sd_bus_error_is_set(&error) || r == -ENOTCONN || r == -ECONNRESET
			       ? tell_call_error(ctl, &error, r)
			       : tell_connect_error(ctl, r);
	} else {
		*ret = json_tokener_parse(text);
		if (!*ret) {
			ctl_error("vmdevd's answer is not JSON; is it of another version?");
			exit = CTL_FAILED;
		}
	}
	sd_bus_error_free(&error);
	sd_bus_message_unref(reply);
	sd_bus_message_unref(message);
	return exit;
}

enum ctl_exit ctl_call(struct ctl *ctl, const char *method, const char *selector, json_object **ret)
{
	sd_bus_message *message = NULL;
	enum ctl_exit exit = ctl_new_message(ctl, method, &message);
	int r;

	if (exit)
		return exit;
	r = sd_bus_message_append(message, "s", selector);
	if (r < 0) {
		sd_bus_message_unref(message);
		ctl_error("%s: %s", selector, error_text(r));
		return r == -EINVAL ? CTL_USAGE : CTL_FAILED;
	}
	return ctl_call_message(ctl, message, ret);
}
