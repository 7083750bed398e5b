# SPDX-License-Identifier: GPL-2.0-only
# A front end; the kernel's build system and dkms read Kbuild instead.

PREFIX ?= /usr/local
INSTALL_MOD_DIR ?= updates
# Whoever installs below DESTDIR makes a package, and that runs depmod where it is unpacked.
DEPMOD ?= $(if $(DESTDIR),true,depmod)

# The running kernel's headers, else the newest that are installed.
KDIR ?= $(or $(wildcard /lib/modules/$(shell uname -r)/build), \
	$(lastword $(shell ls -d /lib/modules/*/build 2>/dev/null | sort -V)))

VERSION := $(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf)
MODULES := ploop pfmt_ploop1 pfmt_raw pio_direct

# Everything that it takes to build the modules, and nothing that a build leaves behind.
SOURCES := COPYING Kbuild dkms.conf kernel/Kbuild kernel/tests/Kbuild \
	$(wildcard include/uapi/linux/*.h) \
	$(filter-out %.mod.c,$(wildcard kernel/*.[ch] kernel/tests/*.[ch]))

dkms_dir = $(DESTDIR)/usr/src/ploop-$(VERSION)
release = $(if $(KDIR),$(shell $(MAKE) -s --no-print-directory -C $(KDIR) kernelrelease))
module_root = $(DESTDIR)/lib/modules/$(release)

.PHONY: all modules tools install dkms-install uninstall check check-all check-backports crash fuzz bench bench-check check-debug kunit demo bats lint clean help print-sources

all: modules tools		## modules and tools

modules:			## the kernel modules, for KDIR
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules

tools:				## userspace/ploop
	$(MAKE) -C userspace

install: modules tools		## install modules, tools and man page (DESTDIR, PREFIX, INSTALL_MOD_DIR, DEPMOD)
	$(MAKE) -C $(KDIR) M=$(CURDIR) INSTALL_MOD_PATH=$(DESTDIR) INSTALL_MOD_DIR=$(INSTALL_MOD_DIR) \
		DEPMOD=true modules_install
	$(DEPMOD) -b $(DESTDIR)/ $(release)
	$(MAKE) -C userspace install PREFIX=$(PREFIX)

dkms-install:			## hand the sources to dkms, which builds them for every kernel; with DESTDIR only copy them
	install -d $(dkms_dir)
	cp --parents -t $(dkms_dir) $(wildcard $(SOURCES))
ifeq ($(DESTDIR),)
	dkms add -m ploop -v $(VERSION)
	dkms build -m ploop -v $(VERSION)
	dkms install -m ploop -v $(VERSION)
endif

uninstall:			## take back install and dkms-install
ifeq ($(DESTDIR),)
	! dkms status -m ploop -v $(VERSION) 2>/dev/null | grep -q . || dkms remove -m ploop -v $(VERSION) --all
endif
	rm -rf $(dkms_dir)
ifneq ($(KDIR),)
	rm -f $(MODULES:%=$(module_root)/$(INSTALL_MOD_DIR)/kernel/%.ko*)
	[ ! -d $(module_root) ] || rmdir -p --ignore-fail-on-non-empty $(module_root)/$(INSTALL_MOD_DIR)/kernel 2>/dev/null || :
	[ ! -d $(module_root) ] || $(DEPMOD) -b $(DESTDIR)/ $(release)
endif
	$(MAKE) -C userspace uninstall PREFIX=$(PREFIX)

check:				## everything that must be green: lint, suites on 6.1 and 6.12, KUnit, short crash tests and fuzzing
	tests/check.sh

check-all:			## check with every suite on both kernels and all crash tests
	CHECK_ALL=1 tests/check.sh

crash:				## the power-loss matrix: 20 000 states, hours without KVM; goes on where it was stopped
	tests/crash/matrix long 6.12

fuzz:				## 15 minutes each of wrong images and wrong streams; goes on from what earlier runs have learnt
	FUZZ_SECONDS=900 tests/check.sh fuzz

bench:				## what I/O, snapshots and merges cost, against their targets
	tests/bench/io
	tests/bench/read-depth
	tests/bench/snapshot-stall
	tests/bench/merge
	tests/bench/track

bench-check:			## has I/O become dearer against a raw file since tests/bench/io.json?
	tests/bench/io check

check-backports:		## the suites on the newest kernel of Debian 13's backports (7.x)
	CHECK_KERNELS=backports tests/check.sh bats

check-debug:			## the suites of tests/debug-subset on the debug kernel (KASAN, lockdep, kmemleak)
	tests/check.sh debug

kunit:				## the KUnit suites on the debug kernel
	tests/check.sh kunit

bats:				## the suites only, on 6.1 and 6.12
	tests/check.sh bats

lint:				## the checks that need no virtual machine
	tests/check.sh lint

demo:				## the main job, shown on a stock 6.1 kernel in a virtual machine
	tests/demo.sh

clean:				## remove what builds and tests leave, but not the kernels in build/
	@# Not kbuild's own clean: that would empty the kernels in build/ too.
	find . -path ./build -prune -o -path ./.git -prune -o \
		\( -name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' -o -name '.*.cmd' \
		-o -name Module.symvers -o -name modules.order \) -exec rm {} +
	$(MAKE) -C userspace clean
	$(MAKE) -C tests clean
	rm -rf build/modules build/lint build/san build/clang build/check build/log

help:				## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

print-sources:
	@printf '%s\n' $(wildcard $(SOURCES))
