#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# File systems and partitions on the device: a tree copied in is the same after the device was detached.

load helpers

TREE=/usr/include/linux

setup_file() { host_up 2g; }
teardown_file() { host_down; }
setup() { begin; }
teardown() { finish; }

sums() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha1sum); }

# holds_tree TYPE CHECK...: copy, unmount, detach, attach, compare, check.
holds_tree()
{
	local type=$1

	has_fs "$type" || skip "this kernel has no $type"
	command -v "mkfs.$type" >/dev/null || skip "no mkfs.$type"
	new_image "$T/a" 512m
	attach "$T/a"
	make_fs "$type" "$DEV" "$T/mnt"
	cp -r "$TREE" "$T/mnt/tree"
	head -c 8m /dev/urandom >"$T/mnt/big"
	sums "$T/mnt" >"$T/sums"
	(($(wc -l <"$T/sums") > 300))
	umount "$T/mnt"
	detach
	attach "$T/a"
	"${@:2}" "$DEV"
	mount -t "$type" "$DEV" "$T/mnt"
	sums "$T/mnt" | diff "$T/sums" -
	diff -r "$TREE" "$T/mnt/tree"
	rm -r "$T/mnt/tree"
	fstrim "$T/mnt"
	cmp <(tail -n +1 "$T/mnt/big" | sha1sum | cut -c 1-40) <(sed -n 's/ .*big$//p' "$T/sums")
	umount "$T/mnt"
	detach
	qemu-img check -q -f parallels "$T/a"
}

@test "ext4 holds a tree of files" { holds_tree ext4 e2fsck -fn; }

@test "xfs holds a tree of files" { holds_tree xfs xfs_repair -n; }

@test "btrfs holds a tree of files" { holds_tree btrfs btrfs check --readonly; }

@test "partitions made with sfdisk appear, and come back with the image" {
	new_image "$T/a" 128m
	attach "$T/a"
	sfdisk -q "$DEV" <<<$'label: gpt\nsize=32MiB\nsize=64MiB\n'
	udevadm settle
	wait_for 10 test -b "${DEV}p2"
	[[ $(blockdev --getsize64 "${DEV}p1") == 33554432 && $(blockdev --getsize64 "${DEV}p2") == 67108864 ]]
	[[ $(<"$SYS/${DEV#/dev/}p1/dev") == 182:1 && $(<"$SYS/${DEV#/dev/}p2/dev") == 182:2 ]]
	data write "${DEV}p2" 0 1m 5
	data verify "$DEV" 0 1m 5 && fail "the partition begins at 0"
	detach
	[[ ! -e ${DEV}p1 && ! -e ${DEV}p2 ]]
	attach "$T/a"
	wait_for 10 test -b "${DEV}p2"
	data verify "${DEV}p2" 0 1m 5
	sfdisk -q --delete "$DEV" 2
	udevadm settle
	wait_for 10 test ! -e "${DEV}p2"
	# Stopped: no disk, no partitions.
	stop
	wait_for 10 test ! -e "${DEV}p1"
}
