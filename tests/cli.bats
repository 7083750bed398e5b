#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The ploop program: the main job, what it refuses and why, what it says, and that failures leave nothing behind.

load helpers

PLOOP=$TOP/userspace/ploop
IN_USE=44

setup_file() { host_up 2g; }
teardown_file() { host_down; }

setup()
{
	begin
	cd "$T" || return
	mkdir mnt
}

teardown()
{
	cd /
	finish
}

ploop() { "$PLOOP" "$@" 3>&-; }

# exits CODE ARG...: ploop ends so; its messages go to $T/said.
exits()
{
	local want=$1 got=0

	shift
	ploop "$@" >said 2>&1 || got=$?
	[[ $got == "$want" ]] || fail "ploop $*: exit status $got instead of $want: $(<said)"
}

no_devices() { ! compgen -G '/sys/block/ploop*' >/dev/null; }

# header FILE: its first 64 bytes in hexadecimal.
header() { od -An -v -tx1 -N64 "$1" | tr -d ' \n'; }

# mounted_device: the device that is mounted on mnt, without its partition.
mounted_device() { findmnt -no SOURCE "$T/mnt" | sed 's/p1$//'; }

some_files()
{
	mkdir -p "$1/dir/sub"
	data_file "$1/one" 1
	data_file "$1/dir/two" 2
	data_file "$1/dir/sub/three" 3
	ln -s one "$1/link"
}

data_file() { head -c $((300000 * $2)) /dev/urandom >"$1"; }

sums() { (cd "$1" && find . -path ./lost+found -prune -o -type f -print0 | sort -z | xargs -0 sha256sum); }

@test "the main job: init, mount, files, umount, mount again" {
	local dev

	unload
	exits 0 init -s 128m -t ext4 a.img
	[[ $(stat -c %a a.img) == 600 ]]
	no_devices
	fails in_use a.img
	unload
	# Loads the modules, prints the device.
	dev=$(ploop mount -m mnt a.img | tail -n 1)
	[[ $dev == /dev/ploop0 && -b $dev ]]
	[[ $(findmnt -no SOURCE,FSTYPE "$T/mnt") == "${dev}p1 ext4" ]]
	in_use a.img
	some_files mnt
	sums mnt >before
	exits 0 umount -m mnt
	no_devices
	[[ ! -e $dev && ! -e ${dev}p1 ]]
	fails in_use a.img
	exits 0 mount -m mnt a.img
	sums mnt | diff before -
	exits 0 umount a.img
	dev=$(ploop mount -r a.img | tail -n 1)
	wait_for 10 test -b "${dev}p1"
	e2fsck -fn "${dev}p1"
	sfdisk -l "$dev" | grep -q 'type: gpt\|Disklabel type: gpt'
	# Aligned to clusters.
	(($(<"/sys/block/${dev#/dev/}/${dev#/dev/}p1/start") % 2048 == 0))
	exits 0 umount -d "$dev"
	[[ $(data peek a.img 52 32) == 0 ]]
	qemu-img check -q -f parallels a.img
}

@test "init writes the header that OpenVZ's writes, byte for byte" {
	local rest=020000001000000020080000000800000004000000002000000000000000000000080000010000000000000000000000

	exits 0 init -s 1g -v 1 v1.img
	[[ $(header v1.img) == 576974686f7574467265655370616365$rest ]]
	exits 0 init -s 1g v2.img
	[[ $(header v2.img) == 576974686f7546726553706163457874$rest ]]
	[[ $(stat -c %s v1.img) == 1048576 && $(stat -c %s v2.img) == 1048576 ]]
	cmp <(tail -c +65 v2.img) <(head -c $((1048576 - 64)) /dev/zero)
	exits 0 init -s 1000001 odd.img
	[[ $(data peek odd.img 36 64) == 1001472 && $(data peek odd.img 32 32) == 489 && $(data peek odd.img 24 32) == 1956 ]]
	exits 0 init -s 2000g big.img
	[[ $(stat -c %s big.img) == 8388608 && $(data peek big.img 48 32) == 16384 ]]
	exits 0 init -s 64m -b 64 small.img
	[[ $(data peek small.img 28 32) == 64 && $(data peek small.img 32 32) == 2048 ]]
	exits 0 init -s 32m -f raw r.img
	[[ $(stat -c %s r.img) == 33554432 ]]
	exits 0 init -s 32m -t none n.img
	[[ $(stat -c %s n.img) == 1048576 ]]
}

@test "init refuses what it must, and leaves nothing" {
	local before

	exits 0 init -s 32m a.img
	before=$(hash_of a.img)
	for option in "" "-t ext4" "-f raw"; do
		# shellcheck disable=SC2086 # options
		fails ploop init -s 64m $option a.img
	done
	[[ $(hash_of a.img) == "$before" ]]
	exits 38 init b.img
	exits 38 init -s 32m
	exits 38 init -s 32x b.img
	exits 38 init -s 0 b.img
	exits 38 init -s 32m -b 63 b.img
	exits 38 init -s 32m -b 262144 b.img
	exits 38 init -s 32m -v 3 b.img
	exits 38 init -s 32m -t xfs b.img
	exits 38 init -s 32m -f qcow2 b.img
	exits 1 init -s 32m missing/b.img
	# mkfs fails: too small.
	fails ploop init -s 4k -b 64 -t ext4 b.img
	[[ ! -e b.img ]]
	no_devices
}

@test "init on a filesystem that has no files without a name: the name is another one until the image is whole" {
	local long n tool=(strace -qq -o steps -e "trace=openat,renameat2,link,fsync")

	"${tool[@]}" "$PLOOP" init -s 32m a.img 3>&-
	n=$(nth_call openat O_TMPFILE steps)
	tool+=(-e "inject=openat:error=EOPNOTSUPP:when=$n")
	"${tool[@]}" "$PLOOP" init -s 32m b.img 3>&-
	cmp a.img b.img
	[[ $(stat -c %a b.img) == 600 ]]
	grep 'renameat2(.*/\.b\.img\..*"b\.img", RENAME_NOREPLACE) = 0' steps
	# As long as a name can be; and a filesystem that cannot look for a name and rename at once.
	long=$(printf 'x%.0s' {1..255})
	"${tool[@]}" -e inject=renameat2:error=EINVAL "$PLOOP" init -s 32m "$long" 3>&-
	cmp a.img "$long"
	rm "$long"
	# Nothing stays of a failure, and what came by that name meanwhile does.
	fails "${tool[@]}" -e inject=fsync:error=EIO:when=1 "$PLOOP" init -s 32m c.img 3>&-
	fails "${tool[@]}" -e inject=renameat2:error=EEXIST "$PLOOP" init -s 32m c.img >said 2>&1 3>&-
	grep 'c.img exists already' said
	[[ $(ls -A) == "$(printf '%s\n' a.img b.img mnt said steps)" ]]
}

@test "mount takes images in use only when they are free, and says who has them" {
	exits 0 init -s 64m a.img
	exits 0 mount a.img
	exits 37 mount a.img
	grep -q '/dev/ploop0' said
	exits 37 mount -r a.img
	grep -q '/dev/ploop0' said
	exits 37 check a.img
	[[ $(ploop list | grep -c a.img) == 1 ]]
	exits 0 umount a.img
	exits 40 umount a.img
	# Many readers.
	exits 0 mount -r a.img
	exits 0 mount -r a.img
	exits 38 umount a.img
	exits 0 umount -d /dev/ploop0
	exits 0 umount -d /dev/ploop1
	# A foreign lock.
	hold a.img lock rw
	fails ploop mount a.img
	let_go
	exits 0 mount a.img
	exits 0 umount a.img
}

@test "an image that a crash left in use is recovered with a message" {
	local size

	exits 0 init -s 64m a.img
	exits 0 mount a.img
	data write /dev/ploop0 0 3m 1
	exits 0 umount a.img
	data poke a.img $IN_USE 32 0x746f6e59
	exits 37 check a.img
	exits 0 mount a.img
	grep -q a.img said
	grep -qi 'recover\|crash\|not closed' said
	data verify /dev/ploop0 0 3m 1
	exits 0 umount a.img
	fails in_use a.img
	# An entry beyond the end of file, as a crash of the host may leave: zeros.
	data poke a.img $IN_USE 32 0x746f6e59
	set_entry a.img 9 6
	exits 0 mount a.img
	data verify /dev/ploop0 0 3m 1
	data verify /dev/ploop0 9m 1m 0
	data write /dev/ploop0 9m 4k 2
	data verify /dev/ploop0 9m 4k 2
	exits 0 umount a.img
	qemu-img check -q -f parallels a.img
	# Half a cluster at the end.
	data poke a.img $IN_USE 32 0x746f6e59
	truncate -s +4k a.img
	exits 0 mount a.img
	data verify /dev/ploop0 0 3m 1
	exits 0 umount a.img
	# As a lower delta, and read-only; the driver would not give back what was allocated ahead.
	exits 0 init -s 64m top.img
	data poke a.img $IN_USE 32 0x746f6e59
	size=$(stat -c %s a.img)
	fallocate -l 4m -o "$size" a.img
	exits 0 mount a.img top.img
	[[ $(stat -c %s a.img) == "$size" ]]
	data verify /dev/ploop0 0 3m 1
	exits 0 umount top.img
}

@test "a damaged image is refused, in use or not, and not written to" {
	local before

	exits 0 init -s 64m a.img
	exits 0 mount a.img
	data write /dev/ploop0 0 3m 1
	exits 0 umount a.img
	set_entry a.img 7 1
	before=$(hash_of a.img)
	exits 11 mount a.img
	[[ $(hash_of a.img) == "$before" ]]
	grep -q a.img said
	data poke a.img $IN_USE 32 0x746f6e59
	before=$(hash_of a.img)
	exits 11 mount a.img
	exits 11 check a.img
	# No data can be there: nothing to copy, unlike above.
	set_entry a.img 7 4000000000
	before=$(hash_of a.img)
	exits 11 check --repair a.img
	[[ $(hash_of a.img) == "$before" ]]
	no_devices
	head -c 1m /dev/urandom >junk.img
	exits 11 mount junk.img
	exits 11 info --json junk.img || exits 0 info --json junk.img
	fails ploop mount missing.img
	no_devices
}

@test "chains: order, versions and cluster sizes are checked; failures roll back" {
	exits 0 init -s 64m low.img
	exits 0 init -s 128m top.img
	exits 0 init -s 64m -v 1 v1.img
	exits 0 init -s 64m -b 1024 cl.img
	exits 0 init -s 64m -f raw base.img
	exits 38 mount top.img low.img
	exits 38 mount low.img v1.img
	exits 38 mount low.img cl.img
	exits 38 mount low.img low.img
	no_devices
	for image in low.img top.img v1.img cl.img; do
		fails in_use $image
	done
	exits 0 mount low.img top.img
	[[ $(blockdev --getsize64 /dev/ploop0) == 134217728 ]]
	data write /dev/ploop0 0 1m 1
	exits 0 umount low.img
	[[ $(entry low.img 0) == 0 && $(entry top.img 0) == 1 ]]
	exits 0 mount -f raw base.img low.img
	data verify /dev/ploop0 0 1m 0
	data write /dev/ploop0 1m 1m 2
	exits 0 umount base.img
	exits 0 mount -f raw -b 2048 -d /dev/ploop4 base.img
	[[ -b /dev/ploop4 ]]
	data verify /dev/ploop4 0 64m 0
	exits 0 umount -d ploop4
	# The device is taken.
	exits 0 mount -d /dev/ploop0 low.img
	exits 17 mount -d /dev/ploop0 v1.img
	fails in_use v1.img
	exits 0 umount -d /dev/ploop0
	# Nothing to mount on it: the device must not stay.
	fails ploop mount -m mnt low.img
	no_devices
	fails in_use low.img
	fails ploop mount -m missing-dir low.img
	no_devices
}

@test "raw images with a file system" {
	exits 0 init -s 64m -f raw -t ext4 r.img
	exits 0 mount -f raw -m mnt r.img
	some_files mnt
	sums mnt >before
	exits 0 umount -m mnt
	exits 0 mount -r -f raw -m mnt r.img
	sums mnt | diff before -
	fails touch mnt/x
	exits 0 umount -m mnt
	# The file is a disk for anybody.
	sfdisk -l r.img | grep -q gpt
}

@test "umount by device, partition, directory and image; a busy one stays" {
	exits 0 init -s 64m -t ext4 a.img
	exits 0 mount -m mnt a.img
	hold mnt/lost+found hold
	fails timeout 5 "$PLOOP" umount -m mnt
	mountpoint -q mnt
	let_go
	exits 0 umount -d /dev/ploop0p1
	exits 0 mount -m mnt -o noatime,nodev a.img
	findmnt -no OPTIONS "$T/mnt" | grep -q noatime
	exits 0 umount mnt || exits 0 umount -m mnt
	no_devices
	exits 40 umount -d /dev/ploop0 || exits 2 umount -d /dev/ploop0
	fails ploop umount -m /tmp
}

@test "list, info and stat in words and in JSON" {
	command -v jq >/dev/null || skip "no jq"
	exits 0 init -s 64m -t ext4 a.img
	[[ $(ploop list) == "" ]]
	[[ $(ploop list --json | jq length) == 0 ]]
	[[ $(ploop info --json a.img | jq -r .state) == closed ]]
	exits 0 mount -m mnt a.img
	ploop list --json >list.json
	[[ $(jq -r '.[0].device' list.json) == /dev/ploop0 ]]
	[[ $(jq -r '.[0].size' list.json) == 67108864 ]]
	[[ $(jq -r '.[0].deltas[0].image' list.json) == "$(realpath a.img)" ]]
	[[ $(jq -r '.[0].mounts[0].target' list.json) == "$(realpath mnt)" ]]
	ploop list | grep -q "$(realpath a.img)"
	ploop info --json a.img >info.json
	[[ $(jq -r .state info.json) == attached && $(jq -r .device info.json) == /dev/ploop0 ]]
	[[ $(jq -r .cluster_size info.json) == 1048576 && $(jq -r .version info.json) == 2 ]]
	(($(jq -r .clusters_used info.json) > 0))
	[[ $(ploop info --json /dev/ploop0 | jq -r '.filesystems[0].fstype') == ext4 ]]
	ploop info /dev/ploop0 | grep -q ext4
	[[ $(ploop stat --json /dev/ploop0 | jq -r .state.running) == 1 ]]
	(($(ploop stat --json -d /dev/ploop0 | jq -r .counters.bio_in) > 0))
	ploop stat /dev/ploop0 | grep -q '^bio_in: [0-9]'
	exits 0 umount -m mnt
}

@test "help, version and wrong usage" {
	ploop --version | grep -qE '^ploop [0-9]'
	for command in init mount umount list info stat check; do
		ploop $command -h | grep -q "^Usage: ploop $command"
	done
	exits 38
	exits 38 frobnicate
	exits 38 mount
	exits 38 umount
	exits 38 info
	exits 38 mount -x a.img
	ploop -h | grep -q '^Usage'
	grep -q Usage said
}
