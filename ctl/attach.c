/*
 * The verb attach: the arguments with which a VMM attaches a VM's devices.
 *
 * Runs in: vmdevctl. Trusts: see ctl.h.
 *
 * Each VMM has a function that makes an array of words. It is printed as JSON, or so that a shell
 * takes it: an option and its value on one line, and each line goes on to the next.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "daemon/config.h"
#include "devices/base/scope.h"

static void add(json_object *words, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(json_object *words, const char *format, ...)
{
	scope_free char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (text)
		json_object_array_add(words, json_object_new_string(text));
}

/* As the value of one of QEMU's options: a comma would end it, two are one. */
static char *qemu_value(const char *text)
{
	char *value = malloc(2 * strlen(text) + 1), *p = value;

	for (; value && *text; text++) {
		if (*text == ',')
			*p++ = ',';
		*p++ = *text;
	}
	if (value)
		*p = '\0';
	return value;
}

/* A network card of QEMU's is always the same device; the back-end belongs to its netdev. */
static void add_qemu_net(json_object *words, json_object *device, const char *name)
{
	long long queues = (long long)ctl_number(device, "queues");
	long long size = (long long)ctl_number(device, "queue_size");

	if (size < CONFIG_NET_MIN_QUEUE_SIZE) /* QEMU would refuse it */
		size = CONFIG_NET_MIN_QUEUE_SIZE;
	add(words, "-netdev");
	add(words, "vhost-user,id=vmdev-net-%s,chardev=vmdev-%s,queues=%lld", name, name, queues);
	add(words, "-device");
	add(words,
	    "virtio-net-pci,netdev=vmdev-net-%s,mac=%s,mq=%s,rx_queue_size=%lld,tx_queue_size=%lld",
	    name, ctl_text(device, "mac", "?"), queues > 1 ? "on" : "off", size, size);
}

static void add_qemu_device(json_object *words, json_object *device, const char *name)
{
	const char *type = ctl_text(device, "type", "?");
	long long queues = (long long)ctl_number(device, "queues");
	long long size = (long long)ctl_number(device, "queue_size");
	scope_free char *tag = qemu_value(ctl_text(device, "tag", "?"));

	if (strcmp(type, "net") == 0) {
		add_qemu_net(words, device, name);
		return;
	}
	add(words, "-device");
	if (strcmp(type, "blk") == 0)
		add(words, "vhost-user-blk-pci,chardev=vmdev-%s,num-queues=%lld,queue-size=%lld",
		    name, queues, size);
	else if (strcmp(type, "fs") == 0)
		add(words,
		    "vhost-user-fs-pci,chardev=vmdev-%s,tag=%s,num-request-queues=%lld,"
		    "queue-size=%lld",
		    name, tag ? tag : "?", queues, size);
	else
		add(words, "vhost-user-%s-pci,chardev=vmdev-%s", type, name);
}

/*
 * QEMU shares the guest's memory with the back-end, so it has to be a memfd. SIZE is the guest's to
 * say. vmdev keeps the connection over every recovery: no reconnect option is needed.
 */
static void add_qemu(json_object *words, json_object *devices)
{
	add(words, "-object");
	add(words, "memory-backend-memfd,id=mem,size=SIZE,share=on");
	add(words, "-machine");
	add(words, "memory-backend=mem");
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);
		const char *name = ctl_text(device, "device", "?");
		scope_free char *socket = qemu_value(ctl_text(device, "socket", "?"));

		/* An id of QEMU's begins with a letter, a device's name need not. */
		add(words, "-chardev");
		add(words, "socket,id=vmdev-%s,path=%s", name, socket ? socket : "?");
		add_qemu_device(words, device, name);
	}
}

/* VIRTIO 1.3 §5. */
static int virtio_id(const char *type)
{
	static const struct {
		const char *type;
		int id;
	} rows[] = { { "net", 1 }, { "blk", 2 }, { "vsock", 19 }, { "fs", 26 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].type, type) == 0)
			return rows[i].id;
	return 0;
}

/* The number behind the colon is the device type. */
static void add_uml(json_object *words, json_object *devices)
{
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);

		add(words, "virtio_uml.device=%s:%d", ctl_text(device, "socket", "?"),
		    virtio_id(ctl_text(device, "type", "?")));
	}
}

static void print_words(json_object *words)
{
	bool is_option = false;

	for (size_t i = 0; i < json_object_array_length(words); i++) {
		const char *word = json_object_get_string(json_object_array_get_idx(words, i));
		scope_free char *quoted = ctl_quote(word);

		printf("%s%s", i == 0 ? "" : is_option ? " " : " \\\n", quoted ? quoted : word);
		is_option = word[0] == '-';
	}
	putchar('\n');
}

static enum ctl_exit run_attach(struct ctl *ctl, int argc, char **argv)
{
	static const struct {
		const char *vmm;
		void (*add)(json_object *words, json_object *devices);
	} rows[] = { { "qemu", add_qemu }, { "uml", add_uml } };
	json_object *devices, *words;
	enum ctl_exit exit;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].vmm, argv[0]) != 0)
			continue;
		exit = ctl_call(ctl, "List", argv[1], &devices);
		if (exit)
			return exit;
		words = json_object_new_array();
		rows[i].add(words, devices);
		if (ctl->json)
			ctl_print_json(words);
		else
			print_words(words);
		json_object_put(words);
		json_object_put(devices);
		return CTL_DONE;
	}
	ctl_error("attach: \"%s\" is no VMM that is known here; expected qemu or uml", argv[0]);
	return CTL_USAGE;
}

const struct verb attach_verbs[] = {
	{ "attach", "qemu|uml VM[/DEVICE]", "print the arguments that attach devices to a VMM", 2,
	  2, run_attach, .takes_json = true, .only_prints = true },
	{ 0 },
};
