/*
 * The verb attach: the arguments with which a VMM attaches a VM's devices.
 *
 * Runs in: vmdevctl. Trusts: see ctl.h.
 */
#include <string.h>

#include "ctl/ctl.h"

/*
 * QEMU shares the guest's memory with the back-end, so it has to be a memfd. SIZE is the guest's to
 * say. vmdev keeps the connection over every recovery: no reconnect option is needed.
 */
static void print_qemu(json_object *devices)
{
	puts("-object memory-backend-memfd,id=mem,size=SIZE,share=on \\\n"
	     "-machine memory-backend=mem");
	for (size_t i = 0; i < json_object_array_length(devices); i++) {
		json_object *device = json_object_array_get_idx(devices, i);
		const char *name = ctl_text(device, "device", "?");

		/* An id of QEMU's begins with a letter, a device's name need not. */
		printf("-chardev socket,id=vmdev-%s,path=%s \\\n", name,
		       ctl_text(device, "socket", "?"));
		printf("-device "
		       "vhost-user-blk-pci,chardev=vmdev-%s,num-queues=%lld,queue-size=%lld\n",
		       name, (long long)ctl_number(device, "queues"),
		       (long long)ctl_number(device, "queue_size"));
	}
}

/* The number behind the colon is the device type, VIRTIO 1.3 §5. */
static void print_uml(json_object *devices)
{
	for (size_t i = 0; i < json_object_array_length(devices); i++)
		printf("virtio_uml.device=%s:2\n",
		       ctl_text(json_object_array_get_idx(devices, i), "socket", "?"));
}

static enum ctl_exit run_attach(struct ctl *ctl, int argc, char **argv)
{
	static const struct {
		const char *vmm;
		void (*print)(json_object *devices);
	} rows[] = { { "qemu", print_qemu }, { "uml", print_uml } };
	json_object *devices;
	enum ctl_exit exit;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].vmm, argv[0]) != 0)
			continue;
		exit = ctl_call(ctl, "List", argv[1], &devices);
		if (exit)
			return exit;
		rows[i].print(devices);
		json_object_put(devices);
		return CTL_DONE;
	}
	ctl_error("attach: \"%s\" is no VMM that is known here; expected qemu or uml", argv[0]);
	return CTL_USAGE;
}

const struct verb attach_verbs[] = {
	{ "attach", "qemu|uml VM[/DEVICE]", "print the arguments that attach devices to a VMM", 2,
	  2, run_attach },
	{ 0 },
};
