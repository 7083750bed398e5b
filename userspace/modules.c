// SPDX-License-Identifier: GPL-2.0-only
#include "modules.h"

#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "process.h"
#include "report.h"
#include "sysfs.h"

static int load(const char *name)
{
	char *const argv[] = { "modprobe", (char *)name, NULL };
	char path[PLOOP_SYSFS_PATH];
	struct utsname system;
	int status, rc;

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	if (!access(path, F_OK))
		return 0;
	rc = ploop_process_run(argv, &status);
	if (rc || !status)
		return rc;
	uname(&system);
	return ploop_fail(PLOOP_EXIT_DEVICE,
			  "cannot load module %s: the ploop modules are not installed for kernel %s, or were refused: run `make install` or `dkms autoinstall` for this kernel, or see dmesg",
			  name, system.release);
}

/**
 * ploop_modules_load() - load the driver and what an image needs
 * @ploop1: there is an image of format ploop1
 * @raw: there is an image of format raw
 *
 * Return: 0 or an exit code.
 */
int ploop_modules_load(bool ploop1, bool raw)
{
	int rc;

	if (geteuid())
		return ploop_fail(PLOOP_EXIT_DEVICE,
				  "attaching an image needs root: run this with sudo");
	rc = load("ploop");
	if (!rc)
		rc = load("pio_direct");
	if (!rc && ploop1)
		rc = load("pfmt_ploop1");
	if (!rc && raw)
		rc = load("pfmt_raw");
	return rc;
}
