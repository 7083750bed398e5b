// SPDX-License-Identifier: GPL-2.0-only
/*
 * Issues ioctls of the write tracker, and prints the outcome of each: OK or a
 * range, or the name of the errno. The exit status is that of the last one.
 */
#include <sys/ioctl.h>

#include <linux/ploop.h>

static const char usage[] =
	"Usage: track DEV OP...   in one process, which owns what it begins; OP is one of\n"
	"       init read         print START END\n"
	"       setpos=BYTES stop abort freeze thaw\n"
	"       null              init without room for the answer\n"
	"       close             the device, and live on\n"
	"       hold              wait until stdin ends\n";

#include "util.h"

static int extent(int dev, unsigned long nr)
{
	struct ploop_track_extent ext = { };

	if (ioctl(dev, nr, &ext))
		return outcome(-1);
	printf("%llu %llu\n", (unsigned long long)ext.start, (unsigned long long)ext.end);
	return 0;
}

static int one(int dev, const char *op)
{
	static const struct {
		const char *name;
		unsigned long nr;
	} plain[] = {
		{ "stop", PLOOP_IOC_TRACK_STOP }, { "abort", PLOOP_IOC_TRACK_ABORT },
		{ "freeze", PLOOP_IOC_FREEZE }, { "thaw", PLOOP_IOC_THAW },
	};
	unsigned long long pos;
	__u64 arg;

	if (!strcmp(op, "init"))
		return extent(dev, PLOOP_IOC_TRACK_INIT);
	if (!strcmp(op, "read"))
		return extent(dev, PLOOP_IOC_TRACK_READ);
	if (!strcmp(op, "null"))
		return outcome(ioctl(dev, PLOOP_IOC_TRACK_INIT, NULL));
	if (!strcmp(op, "hold"))
		return hold();
	if (!strcmp(op, "close"))
		return close(dev);
	if (set_number(op, "setpos", &pos)) {
		arg = pos;
		return outcome(ioctl(dev, PLOOP_IOC_TRACK_SETPOS, &arg));
	}
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (!strcmp(op, plain[i].name))
			return outcome(ioctl(dev, plain[i].nr, 0));
	bad_usage();
}

int main(int argc, char *argv[])
{
	int dev, rc = 0;

	if (argc < 3)
		bad_usage();
	dev = xopen(argv[1], O_RDONLY);
	for (int i = 2; i < argc; i++)
		rc = one(dev, argv[i]);
	return rc;
}
