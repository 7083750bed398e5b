#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The file systems that images may lie on: xfs, btrfs, tmpfs, 4 KiB sectors, none that cannot do direct I/O.

load helpers

setup_file() { host_up 1g; }
teardown_file() { host_down; }
setup() { begin; }

teardown()
{
	drop_devices
	[[ ! ${SMALL:-} ]] || small_host_down
	finish
}

# use DIR: everything once, on an image there.
use()
{
	new_image "$1/low" 64m
	new_image "$1/top" 64m
	attach "$1/low"
	data write "$DEV" 0 8m 1
	data write "$DEV" 20m 4k 1
	detach
	attach "$1/low" "$1/top"
	data write "$DEV" 1m 12k 2
	data write "$DEV" 4m 1m 3
	blkdiscard -z -o 6m -l 64k "$DEV"
	data write "$DEV" 30m 2m 4
	blkdiscard -o 31m -l 1m "$DEV"
	detach
	attach "$1/low" "$1/top"
	data verify "$DEV" 0 1m 1
	data verify "$DEV" 1m 12k 2
	data verify "$DEV" $((1048576 + 12288)) $((3 * 1048576 - 12288)) 1
	data verify "$DEV" 4m 1m 3
	data verify "$DEV" 6m 64k 0
	data verify "$DEV" 20m 4k 1
	data verify "$DEV" 30m 1m 4
	data verify "$DEV" 31m 1m 0
	detach
	qemu-img check -q -f parallels "$1/top"
}

@test "images on xfs" {
	has_fs xfs || skip "this kernel has no xfs"
	small_host xfs 400m
	use "$T/small"
}

@test "images on btrfs, with checksums and without" {
	has_fs btrfs || skip "this kernel has no btrfs"
	small_host btrfs 400m
	mkdir "$T/small/cow" "$T/small/nocow"
	chattr +C "$T/small/nocow"
	use "$T/small/cow"
	use "$T/small/nocow"
	lsattr "$T/small/nocow/top" | grep -q C
}

@test "btrfs: pages that change during direct writes leave no wrong checksum" {
	has_fs btrfs || skip "this kernel has no btrfs"
	small_host btrfs 400m
	new_image "$T/small/a" 64m
	attach "$T/small/a"
	# Once into new clusters, then in place.
	data scribble "$DEV" 0 4m 5
	dd if="$DEV" of=/dev/null bs=1M count=4 status=none
	detach
	cat "$T/small/a" >/dev/null
	umount "$T/small"
	mount "$SMALL" "$T/small"
	cat "$T/small/a" >/dev/null
	btrfs scrub start -B "$T/small" | tee /dev/stderr | grep -q 'no errors found'
	fails grep -E 'csum failed|csum error|csum mismatch' <(kernel_log)
}

@test "images on tmpfs, where it takes direct I/O" {
	mkdir "$T/small"
	mount -t tmpfs -o size=400m tmpfs "$T/small"
	new_image "$T/small/probe" 16m
	if ! dd if="$T/small/probe" of=/dev/null bs=4k count=1 iflag=direct status=none 2>/dev/null; then
		new_device
		expect EOPNOTSUPP "$DEV" add "$T/small/probe" ro
		kernel_log | grep -q 'ploop.*probe.*direct I/O'
		umount "$T/small"
		skip "tmpfs of $(uname -r) has no direct I/O: refused with a clear error"
	fi
	use "$T/small"
	umount "$T/small"
}

@test "a host with 4 KiB sectors gives a device with 4 KiB blocks" {
	small_host ext4 400m -b 4096
	[[ $(blockdev --getss "$SMALL") == 4096 ]]
	new_image "$T/small/a" 64m
	new_image "$T/a" 64m
	attach "$T/small/a"
	[[ $(blockdev --getss "$DEV") == 4096 ]]
	data write "$DEV" 0 1m 1
	data write "$DEV" $((1048576 + 4096)) 4k 2
	data verify "$DEV" 0 1m 1
	data verify "$DEV" 1m 4k 0
	data verify "$DEV" $((1048576 + 4096)) 4k 2
	fails data write "$DEV" 512 512 1 512
	detach
	# The strictest delta counts.
	attach "$T/small/a" "$T/a"
	[[ $(blockdev --getss "$DEV") == 4096 ]]
	data verify "$DEV" 0 1m 1
	detach
	attach "$T/a"
	[[ $(blockdev --getss "$DEV") == 512 ]]
	detach
}

@test "an image on a file system of another ploop device" {
	new_image "$T/a" 64m
	attach "$T/a"
	mkfs.ext4 -q -F "$DEV"
	mkdir "$T/inner"
	mount "$DEV" "$T/inner"
	local outer=$DEV
	# One inside the other.
	new_image "$T/inner/b" 16m
	attach "$T/inner/b"
	data write "$DEV" 0 1m 1
	data verify "$DEV" 0 1m 1
	detach
	umount "$T/inner"
	detach "$outer"
}
