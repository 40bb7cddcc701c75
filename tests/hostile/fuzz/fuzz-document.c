/*
 * A document: any bytes at all. What is refused is refused with words that can be shown; what is
 * taken is safe in paths and arguments; and json-c takes whatever our own scanner has passed.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"
#include "daemon/syntax.h"
#include "devices/base/wire.h"
#include "tests/hostile/fuzz/fuzz.h"

#define FILE_NAME "fuzz.json"

/* A message's line begins with the file, and is UTF-8 without control characters. */
static void check_line(const char *line)
{
	struct wire_reader r = wire_reader(line, strlen(line));
	char copy[2048];

	CLAIM(strncmp(line, FILE_NAME ":", strlen(FILE_NAME ":")) == 0);
	(void)wire_get_text(&r, copy, sizeof(copy));
	CLAIM(wire_done(&r));
}

static void check_device(const struct device_config *device)
{
	char **argv = device_config_argv(device);

	CLAIM(config_name_is_valid(device->name));
	CLAIM(device->path && device->path[0] == '/');
	CLAIM(device->queues >= 1 && device->queues <= 64);
	CLAIM(device->queue_size >= 2 && device->queue_size <= 1024);
	CLAIM(argv && argv[0]);
	strv_free(argv);
}

static void check_grammar(const char *text, size_t len)
{
	json_tokener *tokener = json_tokener_new_ex(SYNTAX_MAX_DEPTH + 1);
	struct syntax_error error;
	struct syntax syntax;
	json_object *object;

	if (syntax_scan(text, len, &syntax, &error) == 0) {
		json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
		object = json_tokener_parse_ex(tokener, text, (int)len);
		CLAIM(json_tokener_get_error(tokener) == json_tokener_success ||
		      json_tokener_get_error(tokener) == json_tokener_continue);
		json_object_put(object);
		syntax_done(&syntax);
	}
	json_tokener_free(tokener);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* Of exactly its length, so that a sanitizer sees a byte too far. */
	char *text = malloc(len ? len : 1);
	struct config_source source = {
		.file = FILE_NAME,
		.text = text,
		.len = len,
		.runtime_dir = "/run/vmdev",
	};
	struct config_errors errors = { 0 };
	struct vm_config *vm = NULL;
	int r;

	CLAIM(text);
	if (len)
		memcpy(text, data, len);
	check_grammar(text, len);
	r = config_parse(&source, &vm, &errors);
	CLAIM(r == 0 || r == -EINVAL);
	CLAIM((r == 0) == (errors.n == 0) && (r == 0) == (vm != NULL));
	for (size_t i = 0; i < errors.n; i++)
		check_line(errors.lines[i]);
	for (size_t i = 0; vm && i < vm->n_devices; i++)
		check_device(&vm->devices[i]);
	vm_config_free(vm);
	config_errors_done(&errors);
	free(text);
	return 0;
}
