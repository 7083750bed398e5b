// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module ploop: init, exit, parameters.
 */
#include "ploop.h"

#include <linux/init.h>
#include <linux/module.h>

/* Old clients ask for this file's existence before they make version 2 images. */
static int large_disk_support = 1;
module_param(large_disk_support, int, 0444);
MODULE_PARM_DESC(large_disk_support, "images of version 2 are supported (always 1)");

/** ploop_dense_default: ptune/dense of new devices */
bool ploop_dense_default;
module_param_named(dense, ploop_dense_default, bool, 0644);
MODULE_PARM_DESC(dense, "new devices make images without holes (for OpenVZ tools)");

static int __init ploop_init(void)
{
	int err;

	ploop_sysfs_init();
	err = ploop_request_init();
	if (err)
		return err;
	err = ploop_fast_setup();
	if (err)
		goto out_request_exit;
	err = ploop_devices_init();
	if (err)
		goto out_fast_cleanup;
	err = ploop_ctldev_init();
	if (err)
		goto out_devices_exit;
	return 0;

out_devices_exit:
	ploop_devices_exit();
out_fast_cleanup:
	ploop_fast_cleanup();
out_request_exit:
	ploop_request_exit();
	return err;
}

static void __exit ploop_exit(void)
{
	ploop_ctldev_exit();
	ploop_devices_exit();
	ploop_copy_cleanup();
	ploop_fast_cleanup();
	ploop_request_exit();
}

module_init(ploop_init);
module_exit(ploop_exit);
MODULE_DESCRIPTION("ploop: block device over stacked image files");
MODULE_AUTHOR("ploop authors");
MODULE_VERSION(PLOOP_VERSION);
MODULE_ALIAS_BLOCKDEV_MAJOR(PLOOP_MAJOR);
MODULE_LICENSE("GPL");
